"""``cwmp profile`` and ``cwmp receive`` through the command line."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import cwmp
from cwmp.cli import cli
from cwmp.commands.profile import parse_seconds, parse_share
from profiler.console import run
from profiler.errors import InputError
from profiler.journal import Journal, journal_path
from profiler.meters.fake import FakeMeter
from profiler.trace import Trace

ROOT = Path(cwmp.__file__).parents[1]
MODEL = """
from torch import nn

def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 3))
"""


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """An empty folder with a model of one's own in it, and one torch thread."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_model.py").write_text(MODEL)
    monkeypatch.delitem(sys.modules, "own_model", raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _cwmp(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        run(cli, arguments)
    return left.value.code


def _profile(*arguments: str) -> int:
    return _cwmp("profile", "--meter", "modelled", "--max-time", "2.5", *arguments)


SMALL = ("--model", "own_model:small", "--input-shape", "1,4,4", "--densities", "10%,50%")
FEW_CELLS = ("--operations", "encode", "--max-time", "1")


def test_a_models_five_operations_end_in_a_trace_and_a_table(capsys):
    assert _profile(*SMALL, "--batch-sizes", "2,4", "--max-time", "4", "-o", "t.parquet") == 0
    trace = Trace.load("t.parquet")
    assert set(trace.blocks["operation"]) == {"update", "encode", "send", "select", "train"}
    assert trace.metadata.model == "own_model:small" and trace.metadata.origin == "modelled"
    assert not journal_path("t.parquet").exists()
    out = capsys.readouterr().out
    assert "update random" in out and "(whole call)" in out
    assert "origin: modelled" in out and "assumed: " in out
    assert "loopback counts both ends" in out
    assert "fixed a" in out and "J/byte" in out and "J/example" in out
    assert max(len(line) for line in out.splitlines()) <= 80


def test_json_is_all_there_is_on_stdout(capsys):
    assert _profile(*SMALL, "--operations", "update", "-o", "t.csv", "--json") == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert captured.err == ""
    assert document["trace"] == "t.csv" and document["origin"] == "modelled"
    rows = {(row["layer"], row["pattern"]): row for row in document["costs"]}
    assert set(rows) == {
        (layer, pattern)
        for layer in ("1.weight", "1.bias", "3.weight", "3.bias")
        for pattern in ("random", "clustered", "dense")
    }
    for row in rows.values():
        for estimate in (row["a_j"], row["c_j"]):
            if estimate is not None:
                assert estimate["low"] <= estimate["value"] <= estimate["high"]
                assert (estimate["upper_limit"] is None) == estimate["detected"]
                assert estimate["detected"] or estimate["upper_limit"] > 0
    assert rows["1.weight", "dense"]["c_j"] is None


def test_a_named_model_takes_the_digits_by_itself():
    assert (
        _profile("--model", "mlp", "--operations", "select", "--max-time", "1.5", "-o", "t.parquet")
        == 0
    )
    trace = Trace.load("t.parquet")
    assert trace.metadata.layers[0].shape[1] == 64
    assert set(trace.blocks["operation"]) == {"select"}


def test_sending_to_a_peer(capsys):
    from cwmp.transport import Receiver

    with Receiver().start() as receiver:
        host, port = receiver.address
        arguments = (
            "--operations",
            "send",
            "--max-time",
            "1",
            "--peer",
            f"{host}:{port}",
            "-o",
            "t.csv",
            "--json",
        )
        assert _profile(*SMALL, *arguments) == 0
        assert receiver.received.frames > 0
    assert "this same host" in json.loads(capsys.readouterr().out)["scope"][0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "vgg"), "unknown model 'vgg'"),
        (("--model", "own_model:absent"), "no attribute 'absent'"),
        (("--model", "own_model:small"), "--input-shape"),
        (("--model", "mlp", "--meter", "sundial"), "unknown meter 'sundial'"),
        (("--model", "mlp", "--densities", "5%,130%"), "density 1.3"),
        (("--model", "mlp", "--densities", "some"), "'some' is not a share"),
        (("--model", "mlp", "--operations", "update,fly"), "unknown operation 'fly'"),
        (("--model", "mlp", "--operations", ""), "at least one operation"),
        (("--model", "mlp", "--peer", "127.0.0.1:1"), "cannot reach the receiver"),
        (("--model", "mlp", "--peer", "nowhere"), "not HOST:PORT"),
        (("--model", "mlp", "--device", "cuda:77", "--meter", "modelled"), "cuda:77"),
        (("--model", "mlp", "--precision", "0%"), "precision"),
        (("--model", "mlp", "--max-time", "soon"), "'soon' is not a time"),
        (("--model", "mlp", "--max-time", "0"), "time limit"),
        (("--model", "lenet", "--max-time", "0.5"), "--max-time is 0.5 s, but "),
        (("--model", "mlp", "--data", "imagenet"), "imagenet"),
        (("--model", "mlp", "--input-shape", "1,x"), "--input-shape"),
        (("--model", "mlp", "--batch-sizes", "8,8"), "batch sizes"),
        (("--model", "mlp", "--resume"), "nothing to resume"),
        (("--model", "mlp", "-o", "t.pickle"), ".parquet or .csv"),
        (("--model", "mlp", "-o", "absent/t.csv"), "not a folder"),
    ],
)
def test_bad_input_is_one_line_and_nothing_written(arguments, message, capsys, tmp_path):
    before = {path.name for path in tmp_path.iterdir()}
    assert _cwmp("profile", "--meter", "modelled", "-o", "t.csv", *arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.out == ""
    assert captured.err.startswith("cwmp: ") and captured.err.count("\n") == 1
    left = {path.name for path in tmp_path.iterdir()} - {"__pycache__"}
    assert left == before


def test_an_existing_trace_is_kept_unless_forced(capsys):
    Path("t.csv").write_text("precious")
    assert _profile(*SMALL, *FEW_CELLS, "-o", "t.csv") == 2
    assert "--force" in capsys.readouterr().err
    assert Path("t.csv").read_text() == "precious"
    assert _profile(*SMALL, *FEW_CELLS, "-o", "t.csv", "--force") == 0
    assert len(Trace.load("t.csv").blocks) > 0


def test_an_unfinished_session_is_kept_unless_resumed_or_forced(capsys):
    Journal.create(journal_path("t.csv")).close()
    assert _profile(*SMALL, *FEW_CELLS, "-o", "t.csv") == 2
    assert "--resume" in capsys.readouterr().err
    assert not Path("t.csv").exists()
    assert _profile(*SMALL, *FEW_CELLS, "-o", "t.csv", "--force") == 0
    assert not journal_path("t.csv").exists()


@pytest.mark.parametrize(
    "arguments", [("--precision", "7"), ("--model", "vgg"), ("--max-time", "0.1")]
)
def test_force_keeps_an_unfinished_session_when_the_new_one_is_refused(arguments, capsys):
    journal = journal_path("t.csv")
    Path(journal).write_text("precious")
    assert _profile(*SMALL, "-o", "t.csv", "--force", *arguments) == 2
    assert journal.read_text() == "precious"
    assert capsys.readouterr().err.count("\n") == 1


def test_a_gpus_joules_are_not_taken_for_a_cpus_work(capsys, monkeypatch):
    import profiler.meters

    monkeypatch.setattr(
        profiler.meters, "find_meter", lambda spec, **how: FakeMeter(30.0, covers="gpu")
    )
    assert _profile(*SMALL, "-o", "t.csv") == 2
    error = capsys.readouterr().err
    assert "update runs on the CPU (--device cpu)" in error and "joules of the GPU" in error


@pytest.mark.parametrize(
    ("given", "own", "others"),
    [((), ["update", "train"], []), (("--operations", "update,select"), ["update"], ["select"])],
)
def test_a_gpu_profiles_what_runs_on_it_and_says_what_is_left(
    given, own, others, capsys, monkeypatch
):
    import profiler.meters
    import profiler.session

    asked = {}

    def profile_model(model, **arguments):
        asked.update(arguments)
        return Trace.load(ROOT / "tests" / "golden" / "trace-v1.csv")

    monkeypatch.setattr(profiler.meters, "find_meter", lambda spec, **how: FakeMeter(30.0))
    monkeypatch.setattr(profiler.session, "profile_model", profile_model)
    assert _profile(*SMALL, "--device", "cuda:0", "-o", "t.csv", "--json", *given) == 0
    assert asked["operations"] == own and asked["device"] == "cuda:0"
    assert [operation.name for operation in asked["extra_operations"]] == others
    said = capsys.readouterr().err
    if given:
        assert said == ""
    else:
        assert said.count("\n") == 1 and "encode, send and select run on the CPU" in said
        assert "--operations encode,send,select --device cpu" in said
        assert "cwmp costs t.csv --messages" in said


def test_a_disk_that_fills_up_at_the_end_leaves_the_journal(capsys, monkeypatch):
    def full(self, path, *, force=False):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Trace, "save", full)
        assert _profile(*SMALL, *FEW_CELLS, "-o", "t.csv") == 2
    error = capsys.readouterr().err
    assert "cannot write t.csv: No space left on device" in error and error.count("\n") == 1
    assert not Path("t.csv").exists()
    book, measured = Journal.reopen(journal_path(Path("t.csv")))
    book.close()
    assert measured.blocks


def _start(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", "from cwmp.cli import main; main()", *arguments],
        env={**os.environ, "PYTHONPATH": f"{ROOT}", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait_for_blocks(journal: Path, count: int, child: subprocess.Popen) -> None:
    deadline_s = time.monotonic() + 60
    while not journal.exists() or journal.read_text().count('"kind":"block"') < count:
        assert child.poll() is None and time.monotonic() < deadline_s
        time.sleep(0.02)


def test_ctrl_c_keeps_what_was_measured_and_resume_goes_on():
    arguments = (
        *("profile", "--meter", "modelled", "--model", "own_model:small"),
        *("--operations", "update", "--densities", "50%", "--max-time", "3", "-o", "t.parquet"),
    )
    child = _start(*arguments)
    journal = journal_path(Path("t.parquet"))
    try:
        _wait_for_blocks(journal, 5, child)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 130
    assert "--resume goes on" in err and "Traceback" not in err
    partial = Trace.load("t.parquet")
    assert "interrupted" in partial.metadata.remarks and len(partial.blocks) >= 5
    assert journal.exists() and "interrupted" in out

    child = _start(*arguments, "--resume")
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    whole = Trace.load("t.parquet")
    assert not journal.exists()
    assert "interrupted" not in whole.metadata.remarks
    numbers = whole.blocks["block"].tolist()
    assert numbers == list(range(len(numbers))) and len(numbers) > len(partial.blocks)


def test_receive_drains_until_ctrl_c():
    from cwmp.transport import Sender

    child = _start("receive", "--port", "0", "--json")
    try:
        line = child.stderr.readline()
        assert line.startswith("draining on 127.0.0.1:")
        sender = Sender("127.0.0.1", int(line.split(":")[1].split(";")[0]))
        sender.send(b"x" * 1000)
        sender.close()
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=30)
    finally:
        child.kill()
    assert child.returncode == 130
    totals = json.loads(out)
    assert (totals["frames"], totals["payload_bytes"], totals["connections"]) == (1, 1000, 1)


@pytest.mark.parametrize(
    ("text", "share"), [("5%", 0.05), ("0.2", 0.2), (" 100 % ", 1.0), ("1e-3", 1e-3)]
)
def test_shares(text, share):
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("10m", 600), ("2h", 7200)]
)
def test_times(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "1.2.3", "5d", "-3"])
def test_text_that_is_no_time(text):
    with pytest.raises(InputError, match="not a time"):
        parse_seconds(text)
