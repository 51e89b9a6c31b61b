"""``kill -9``, a full disk and damaged bytes, for the files that a measurement leaves behind.

What is read back holds exactly what was written before, or one error says that it does not.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger import Ledger, check_message

import profiler
from profiler.errors import CwmpError, FileFormatError, OutputError
from profiler.files import write_atomic
from profiler.journal import Journal, Measured
from profiler.meters.fake import FakeMeter, ManualClock
from profiler.meters.recording import Recording, load_recording, record

ROOT = Path(profiler.__file__).parents[1]
KILLS = 14
_LOOP = """
import sys
from pathlib import Path
from profiler.errors import InputFileError
from profiler.files import write_atomic
from profiler.journal import Journal

kind, path = sys.argv[1], Path(sys.argv[2])
if kind == "journal":
    if path.exists() and path.stat().st_size:
        book, measured = Journal.reopen(path)
        number = len(measured.blocks)
    else:
        path.unlink(missing_ok=True)
        book, number = Journal.create(path), 0
        book.begin({"seed": 7})
    print("ready", flush=True)
    while True:
        book.append("block", {"block": number, "energy_j": number / 7, "text": "x" * 300})
        number += 1
print("ready", flush=True)
number = 0
while True:
    write_atomic(path, f"{number}\\n".encode() * 200_000, force=True)
    number += 1
"""


def _killed(kind: str, path: Path, after_s: float) -> None:
    """Start a writer, and kill it so many seconds after it is ready."""
    child = subprocess.Popen(
        [sys.executable, "-c", _LOOP, kind, str(path)], cwd=ROOT, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        time.sleep(after_s)
        child.send_signal(signal.SIGKILL)
        assert child.wait(10) == -signal.SIGKILL
    finally:
        child.kill()
        child.stdout.close()  # type: ignore[union-attr]


def _check_blocks(measured: Measured, most: int | None = None) -> None:
    """A whole beginning of what was written, each number as it was."""
    blocks = measured.blocks
    assert [block["block"] for block in blocks] == list(range(len(blocks)))
    assert all(block["energy_j"] == block["block"] / 7 for block in blocks)
    assert most is None or len(blocks) <= most


def test_a_journal_whose_writer_is_killed_at_any_moment(tmp_path: Path, ledger: Ledger) -> None:
    """Each next writer resumes what the one before left."""
    path, draw, before = tmp_path / "t.journal", random.Random(3), 0
    for kill in range(KILLS):
        _killed("journal", path, draw.uniform(0.0, 0.03))
        measured = Journal.read(path)
        _check_blocks(measured)
        assert len(measured.blocks) >= before
        before = len(measured.blocks)
        ledger.add("journal", f"kill -9, moment {kill}", "file", "harmless")
    assert before > 0


@pytest.mark.parametrize("kill", range(4))
def test_a_result_whose_writer_is_killed_at_any_moment(
    tmp_path: Path, ledger: Ledger, kill: int
) -> None:
    """Recordings, traces and windows are written so: the old file or the new one, whole."""
    path = tmp_path / "result.json"
    _killed("result", path, random.Random(kill).uniform(0.005, 0.06))
    if path.exists():
        lines = path.read_text().splitlines()
        assert len(lines) == 200_000 and len(set(lines)) == 1
    ledger.add("result file", f"kill -9, moment {kill}", "file", "harmless")


def _journal(path: Path, blocks: int = 4) -> bytes:
    book = Journal.create(path, force=True)
    book.begin({"seed": 7})
    book.append("sizing", {"cell": 0, "repetitions": 12})
    book.append("plan", {"wanted": [3, 4]})
    book.append("dropped", {"cause": "MeterReadError"})
    for block in range(blocks):
        book.append("block", {"block": block, "energy_j": block / 7})
    book.close()
    return path.read_bytes()


def _judge(path: Path, content: bytes, most: int = 4) -> str:
    path.write_bytes(content)
    try:
        measured = Journal.read(path)
    except CwmpError as error:
        check_message(error, ("journal",))
        return "detected"
    assert measured.header == {"seed": 7}
    assert measured.sizing in ({}, {0: {"cell": 0, "repetitions": 12}})
    assert measured.plan in (None, {"wanted": [3, 4]})
    assert measured.dropped["MeterReadError"] == measured.dropped.total() <= 1
    _check_blocks(measured, most)
    return "harmless"


def test_every_bit_of_a_journal_flipped(tmp_path: Path, ledger: Ledger) -> None:
    path = tmp_path / "t.journal"
    whole = _journal(path)
    found = {"detected": 0, "harmless": 0}
    for place in range(len(whole)):
        for bit in range(8):
            spoilt = bytearray(whole)
            spoilt[place] ^= 1 << bit
            outcome = _judge(path, bytes(spoilt))
            found[outcome] += 1
    assert found["detected"] > 8 * 300
    # Only the last line, where a torn one is expected, is left out without a word.
    assert found["harmless"] <= 8 * (len(whole.splitlines()[-1]) + 2)
    ledger.add("journal", "any one bit flipped", "file", "detected")


def test_every_truncation_of_a_journal(tmp_path: Path, ledger: Ledger) -> None:
    path = tmp_path / "t.journal"
    whole = _journal(path)
    for length in range(len(whole)):
        outcome = _judge(path, whole[:length])
        assert outcome == "harmless" or length <= len(whole.splitlines()[0])
    ledger.add("journal", "truncated at any byte", "file", "harmless")


DAMAGES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "a line lost": lambda lines: lines[:5] + lines[6:],
    "two lines changed places": lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]],
    "a line twice": lambda lines: [*lines[:5], lines[4], *lines[5:]],
    "a block of zeros": lambda lines: [*lines[:3], b"\0" * len(lines[3]), *lines[4:]],
    "a line of another journal": lambda lines: [*lines[:3], b'{"kind":"block"}\n', *lines[3:]],
    "an empty line": lambda lines: [*lines[:3], b"\n", *lines[3:]],
    "a line feed lost": lambda lines: [*lines[:3], lines[3][:-1], *lines[4:]],
    "the first line lost": lambda lines: lines[1:],
    "line ends of another system": lambda lines: [line[:-1] + b"\r\n" for line in lines],
    "1 MB of garbage at the end": lambda lines: [*lines, b"\xff" * (1 << 20)],
    "1 MB of garbage in the middle": lambda lines: [*lines[:4], b"\xff" * (1 << 20), *lines[4:]],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_journal_damaged_by_lines(tmp_path: Path, ledger: Ledger, damage: str) -> None:
    path = tmp_path / "t.journal"
    lines = _journal(path).splitlines(keepends=True)
    path.write_bytes(b"".join(DAMAGES[damage](lines)))
    outcome = "harmless"
    try:
        measured = Journal.read(path)
        _check_blocks(measured)
    except FileFormatError as error:
        check_message(error, ("journal",))
        outcome = "detected"
    ledger.add("journal", damage, "file", outcome)  # type: ignore[arg-type]


@settings(max_examples=80)
@given(st.data())
def test_any_bytes_put_anywhere_into_a_journal(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("any") / "t.journal"
    whole = _journal(path)
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    _judge(path, whole[:start] + data.draw(st.binary(max_size=60)) + whole[end:])


@contextlib.contextmanager
def _full_at(most_bytes: int) -> Iterator[None]:
    """No file may grow beyond so many bytes, for this process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    usual = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, usual)


@pytest.mark.parametrize("room", [0, 60, 100, 161, 300, 1000, 4096])
def test_a_journal_on_a_disk_that_fills(tmp_path: Path, ledger: Ledger, room: int) -> None:
    path = tmp_path / "t.journal"
    book = Journal.create(path)
    with _full_at(room), pytest.raises(OutputError) as refused:
        book.begin({"seed": 7})
        for block in range(1000):
            book.append("block", {"block": block, "energy_j": block / 7})
    check_message(refused.value, ("t.journal",))
    assert "--resume" in str(refused.value)
    book.close()
    if room >= 100:
        book, measured = Journal.reopen(path)
        _check_blocks(measured)
        for block in range(len(measured.blocks), 30):
            book.append("block", {"block": block, "energy_j": block / 7})
        book.close()
        assert len(Journal.read(path).blocks) >= 30
    ledger.add("journal", f"the disk is full after {room} bytes", "file", "detected")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_real_disk_that_fills(tiny_disk: Path, ledger: Ledger) -> None:
    path = tiny_disk / "t.journal"
    book = Journal.create(path)
    book.begin({"seed": 7})
    with pytest.raises(OutputError, match="No space left"):
        for block in range(10_000):
            book.append("block", {"block": block, "energy_j": block / 7})
    book.close()
    _check_blocks(Journal.read(path))
    with pytest.raises(OutputError, match="No space left"):
        write_atomic(tiny_disk / "result.json", b"x" * 100_000)
    assert sorted(each.name for each in tiny_disk.iterdir()) == ["t.journal"]
    ledger.add("journal", "a full file system", "file", "detected")


def _recording(path: Path) -> Recording:
    clock = ManualClock()
    meter = FakeMeter({"package-0": 20.0}, clock=clock)
    return record(meter, path, duration_s=0.2, interval_s=0.01, sleep=clock.advance)


@pytest.mark.parametrize("room", [0, 100, 300])
def test_a_recording_on_a_disk_that_fills(tmp_path: Path, ledger: Ledger, room: int) -> None:
    path = tmp_path / "recording.csv"
    with _full_at(room), pytest.raises(OutputError) as refused:
        _recording(path)
    check_message(refused.value, ("recording.csv",))
    assert list(tmp_path.iterdir()) == []
    ledger.add("recording", f"the disk is full after {room} bytes", "file", "detected")


def _cells(change: Callable[[str], str]) -> Callable[[bytes], bytes]:
    """*change* the joules of one row in the middle."""

    def damage(whole: bytes) -> bytes:
        lines = whole.decode().splitlines(keepends=True)
        time_s, joules = lines[9].strip().split(",")
        lines[9] = f"{time_s},{change(joules)}\n"
        return "".join(lines).encode()

    return damage


RECORDINGS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "its first line alone": lambda whole: whole.splitlines(keepends=True)[0],
    "no first line": lambda whole: whole.partition(b"\n")[2],
    "zeros": lambda whole: b"\0" * len(whole),
    "invalid UTF-8": lambda whole: whole[:-40] + b"\xff\xfe" + whole[-40:],
    "cut in a number": lambda whole: whole[:-3],
    "cut in a row": lambda whole: whole[: whole.rstrip().rfind(b",")],
    "another schema": lambda whole: whole.replace(b"cwmp.recording", b"cwmp.recorded!"),
    "another version": lambda whole: whole.replace(b'"version": 1', b'"version": 2'),
    "an empty number": _cells(lambda joules: ""),
    "letters": _cells(lambda joules: "many"),
    "nan": _cells(lambda joules: "nan"),
    "inf": _cells(lambda joules: "inf"),
    "a negative number": _cells(lambda joules: "-1.0"),
    "1e300": _cells(lambda joules: "1e300"),
    "a third column": _cells(lambda joules: f"{joules},1"),
    "two rows changed places": lambda whole: b"".join(
        [*(lines := whole.splitlines(keepends=True))[:6], lines[7], lines[6], *lines[8:]]
    ),
    "a row twice": lambda whole: b"".join(
        [*(lines := whole.splitlines(keepends=True))[:6], lines[5], *lines[6:]]
    ),
}


@pytest.mark.parametrize("damage", RECORDINGS)
def test_a_damaged_recording_is_refused(tmp_path: Path, ledger: Ledger, damage: str) -> None:
    path = tmp_path / "recording.csv"
    _recording(path)
    path.write_bytes(RECORDINGS[damage](path.read_bytes()))
    with pytest.raises(FileFormatError) as refused:
        load_recording(path)
    check_message(refused.value, ("recording.csv",))
    ledger.add("replay", damage, "opening", "detected")


def test_lines_of_a_journal_are_json(tmp_path: Path) -> None:
    for line in _journal(tmp_path / "t.journal").splitlines():
        assert len(json.loads(line)["crc"]) == 8
    assert os.path.getsize(tmp_path / "t.journal") > 0  # noqa: PTH202
