"""Numba, as every kernel here uses it: cached on disk, without the interpreter's lock.

The first process on a machine compiles and says so on the logger ``cwmp.kernels``; later ones
load what it left (beside the source, or in numba's cache directory where that is read-only).
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numba
from numba.core import event

_P = ParamSpec("_P")
_R = TypeVar("_R")
_log = logging.getLogger("cwmp.kernels")


def compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """*function* compiled at its first call; exact IEEE arithmetic, no reordering of sums.

    What is on disk is used only as long as no source it was made from has changed: numba itself
    looks at the file of the function alone, not of those that it calls.
    """
    options = {"nogil": True, "error_model": "numpy"}
    try:
        kernel: Any = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder that can be written: compiled anew in each process
        return numba.njit(**options)(function)  # type: ignore[no-any-return]
    stored = kernel._cache._cache_file
    stored._source_stamp = (stored._source_stamp, sources_digest(Path(inspect.getfile(function))))
    return kernel  # type: ignore[no-any-return]


@cache
def sources_digest(source: Path) -> str:
    """SHA-256 over the file *source* and those of this package that it imports from."""
    digest = hashlib.sha256()
    for path in sorted(_closure(source)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _closure(source: Path) -> set[Path]:
    found, waiting = set(), [source]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imports(path)
    return found


@cache
def _imports(source: Path) -> tuple[Path, ...]:
    """The files of this package that *source* names in its import statements."""
    package = __name__.partition(".")[0]
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    paths = (_source(name) for name in names if name.startswith(f"{package}."))
    return tuple(path for path in paths if path.is_file())


def _source(module: str) -> Path:
    top = Path(__file__).parents[2]
    path = top.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


class _Announcer(event.Listener):  # type: ignore[misc]
    """Says once a process that kernels are being compiled."""

    said = False

    def on_start(self, event: Any) -> None:
        module = event.data["dispatcher"].py_func.__module__
        if not self.said and module.startswith("cwmp."):
            self.said = True
            _log.warning("compiling the kernels for this CPU; this happens once a machine")

    def on_end(self, event: Any) -> None:
        pass


event.register("numba:compile", _Announcer())
