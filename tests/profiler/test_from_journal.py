"""A trace made of a journal is the one that the session itself makes."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from profiler.errors import FileFormatError, InputFileError
from profiler.from_journal import INTERRUPTED, trace_of_journal
from profiler.journal import sealed
from profiler.meters import find_meter
from profiler.session import profile_model
from profiler.trace import Trace


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trace, Path]:
    journal = tmp_path_factory.mktemp("session") / "t.journal"
    torch.manual_seed(0)
    trace = profile_model(
        nn.Linear(16, 8),
        model_name="linear",
        meter=find_meter("modelled"),
        operations=("update",),
        densities=(0.1, 0.5),
        precision=0.5,
        max_time_s=3.5,
        journal=journal,
    )
    return trace, journal


def test_the_journal_makes_the_same_trace(session: tuple[Trace, Path]) -> None:
    trace, journal = session
    made = trace_of_journal(journal)
    assert made.metadata.model_dump(mode="json") == trace.metadata.model_dump(mode="json")
    pd.testing.assert_frame_equal(made.blocks, trace.blocks)


def test_a_journal_cut_short_makes_a_trace_that_says_so(
    session: tuple[Trace, Path], tmp_path: Path
) -> None:
    lines = session[1].read_bytes().splitlines(keepends=True)
    kinds = [json.loads(line).get("kind") for line in lines]
    blocks = [number for number, kind in enumerate(kinds) if kind == "block"]
    cut = tmp_path / "cut.journal"
    cut.write_bytes(b"".join(lines[: blocks[4]]) + b'{"kind": "blo')
    made = trace_of_journal(cut)
    assert made.metadata.remarks == (INTERRUPTED,)
    pd.testing.assert_frame_equal(
        made.blocks.drop(columns="flags"), session[0].blocks.iloc[:4].drop(columns="flags")
    )


def _without(lines: list[bytes], name: str) -> bytes:
    """A journal with one entry of its header left out, sealed anew."""
    content, crc = b"", 0
    for line in lines:
        record = json.loads(line)
        del record["crc"]
        record.get("header", {}).pop(name, None)
        line, crc = sealed(record, crc)
        content += line
    return content


def test_what_is_no_journal_is_refused(session: tuple[Trace, Path], tmp_path: Path) -> None:
    lines = session[1].read_bytes().splitlines(keepends=True)
    path = tmp_path / "bad.journal"
    with pytest.raises(InputFileError):
        trace_of_journal(path)
    for content, says in [
        (lines[0], "no block was measured"),
        (b"{}\n", "not a journal"),
        (b"".join([lines[0].replace(b'"metadata"', b'"other"'), *lines[1:]]), "line 1 is damaged"),
        (_without(lines, "metadata"), "too little"),
        (_without(lines, "cells"), "too little"),
    ]:
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match=says):
            trace_of_journal(path)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_trace_is_no_journal_and_force_does_not_help(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"trace{suffix}"
    path.write_bytes(b"PAR1")
    with pytest.raises(FileFormatError, match="is a trace, not a journal") as refused:
        trace_of_journal(path)
    assert "--force" not in str(refused.value)
