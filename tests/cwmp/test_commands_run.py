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
from click.testing import CliRunner, Result
from stand_ins.cost_files import cost_file

from cwmp.cli import cli
from cwmp.fl.models import build_model
from cwmp.results import FILES, PICTURE
from cwmp.summary import Summary
from profiler.console import run as run_cli
from profiler.errors import UpdateError
from profiler.layers import layers_of

SMALL = ("--model", "mlp", "--clients", "3", "--alpha", "1", "--rounds", "1", "--seeds", "1")


@pytest.fixture
def costs(tmp_path: Path) -> Path:
    path = tmp_path / "costs.json"
    cost_file(layers_of(build_model("mlp", (1, 8, 8)))).save(path)
    return path


def _call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The command as installed: exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as left:
        run_cli(cli, ["run", *arguments])
    printed = capsys.readouterr()
    assert isinstance(left.value.code, int)
    return left.value.code, printed.out, printed.err


def test_a_run_leaves_results_and_says_what_it_found(
    costs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "out"
    code, stdout, stderr = _call(
        capsys, "--costs", str(costs), *SMALL, "--budgets", "0.01%,10%", "-o", str(out)
    )
    assert (code, stderr) == (0, "")
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    assert (out / "accuracy_vs_joules.png").read_bytes().startswith(b"\x89PNG")
    assert max(len(line) for line in stdout.splitlines() if str(out) not in line) <= 80
    for expected in ("dense", "Top-K", "CWMP", "infeasible", "modelled", "Note: 1 seed"):
        assert expected in stdout
    assert "CWMP was" in " ".join(stdout.split())


def test_json_is_the_summary_and_nothing_else(
    costs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ("--costs", str(costs), *SMALL, "--methods", "dense", "-o", str(out), "--json")
    code, stdout, stderr = _call(capsys, *arguments)
    assert (code, stderr) == (0, "")
    assert json.loads(stdout) == json.loads((out / "summary.json").read_text())
    assert Summary.load(out / "summary.json").table[0].method == "dense"


def test_parquet_files_carry_schema_and_rows(
    costs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "out"
    _call(capsys, "--costs", str(costs), *SMALL, "--budgets", "0.01%,10%", "-o", str(out))
    results = parquet.read_table(out / "results.parquet")
    assert json.loads(results.schema.metadata[b"cwmp.results"]) == {
        "schema_name": "cwmp.results",
        "version": 1,
    }
    rows = results.to_pylist()
    assert len(rows) == 7
    infeasible = [row for row in rows if not row["feasible"]]
    assert [row["method"] for row in infeasible] == ["topk", "random", "cwmp"]
    assert all(row["accuracy"] is None and row["total_j"] is None for row in infeasible)
    ledger = parquet.read_table(out / "ledger.parquet").to_pylist()
    total = sum(row["energy_j"] for row in ledger if row["method"] == "cwmp")
    cumulative = next(r for r in rows if r["method"] == "cwmp" and r["feasible"])["cumulative_j"]
    assert total == pytest.approx(cumulative)
    assert {row["party"] for row in ledger} == {"client", "server"}
    assert any(row["client"] is None for row in ledger)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--methods", "dense,fancy"), "unknown method 'fancy'"),
        (("--model", "alexnet"), "unknown model 'alexnet'"),
        (("--model", "no_such_module:f"), "cannot import 'no_such_module'"),
        (("--model", "lenet"), "cwmp predict"),
        (("--data", "mnist"), "unknown data 'mnist'"),
        (("--data", "cifar10:/nowhere/at/all", "--model", "mlp"), "predict"),
        (("--alpha", "0"), "alpha"),
        (("--alpha", "-1"), "alpha"),
        (("--clients", "0"), "clients"),
        (("--clients", "5000"), "clients"),
        (("--clients", "300", "--alpha", "0.001"), "raise alpha"),
        (("--budgets", "0"), "positive"),
        (("--budgets", "0%"), "positive"),
        (("--budgets", "-5%"), "positive"),
        (("--budgets", "nan"), "budget"),
        (("--budgets", "nan%"), "budget"),
        (("--budgets", "120%"), "above 100 %"),
        (("--budgets", "5kJ"), "above the dense cost"),
        (("--budgets", "some"), "cannot read the budget"),
        (("--score", "0,1"), "p"),
        (("--seeds", "0"), "seeds"),
        (("--lr", "nan"), "lr"),
        (("--lr", "1e38", "--rounds", "5", "--methods", "topk"), "lower --lr"),
        (("--costs", "/nowhere/costs.json"), "/nowhere/costs.json"),
        (("-o", "/nowhere/at/all/out"), "/nowhere/at/all"),
    ],
)
def test_bad_input_is_one_line_exit_2_and_nothing_written(
    costs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    given = ("--costs", str(costs), *SMALL, "-o", str(tmp_path / "out"), *arguments)
    code, stdout, stderr = _call(capsys, *given)
    assert (code, stdout) == (2, "")
    assert message in stderr
    assert stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_data_path_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    costs = tmp_path / "costs.json"
    cost_file(layers_of(build_model("mlp", (3, 32, 32)))).save(costs)
    data, out = f"cifar10:{tmp_path / 'nowhere'}", str(tmp_path / "out")
    code, _, stderr = _call(capsys, "--costs", str(costs), *SMALL, "--data", data, "-o", out)
    assert code == 2
    assert "nowhere" in stderr
    assert stderr.count("\n") == 1


def test_results_are_replaced_only_with_force(
    costs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "costs.json").write_text("mine")
    arguments = ("--costs", str(costs), *SMALL, "--methods", "dense", "-o", str(out))
    assert _call(capsys, *arguments)[0] == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    code, _, stderr = _call(capsys, *arguments)
    assert code == 2
    assert "--force" in stderr
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert _call(capsys, *arguments, "--rounds", "2", "--force")[0] == 0
    assert (out / "results.parquet").read_bytes() != before["results.parquet"]
    assert (out / "costs.json").read_text() == "mine"


def test_without_matplotlib_the_picture_is_skipped_and_said(
    costs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    out = tmp_path / "out"
    arguments = ("--costs", str(costs), *SMALL, "--methods", "dense", "-o", str(out))
    code, _, stderr = _call(capsys, *arguments)
    assert code == 0
    assert "pip install 'cwmp[report]'" in stderr
    assert sorted(path.name for path in out.iterdir()) == sorted(
        set(FILES) - {"accuracy_vs_joules.png"}
    )


def test_help_has_an_example_and_fits_a_terminal() -> None:
    result: Result = CliRunner().invoke(cli, ["run", "--help"], env={"COLUMNS": "80"})
    assert result.exit_code == 0
    assert "cwmp run --costs costs.json --data digits" in result.output
    assert max(map(len, result.output.splitlines())) <= 80


@pytest.mark.parametrize("failure", [ValueError("no such colour"), KeyboardInterrupt()])
def test_a_picture_that_fails_or_is_interrupted_costs_no_results(
    costs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
) -> None:
    def draw(_: object) -> bytes:
        raise failure

    monkeypatch.setattr("cwmp.report.picture.draw", draw)
    out = tmp_path / "out"
    arguments = ["run", "--costs", str(costs), *SMALL, "--methods", "dense", "-o", str(out)]
    with pytest.raises((SystemExit, ValueError)) as left:
        run_cli(cli, arguments)
    assert "Final accuracy" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == sorted(set(FILES) - {PICTURE})
    assert Summary.load(out / "summary.json").table[0].method == "dense"
    if isinstance(left.value, SystemExit):
        assert left.value.code == 130


def test_new_results_do_not_keep_the_old_picture(
    costs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    arguments = ("--costs", str(costs), *SMALL, "--methods", "dense", "-o", str(out))
    assert _call(capsys, *arguments)[0] == 0
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert _call(capsys, *arguments, "--force")[0] == 0
    assert not (out / PICTURE).exists()


def test_a_folder_that_cannot_be_made_is_refused_before_training(
    costs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cwmp.study.run_study", lambda *_: pytest.fail("trained"))
    out = tmp_path / "out"
    out.symlink_to(tmp_path / "gone" / "away")  # a file permission would not stop root
    code, stdout, stderr = _call(capsys, "--costs", str(costs), *SMALL, "-o", str(out))
    assert (code, stdout) == (2, "")
    assert f"cannot write results into {out}" in stderr
    assert stderr.count("\n") == 1


def test_a_disk_that_fills_up_is_one_line(
    costs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cwmp.results.write_atomic", full)
    out = tmp_path / "out"
    arguments = ("--costs", str(costs), *SMALL, "--methods", "dense", "-o", str(out))
    code, _, stderr = _call(capsys, *arguments)
    assert code == 2
    assert stderr.startswith(f"cwmp: cannot write results into {out}: No space left on device")


def test_a_diverged_row_is_in_the_table_with_its_reason(
    costs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def select(*_: object, **__: object) -> None:
        raise UpdateError("layer 'fc1.weight' holds NaN")

    monkeypatch.setattr("cwmp.selectors.top_k.TopK.select", select)
    out = tmp_path / "out"
    arguments = ("--budgets", "10%", "-o", str(out))
    code, stdout, stderr = _call(capsys, "--costs", str(costs), *SMALL, *arguments)
    assert (code, stderr) == (0, "")
    said = " ".join(stdout.split())
    assert "Top-K 10% diverged - - - -" in said
    assert "Top-K at 10%: diverged: seed 0, training diverged at client 0 in round 1" in said
    rows = pytest.importorskip("pyarrow.parquet").read_table(out / "results.parquet").to_pylist()
    assert [(row["method"], row["feasible"]) for row in rows] == [
        ("dense", True),
        ("topk", False),
        ("random", True),
        ("cwmp", True),
    ]


def test_ctrl_c_keeps_finished_runs_and_exits_130(costs: Path, tmp_path: Path) -> None:
    """A real process and a real signal, sent when the first results could exist."""
    out, marker = tmp_path / "out", tmp_path / "started"
    script = (
        "import sys, pathlib\n"
        "import cwmp.study as study\n"
        "from cwmp.cli import cli\n"
        "from profiler.console import run\n"
        "whole = study._Study.runs\n"
        "def runs(self, progress):\n"
        "    for number, result in enumerate(whole(self, progress)):\n"
        "        yield result\n"
        f"        if number == 1: pathlib.Path({str(marker)!r}).touch()\n"
        "study._Study.runs = runs\n"
        "run(cli, sys.argv[1:])\n"
    )
    arguments = ("run", "--costs", str(costs), *SMALL[:-2], "--seeds", "500", "-o", str(out))
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments, "--budgets", "10%"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 120
    while not marker.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert "Note: interrupted" in stdout
    summary = Summary.load(out / "summary.json")
    assert summary.interrupted
    assert (out / "results.parquet").exists()
