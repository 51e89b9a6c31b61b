"""Fixtures that every package's tests share: hardware that answers as it is told to."""

from __future__ import annotations

import ctypes
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from stand_ins import perf
from stand_ins.amd import FOLDER as AMD_FOLDER
from stand_ins.amd import AmdModule, FakeAmdGpu
from stand_ins.boards import BoardTree, Vcgencmd
from stand_ins.nvml import FakeGpu, NvmlLibrary, compile_library
from stand_ins.sysfs import SysfsTree

# A shell starts what it runs in the background with SIGINT ignored, and children inherit that: the
# processes that these tests interrupt would then never see their Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: the first example of a test may load or compile kernels.
settings.register_profile("cwmp", settings(), deadline=None)
settings.load_profile("cwmp")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where tests run in several processes (``-n``), those of a file stay together, in one.

    They share what the file prepares; faults are counted over all of their files.
    """
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        together = "faults" if "faults" in item.path.parts else item.path.stem
        item.add_marker(pytest.mark.xdist_group(together))


@pytest.fixture
def bare_sysfs_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SysfsTree]:
    """A tree in place of ``/sys`` with no zone in it yet."""
    tree = SysfsTree(tmp_path / "sys")
    monkeypatch.setenv("CWMP_SYSFS", str(tree.root))
    yield tree
    tree.close()


@pytest.fixture
def sysfs_tree(bare_sysfs_tree: SysfsTree) -> SysfsTree:
    """A tree in place of ``/sys``: a server with two sockets and memory; see `SysfsTree`."""
    bare_sysfs_tree.add_server()
    return bare_sysfs_tree


@pytest.fixture(scope="session")
def compiled_perf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for the kernel's performance events, built once."""
    compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    if compiler is None:
        pytest.skip("no C compiler (cc, gcc or clang) to build the stand-in for perf with")
    return perf.compile_library(compiler, tmp_path_factory.mktemp("perf"))


@pytest.fixture
def perf_kernel(
    compiled_perf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> perf.PerfKernel:
    """A kernel that offers no energy event yet; `PerfSource` takes its ``library``."""
    root = tmp_path / "perf-sys"
    root.mkdir()
    kernel = perf.PerfKernel(compiled_perf, tmp_path / "perf.txt", root)
    monkeypatch.setenv("CWMP_SYSFS", str(root))
    monkeypatch.setenv("FAKE_PERF", str(kernel.script))
    return kernel


@pytest.fixture(scope="session")
def compiled_nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in library, built once."""
    compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    if compiler is None:
        pytest.skip("no C compiler (cc, gcc or clang) to build the NVML stand-in with")
    return compile_library(compiler, tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def nvml_library(
    compiled_nvml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> NvmlLibrary:
    """The stand-in in place of the driver's library in this process; shows one GPU."""
    pynvml = pytest.importorskip("pynvml")
    library = NvmlLibrary(compiled_nvml, tmp_path / "gpus.txt")
    library.show(FakeGpu())
    monkeypatch.setenv("FAKE_NVML", str(library.script))
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(compiled_nvml)))
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    return library


@pytest.fixture
def board_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BoardTree:
    """A tree in place of ``/sys`` with no board in it yet."""
    tree = BoardTree(tmp_path / "board-sys")
    monkeypatch.setenv("CWMP_SYSFS", str(tree.root))
    return tree


@pytest.fixture
def vcgencmd(board_tree: BoardTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vcgencmd:
    """A Raspberry Pi 5 whose ``vcgencmd`` is first on PATH."""
    board_tree.name_board("Raspberry Pi 5 Model B Rev 1.0")
    command = Vcgencmd(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(command.folder), prepend=":")
    return command


@pytest.fixture
def amd_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AmdModule]:
    """A stand-in for AMD's module, to be imported as ``amdsmi``; shows one GPU."""
    module = AmdModule(tmp_path / "amd.json")
    module.show(FakeAmdGpu())
    monkeypatch.setenv("FAKE_AMDSMI", str(module.script))
    monkeypatch.syspath_prepend(str(AMD_FOLDER))
    before = sys.modules.pop("amdsmi", None)
    yield module
    sys.modules.pop("amdsmi", None)
    if before is not None:
        sys.modules["amdsmi"] = before
