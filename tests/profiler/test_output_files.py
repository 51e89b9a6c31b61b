"""Files are written whole or not at all, and what prevents it is said in one line."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from profiler.errors import InputFileError, OutputError, OutputExistsError
from profiler.files import refuse_existing, write_atomic


def test_content_is_written_and_nothing_else(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.json", b"1")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.json", b"1")]


def test_file_is_replaced_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    with pytest.raises(OutputExistsError, match="--force"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    write_atomic(path, b"new", force=True)
    assert path.read_bytes() == b"new"


def test_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="create it first"):
        write_atomic(tmp_path / "absent" / "a.json", b"1")


@pytest.mark.parametrize("call", ["fsync", "write"])
def test_full_disk_leaves_the_old_file_and_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    if call == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(os, "fdopen", fail)
    with pytest.raises(OutputError, match="No space left") as caught:
        write_atomic(path, b"new", force=True)
    assert str(path) in str(caught.value)
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]
    assert path.read_bytes() == b"old"


def test_longest_name_that_the_file_system_allows_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("a" * os.pathconf(tmp_path, "PC_NAME_MAX"))
    write_atomic(path, b"1")
    assert path.read_bytes() == b"1"


def test_longer_name_is_refused_before_and_when_writing(tmp_path: Path) -> None:
    path = tmp_path / ("a" * (os.pathconf(tmp_path, "PC_NAME_MAX") + 1))
    for force in (False, True):
        with pytest.raises(OutputError, match="name too long"):
            refuse_existing(path, force=force)
        with pytest.raises(OutputError, match="name too long"):
            write_atomic(path, b"1", force=force)


def test_place_that_holds_no_files_is_refused() -> None:
    if not Path("/proc/self").is_dir():
        pytest.skip("there is no /proc")
    with pytest.raises(OutputError, match=r"cannot write /proc/a\.json"):
        write_atomic(Path("/proc/a.json"), b"1")


def test_folder_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(OutputError, match="directory"):
        write_atomic(tmp_path / "a.json", b"1", force=True)
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]
