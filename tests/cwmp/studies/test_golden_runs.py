"""Runs, summaries and checkpoints of every version that was ever written load and mean the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import make_golden_runs as golden
import numpy as np
import pytest
from jsonschema import Draft202012Validator

from cwmp.fl.archive import from_bytes, to_bytes
from cwmp.fl.checkpoint import Checkpoint
from cwmp.schema import json_schemas
from cwmp.studies.runs import RunFile
from cwmp.studies.summary import StudySummary
from profiler.errors import FileFormatError

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests" / "golden"


def test_run_v1_still_loads() -> None:
    assert RunFile.load(GOLDEN / "run-v1.json") == golden.golden_run()


def test_a_run_keeps_its_key() -> None:
    """Else a study that was begun by an older release would start anew."""
    assert RunFile.load(GOLDEN / "run-v1.json").job.key == "bb44fce517003b1b"


def test_study_summary_v1_still_loads() -> None:
    assert StudySummary.load(GOLDEN / "studysummary-v1.json") == golden.golden_summary()


def test_checkpoint_v1_still_loads() -> None:
    found = Checkpoint(GOLDEN / "checkpoint-v1.npz", golden.KEY).load(golden.golden_state())
    assert found is not None
    (standing, records), wanted = found, golden.golden_standing()
    assert records == golden.golden_records()
    assert (standing.round, standing.norm) == (wanted.round, wanted.norm)
    assert standing.messages == wanted.messages
    np.testing.assert_equal(standing.memories, wanted.memories)
    np.testing.assert_equal(standing.server, wanted.server)
    for part in ("parameters", "buffers", "counters"):
        np.testing.assert_equal(getattr(standing.state, part), getattr(wanted.state, part))


def _content(name: str) -> dict[str, Any]:
    if name == "checkpoint":
        return from_bytes((GOLDEN / "checkpoint-v1.npz").read_bytes(), "it")[0]
    return json.loads((GOLDEN / f"{name}-v1.json").read_text())


@pytest.mark.parametrize(
    ("name", "required"), [("run", "job"), ("studysummary", "spec"), ("checkpoint", "records")]
)
def test_golden_files_satisfy_the_published_schemas(name: str, required: str) -> None:
    rules = json.loads((ROOT / "docs" / "schemas" / f"{name}.v1.schema.json").read_text())
    assert rules == json.loads(json.dumps(json_schemas()[f"{name}.v1.schema.json"])), (
        "run: python -m cwmp.schema"
    )
    Draft202012Validator.check_schema(rules)
    validator = Draft202012Validator(rules)
    content = _content(name)
    assert content["schema_name"] == f"cwmp.{name}"
    assert list(validator.iter_errors(content)) == []
    assert [e.validator for e in validator.iter_errors(content | {"version": 2})] == ["const"]
    del content[required]
    assert [e.validator for e in validator.iter_errors(content)] == ["required"]


@pytest.mark.parametrize(
    "change",
    [
        {"round": -1},
        {"round": None},
        {"norm": "large"},
        {"clients": ["x"]},
        {"records": "[{"},
        {"records": "[1]"},
        {"records": None},
        {"more": 1},
    ],
)
def test_a_checkpoint_whose_head_is_wrong_is_refused(tmp_path: Path, change: Any) -> None:
    head, arrays = from_bytes((GOLDEN / "checkpoint-v1.npz").read_bytes(), "it")
    (tmp_path / "c.npz").write_bytes(to_bytes(head | change, arrays))
    with pytest.raises(FileFormatError, match=r"checkpoint .*c\.npz"):
        Checkpoint(tmp_path / "c.npz", golden.KEY).load(golden.golden_state())


def test_a_checkpoint_with_a_message_to_nobody_is_refused(tmp_path: Path) -> None:
    head, arrays = from_bytes((GOLDEN / "checkpoint-v1.npz").read_bytes(), "it")
    arrays["message/someone"] = np.zeros(1, dtype=np.uint8)
    (tmp_path / "c.npz").write_bytes(to_bytes(head, arrays))
    with pytest.raises(FileFormatError, match="delete it"):
        Checkpoint(tmp_path / "c.npz", golden.KEY).load(golden.golden_state())
