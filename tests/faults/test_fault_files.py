"""Files that vanish, refuse, fail or are no files any more: an error in one line, never a hang."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from benches import AT_OPENING_ONLY, BENCHES, Bench, bench
from ledger import Ledger, Trial, follow, open_spoilt
from stand_ins.kernel_files import without_privilege

from profiler.errors import CwmpError

__all__ = ["bench"]


def _replace(put: Callable[[Path], object]) -> Callable[[Path], None]:
    def inject(path: Path) -> None:
        path.unlink()
        put(path)

    return inject


def _loop(path: Path) -> None:
    other = path.with_name("loop")
    other.symlink_to(path)
    path.symlink_to(other)


def _folder_gone(path: Path) -> None:
    path.parent.resolve().rename(path.parent.resolve().with_name("gone"))


@dataclass(frozen=True)
class FileFault:
    """What happens to a file; *refused*: the permissions of files hold while it lasts."""

    name: str
    inject: Callable[[Path], None]
    refused: bool = False


FILE_FAULTS = (
    FileFault("vanishes", _replace(lambda path: None)),
    FileFault("a folder in its place", _replace(Path.mkdir)),
    FileFault("a pipe nobody writes to", _replace(os.mkfifo)),
    FileFault("links in a circle", _replace(_loop)),
    FileFault("a link to nowhere", _replace(lambda path: path.symlink_to("/nowhere/at/all"))),
    FileFault("an input/output error", _replace(lambda path: path.symlink_to("/proc/self/mem"))),
    FileFault("an endless device", _replace(lambda path: path.symlink_to("/dev/zero"))),
    FileFault("an empty device", _replace(lambda path: path.symlink_to("/dev/null"))),
    FileFault("a link to a file without end of line", _replace(lambda p: p.write_bytes(b"12"))),
    FileFault("permission lost", lambda path: path.chmod(0), refused=True),
    FileFault("its folder is closed", lambda path: path.parent.chmod(0), refused=True),
    FileFault("its folder vanishes", _folder_gone),
)
_ids = {"ids": lambda value: value.name if isinstance(value, FileFault) else str(value)}


class _Spoiling:
    """A fault and its end: the file as it was, in its folder."""

    def __init__(self, bench: Bench, fault: FileFault) -> None:
        self._bench, self._fault, self._stack = bench, fault, ExitStack()
        self._folder = bench.path.parent.resolve()
        self._inode: Path | None = None

    def inject(self) -> None:
        self._bench.hold(True)
        kept = self._folder / "kept"
        # The stand-in of an open counter writes to one inode, and is to find it again.
        os.link(self._bench.path, kept)
        self._inode = kept
        self._fault.inject(self._bench.path)
        if self._fault.refused:
            self._stack.enter_context(without_privilege())

    def mend(self) -> None:
        self._stack.close()
        gone = self._folder.with_name("gone")
        if gone.exists():
            gone.rename(self._folder)
        self._folder.chmod(0o755)
        path = self._folder / self._bench.path.name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        (self._folder / "loop").unlink(missing_ok=True)
        assert self._inode is not None
        self._inode.rename(path)
        path.chmod(0o644)
        self._bench.mend()


@pytest.mark.parametrize("fault", FILE_FAULTS, **_ids)
@pytest.mark.parametrize("bench", BENCHES, indirect=True)
def test_between_two_reads(
    bench: Bench, fault: FileFault, ledger: Ledger, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["bench"]
    spoiling = _Spoiling(bench, fault)
    trial = Trial(bench.rail, bench.true_j, bench.step_j)
    try:
        outcome = follow(trial, bench.open, bench.advance, spoiling.inject, spoiling.mend)
    finally:
        spoiling._stack.close()
    # RAPL holds its files open: what becomes of their names does not touch it.
    assert outcome == "detected" or name == "rapl"
    ledger.add(name, f"file: {fault.name}", "reading", outcome)


@pytest.mark.parametrize("fault", FILE_FAULTS, **_ids)
@pytest.mark.parametrize("bench", {**BENCHES, **AT_OPENING_ONLY}, indirect=True)
def test_at_opening(
    bench: Bench, fault: FileFault, ledger: Ledger, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["bench"]
    spoiling = _Spoiling(bench, fault)
    trial = Trial(bench.rail, bench.true_j, bench.step_j)
    try:
        outcome = open_spoilt(trial, bench.open, bench.advance, spoiling.inject, spoiling.mend)
    finally:
        spoiling._stack.close()
    # Old Jetsons show current and voltage beside the power.
    assert outcome == "detected" or name == "ina3221 old power"
    assert all(isinstance(error, CwmpError) for error in trial.errors)
    ledger.add(name, f"file: {fault.name}", "opening", outcome)
