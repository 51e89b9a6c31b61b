"""Recording on a machine that has torch and NumPy alone, and bringing it home."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from cwmp import gpu_session, recorder
from cwmp.cli import cli
from cwmp.recorder import Plan, Recorder, Stage
from profiler.errors import InputError, OutputExistsError
from profiler.journal import Journal
from profiler.meters import find_meter
from profiler.trace import Trace

ROOT = Path(__file__).resolve().parents[2]
TINY = Stage("tiny", "stand_ins.tiny:tiny", 1.0)
PLAN = Plan(("update",), (0.2,), (2,))
ABSENT = {"pandas", "pydantic", "scipy", "click", "rich", "pyarrow", "psutil", "pynvml", "sklearn"}
BARE = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from cwmp import gpu_session, recorder
tiny = "stand_ins.tiny:tiny"
recorder.STAGES = (recorder.Stage("tiny", tiny, 0.5), recorder.Stage("again", tiny, 0.5, 1, "tiny"))
code = gpu_session.main(sys.argv[1:])
assert not {ABSENT!r} & {{name.partition(".")[0] for name in sys.modules}}
sys.exit(code)
"""


def _bare(folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BARE, "--out", str(folder), "--probe", "0.3", *options]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen(
        [*command, "--device", "cpu", "--meter", "fake:20", "--precision", "0.9", "--quick"],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
    )


def _record(folder: Path, *, plans: tuple[Plan, ...] = (PLAN,), limit_s: float = 3.0) -> list[str]:
    told: list[str] = []
    meter = find_meter("fake:20")
    Recorder(folder, meter, "cpu", told.append, 0.9, plans).record(TINY, limit_s)
    meter.close()
    return told


def _manifest(folder: Path) -> dict[str, dict]:
    return {
        entry["file"]: entry
        for entry in json.loads((folder / "manifest.json").read_text())["files"]
    }


def test_torch_and_numpy_are_enough_and_the_trace_is_made_elsewhere(tmp_path: Path) -> None:
    done = _bare(tmp_path / "gpu", "--minutes", "0.15")
    _, said = done.communicate(timeout=100)
    assert done.returncode == 0, said
    files = _manifest(tmp_path / "gpu")
    assert set(files) == {
        "environment.json",
        "probe.json",
        "session.log",
        "tiny.journal",
        "again.journal",
    }
    for name, entry in files.items():
        content = (tmp_path / "gpu" / name).read_bytes()
        assert len(content) == entry["bytes"]
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    probe = json.loads((tmp_path / "gpu/probe.json").read_text())
    assert probe["idle_power_w"] == pytest.approx(20, rel=0.1)
    assert "only its journal is left here" in said

    first, second = (
        Journal.read(tmp_path / "gpu" / f"{name}.journal") for name in ("tiny", "again")
    )
    assert first.header["cells"] == second.header["cells"]
    assert (first.header["identity"]["seed"], second.header["identity"]["seed"]) == (0, 1)

    output = tmp_path / "tiny.csv"
    command = ["trace", str(tmp_path / "gpu/tiny.journal"), "-o", str(output)]
    result = CliRunner().invoke(cli, [*command, "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    trace = Trace.load(output)
    assert document["blocks"] == len(trace.blocks) == len(first.blocks)
    assert document["origin"] == "assumed" and document["meter"] == "fake"
    assert trace.blocks["energy_j"].tolist() == [block["energy_j"] for block in first.blocks]
    again = CliRunner().invoke(cli, command)
    assert isinstance(again.exception, OutputExistsError)
    forced = CliRunner().invoke(cli, [*command, "--force"])
    assert forced.exit_code == 0 and "blocks of stand_ins.tiny:tiny" in forced.output


def test_interrupted_session_leaves_its_files_and_goes_on(tmp_path: Path) -> None:
    child = _bare(tmp_path, "--minutes", "0.5", "--stages", "tiny")
    journal = tmp_path / "tiny.journal"
    deadline_s = time.monotonic() + 60
    while not journal.exists() or b'"kind":"block"' not in journal.read_bytes():
        assert child.poll() is None and time.monotonic() < deadline_s
        time.sleep(0.02)
    child.send_signal(signal.SIGTERM)
    _, said = child.communicate(timeout=30)
    assert child.returncode == 130, said
    assert "the same command goes on" in said
    assert set(_manifest(tmp_path)) >= {"tiny.journal", "session.log", "probe.json"}
    before = Journal.read(journal)
    assert before.end is None and before.blocks

    child = _bare(tmp_path, "--minutes", "0.5", "--stages", "tiny")
    _, said = child.communicate(timeout=60)
    assert child.returncode == 0, said
    assert f"goes on after {len(before.blocks)} blocks" in said
    after = Journal.read(journal)
    assert after.end is not None
    assert after.blocks[: len(before.blocks)] == before.blocks


def test_with_pandas_there_are_traces_and_a_finished_stage_is_left_alone(tmp_path: Path) -> None:
    _record(tmp_path)
    frames = [Trace.load(tmp_path / f"tiny{suffix}").blocks for suffix in (".csv", ".parquet")]
    assert len(frames[0]) == len(frames[1]) > 0
    before = (tmp_path / "tiny.csv").read_bytes()
    assert _record(tmp_path) == ["tiny: recorded before, left as it is"]
    assert (tmp_path / "tiny.csv").read_bytes() == before


def test_fewer_cells_are_taken_where_the_time_is_short(tmp_path: Path) -> None:
    crowded = Plan(("update",), tuple(n / 200 for n in range(1, 200)), (2,))
    told = _record(tmp_path, plans=(crowded, PLAN), limit_s=5.0)
    assert any("too many cells" in line for line in told)
    asked = Journal.read(tmp_path / "tiny.journal").header["identity"]
    assert asked["densities"] == [0.2]
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(InputError, match="--max-time"):
        _record(other, plans=(crowded,), limit_s=2.0)
    assert not (other / "tiny.journal").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--device", "cuda:0"], "torch sees 0 CUDA devices"),
        (["--device", "cpu", "--meter", "no-such"], "unknown meter"),
    ],
)
def test_what_cannot_be_recorded_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert gpu_session.main(["--out", str(tmp_path), *options]) == gpu_session.REFUSED
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


def test_failing_stage_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = (Stage("broken", "stand_ins.tiny:no_such", 0.1), TINY)
    monkeypatch.setattr(recorder, "STAGES", stages)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        options = "--device cpu --meter fake:20 --quick --probe 0.3 --minutes 0.1 --precision 0.9"
        code = gpu_session.main(["--out", str(tmp_path), *options.split()])
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert code == gpu_session.REFUSED
    assert "broken: failed" in capsys.readouterr().err
    assert Journal.read(tmp_path / "tiny.journal").end is not None


@pytest.mark.parametrize(
    "options", [["--stages", "nothing"], ["--minutes", "0"], ["--precision", "2"]]
)
def test_options_are_checked(options: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        gpu_session.main(options)
    assert stopped.value.code == 2


def _main(folder: Path, *options: str) -> int:
    handler = signal.getsignal(signal.SIGTERM)
    given = "--device cpu --quick --probe 0.3 --minutes 0.1 --precision 0.9"
    try:
        return gpu_session.main(["--out", str(folder), *given.split(), *options])
    finally:
        signal.signal(signal.SIGTERM, handler)


def test_a_trial_does_not_become_the_session_of_another_meter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recorder, "STAGES", (TINY,))
    assert _main(tmp_path, "--meter", "fake:20") == gpu_session.DONE
    capsys.readouterr()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert _main(tmp_path, "--meter", "modelled") == gpu_session.REFUSED
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert 'its meter is "fake", now it is "modelled"' in said and "--out" in said
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "environment.json").unlink()
    assert _main(tmp_path, "--meter", "modelled") == gpu_session.REFUSED
    assert "tiny.journal is of another session" in capsys.readouterr().err
    assert _main(tmp_path, "--meter", "fake:20") == gpu_session.DONE
    assert "tiny: recorded before" in capsys.readouterr().err


def test_the_environment_of_a_session_stays_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "STAGES", (TINY,))
    assert _main(tmp_path, "--meter", "fake:20") == gpu_session.DONE
    written = tmp_path / "environment.json"
    content = json.loads(written.read_text())
    written.write_text(json.dumps(content | {"recorded_utc": "1999-12-31T00:00:00+00:00"}))
    assert _main(tmp_path, "--meter", "fake:20") == gpu_session.DONE
    assert json.loads(written.read_text())["recorded_utc"].startswith("1999")
    written.write_text(json.dumps(content | {"host": content["host"] | {"cpu": "another"}}))
    assert _main(tmp_path, "--meter", "fake:20") == gpu_session.REFUSED


def test_folder_that_cannot_be_made_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for folder in (Path("/proc/x/y"), tmp_path / "file"):
        assert _main(folder, "--meter", "fake:20") == gpu_session.REFUSED
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and str(folder) in said
