"""``cwmp study`` as a process of its own: at a terminal, and when it is interrupted."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from stand_ins.federations import save_costs

from cwmp.studies.grid import plan_study
from cwmp.studies.spec import StudySpec
from cwmp.studies.summary import StudySummary
from cwmp.studies.sweep import open_runs

_STUDY = """\
version: 1
name: many short runs
question: does it stop when it is told to
data: digits
model: mlp
clients: 3
alphas: [5.0]
rounds: 2
seeds: {seeds}
training: {{batch_size: 64, lr: 0.02}}
methods: [dense, topk, cwmp]
budgets: [40%]
devices: [{{name: a device with a rather long name, costs: costs.json}}]
endpoints: {{targets: [0.1, 0.5, 0.99]}}
family: {{name: main}}
"""
_WIDTH = 80


def _command(folder: Path, *more: str, seeds: int = 200) -> list[str]:
    save_costs(folder)
    (folder / "study.yaml").write_text(_STUDY.format(seeds=seeds))
    start = "from cwmp.cli import main; main()"
    return [sys.executable, "-c", start, "study", str(folder / "study.yaml"),
            "-o", str(folder / "out"), *more]  # fmt: skip


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    return {**kept, "OMP_NUM_THREADS": "1", "TERM": "xterm"}


@pytest.mark.parametrize(
    ("number", "whole_group"), [(signal.SIGINT, True), (signal.SIGTERM, False)]
)
def test_an_interruption_keeps_what_was_run_and_leaves_no_process(
    tmp_path: Path, number: signal.Signals, whole_group: bool
) -> None:
    process = subprocess.Popen(
        _command(tmp_path, "--workers", "2"), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True, env=_environment(),
    )  # fmt: skip
    assert process.stderr is not None
    said = [process.stderr.readline() for _ in range(4)]  # the plan, then three runs
    assert said[-1].startswith("run 3/600 ")
    if whole_group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert stdout == ""
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    kept = len(list((tmp_path / "out/runs").glob("*.json")))
    last = stderr.strip().splitlines()[-1]
    folder = tmp_path / "out"
    assert last == f"interrupted: {kept} of 600 runs are kept in {folder}; the same command goes on"
    summary = StudySummary.load(folder / "summary.json")
    assert summary.done == kept >= 3
    spec = StudySpec.load(tmp_path / "study.yaml")
    left = open_runs(folder, plan_study(spec, folder, tmp_path).tasks)
    assert len(left) == 600 - kept  # what the same command goes on with


def test_a_terminal_shows_how_far_it_is_and_is_left_clean(tmp_path: Path) -> None:
    command = _command(tmp_path, "--only", "seed=0", "--only", "seed=1", seeds=3)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, _WIDTH, 0, 0))
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=theirs, text=True, env=_environment()
    )
    os.close(theirs)
    shown = _read(ours, process)
    assert process.stdout is not None
    stdout = process.stdout.read()
    assert process.wait(60) == 0, shown
    states = re.split(r"\r\n|\r", re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown))
    assert all(len(state) <= _WIDTH for state in states)
    bars = [state for state in states if "/6 runs" in state]
    assert any(re.search(r"about \d+ s left round \d/2, accuracy ", state) for state in bars)
    assert states[-1] == ""  # the bar is wiped: results stand alone
    assert "Note: 3 of 9 runs are not done" in stdout


def _read(terminal: int, process: subprocess.Popen[str]) -> str:
    """All that is written to the terminal until the process ends."""
    found, deadline_s = b"", time.monotonic() + 60
    while time.monotonic() < deadline_s:
        if not select.select([terminal], [], [], 0.2)[0]:
            if process.poll() is not None:
                break
            continue
        try:
            part = os.read(terminal, 65536)
        except OSError:  # EIO: nobody holds the other end
            break
        if not part:
            break
        found += part
    os.close(terminal)
    return found.decode()
