"""A journal survives what kills its writer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import profiler
from profiler.errors import (
    FileFormatError,
    InputError,
    InputFileError,
    OutputError,
    OutputExistsError,
)
from profiler.journal import Journal, check_same, journal_path, sealed

ROOT = Path(profiler.__file__).parents[1]


@pytest.fixture
def path(tmp_path):
    path = journal_path(tmp_path / "trace.parquet")
    journal = Journal.create(path)
    journal.begin({"identity": {"seed": 1}})
    journal.append("sizing", {"cell": 3, "repetitions": 7})
    journal.append("plan", {"extra": [1, 2]})
    journal.append("dropped", {"cause": "MeterReadError"})
    journal.append("dropped", {"cause": "MeterReadError"})
    journal.append("block", {"block": 0})
    journal.append("block", {"block": 1})
    journal.close()
    return path


def _read(path):
    journal, measured = Journal.reopen(path)
    journal.close()
    return measured


def test_what_is_written_is_read_back(path):
    assert path.name == "trace.parquet.journal"
    journal, measured = Journal.reopen(path)
    assert measured.header == {"identity": {"seed": 1}}
    assert measured.sizing == {3: {"cell": 3, "repetitions": 7}}
    assert measured.plan == {"extra": [1, 2]}
    assert measured.dropped == {"MeterReadError": 2}
    assert [block["block"] for block in measured.blocks] == [0, 1]
    journal.append("block", {"block": 2})
    journal.close()
    assert len(_read(path).blocks) == 3


@given(st.integers(1, 20))
def test_a_torn_last_line_is_dropped_and_overwritten(tmp_path_factory, torn):
    path = tmp_path_factory.mktemp("torn") / "t.journal"
    journal = Journal.create(path)
    journal.begin({})
    for block in range(3):
        journal.append("block", {"block": block})
    journal.close()
    os.truncate(path, path.stat().st_size - torn)
    journal, measured = Journal.reopen(path)
    assert [block["block"] for block in measured.blocks] == [0, 1]
    journal.append("block", {"block": 9})
    journal.close()
    assert [block["block"] for block in _read(path).blocks] == [0, 1, 9]


def test_a_last_line_of_zeros_is_dropped(path):
    with path.open("ab") as stream:
        stream.write(b"\0" * 40 + b"\n")
    assert len(_read(path).blocks) == 2


def test_damage_before_the_end_is_an_error(path):
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = b"{]\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(FileFormatError, match="line 3 is damaged"):
        Journal.reopen(path)


def test_an_unknown_record_is_an_error(path):
    with path.open("ab") as stream:
        before = json.loads(path.read_bytes().splitlines()[-1])["crc"]
        stream.write(sealed({"kind": "gossip"}, int(before, 16))[0])
    with pytest.raises(FileFormatError, match="'gossip'"):
        Journal.reopen(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a journal"),
        ('{"schema": "cwmp.trace"}\n', "not a journal"),
        ('{"schema": "cwmp.journal", "version": 9, "header": {}}\n', "version 9"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "x.journal"
    path.write_text(content)
    with pytest.raises(FileFormatError, match=message):
        Journal.reopen(path)


def test_an_existing_journal_is_not_replaced(path):
    before = path.read_bytes()
    with pytest.raises(OutputExistsError, match="--resume"):
        Journal.create(path)
    assert path.read_bytes() == before


def test_force_takes_the_place_of_a_journal_that_nobody_writes(path):
    writer, measured = Journal.reopen(path)
    before = path.read_bytes()
    assert len(measured.blocks) == 2
    for take in (Journal.reopen, lambda path: Journal.create(path, force=True)):
        with pytest.raises(OutputError, match="in use by another session"):
            take(path)
    assert path.read_bytes() == before
    writer.close()
    Journal.create(path, force=True).close()
    assert path.read_bytes() == b""


def test_a_lock_goes_with_its_writer(path):
    program = (
        "import sys, os; from pathlib import Path; from profiler.journal import Journal\n"
        "book, _ = Journal.reopen(Path(sys.argv[1])); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], cwd=ROOT)
    assert done.returncode == 9
    Journal.reopen(path)[0].close()


@pytest.mark.parametrize(
    ("kind", "record"), [("block", {"block": 1}), ("sizing", {"cell": 3, "repetitions": 8})]
)
def test_what_two_sessions_wrote_into_one_journal_is_refused(path, kind, record):
    journal, _ = Journal.reopen(path)
    journal.append(kind, record)
    journal.close()
    with pytest.raises(FileFormatError, match=rf"line 8: {kind} \d is there twice"):
        Journal.reopen(path)
    Journal.create(path, force=True).close()  # a refusal leaves no lock behind


def test_nothing_to_resume(tmp_path):
    with pytest.raises(InputFileError, match="nothing to resume"):
        Journal.reopen(tmp_path / "absent.journal")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_full_disk_is_one_clear_error(tmp_path):
    journal = Journal(tmp_path / "t.journal", os.open("/dev/full", os.O_WRONLY))
    with pytest.raises(OutputError, match=r"No space left on device.*--resume"):
        journal.append("block", {"block": 0})
    journal.close()


def test_a_folder_that_does_not_exist_is_one_clear_error(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        Journal.create(tmp_path / "absent" / "t.journal")


BEFORE = {"seed": 1, "software": {"torch": "2.6", "numpy": "2.0"}, "layers": [["a", [3]]]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 2}, "its seed is 1, now it is 2"),
        (
            {"software": {"torch": "2.7", "numpy": "2.0"}},
            'software.torch is "2.6", now it is "2.7"',
        ),
        ({"layers": [["a", [4]]]}, "layers"),
        ({"governor": "performance"}, "governor is absent"),
    ],
)
def test_a_different_session_is_not_resumed(tmp_path, change, message):
    check_same(tmp_path, BEFORE, {**BEFORE, "layers": [("a", (3,))]})
    with pytest.raises(FileFormatError, match=message):
        check_same(tmp_path, BEFORE, {**BEFORE, **change})


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        ("block", {"block": 2}),
        ("plan", {"extra": [3]}),
        ("sizing", {"cell": 4}),
        ("dropped", {"cause": "MeterReadError"}),
    ],
)
def test_an_end_holds_until_the_session_goes_on(path, kind, record):
    journal, _ = Journal.reopen(path)
    journal.append("end", {"remarks": ["time-capped"]})
    journal.close()
    assert Journal.read(path).end == {"remarks": ["time-capped"]}
    journal, _ = Journal.reopen(path)
    journal.append(kind, record)
    journal.close()
    assert Journal.read(path).end is None
    journal, _ = Journal.reopen(path)
    journal.append("end", {"remarks": []})
    journal.close()
    assert Journal.read(path).end == {"remarks": []}


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_a_number_that_is_not_finite_is_refused_by_name_and_nothing_is_written(path, value):
    before = path.read_bytes()
    journal, _ = Journal.reopen(path)
    with pytest.raises(InputError, match=r"block record .*cost_j \S+\)") as caught:
        journal.append("block", {"block": 2, "cost_j": value})
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    journal.append("block", {"block": 2, "cost_j": 1.0})
    journal.close()
    assert len(_read(path).blocks) == 3
