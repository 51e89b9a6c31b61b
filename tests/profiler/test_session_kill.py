"""``kill -9`` in the middle of a session, for real, and what is left of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import profiler.session

HERE = Path(__file__).parent


def _lines(journal: Path) -> list[dict]:
    if not journal.exists():
        return []
    whole = journal.read_bytes().rpartition(b"\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


@pytest.mark.parametrize("least", [1, 30])
def test_a_killed_session_is_resumed_with_every_block_once(tmp_path, least, monkeypatch):
    monkeypatch.syspath_prepend(HERE)
    import killable_session

    journal = tmp_path / "t.journal"
    child = subprocess.Popen(
        [sys.executable, str(HERE / "killable_session.py"), str(journal)],
        env={**os.environ, "PYTHONPATH": str(Path(profiler.session.__file__).parents[1])},
    )
    try:
        deadline_s = time.monotonic() + 60
        while sum("block" in line for line in _lines(journal)) < least:
            assert child.poll() is None and time.monotonic() < deadline_s
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        assert child.wait(10) == -signal.SIGKILL
    finally:
        child.kill()
    before = {line["block"]: line for line in _lines(journal) if line.get("kind") == "block"}
    assert len(before) >= least

    trace = killable_session.run(str(journal), resume=True)
    numbers = trace.blocks["block"].tolist()
    assert len(set(numbers)) == len(numbers)
    plan = next(line for line in _lines(journal) if line.get("kind") == "plan")
    pilot = trace.blocks[trace.blocks["stage"] == "pilot"]
    planned = trace.metadata.settings["pilot_blocks"]["update"] * len(plan["wanted"])
    assert planned > 30 and pilot["block"].tolist() == list(range(planned))
    main = trace.blocks[trace.blocks["stage"] == "main"]["block"].tolist()
    assert main == list(range(planned, planned + len(main)))
    assert len(numbers) <= sum(plan["wanted"])
    kept = trace.blocks.set_index("block")["energy_j"]
    assert all(kept[number] == line["energy_j"] for number, line in before.items())
