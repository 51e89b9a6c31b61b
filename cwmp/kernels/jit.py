"""Numba, as every kernel here uses it: cached on disk, without the interpreter's lock.

The first process on a machine compiles and says so on the logger ``cwmp.kernels``; later ones
load what it left (beside the source, or in numba's cache directory where that is read-only).
"""

from __future__ import annotations

import hashlib
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

    What is on disk is used only as long as no kernel's source has changed: numba itself looks
    at the file of the function alone, not of those that it calls.
    """
    kernel: Any = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    stored = kernel._cache._cache_file
    stored._source_stamp = (stored._source_stamp, sources_digest())
    return kernel  # type: ignore[no-any-return]


@cache
def sources_digest() -> str:
    """SHA-256 over the sources of all kernels, and of the sizes that they take from the payload."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for path in [*sorted(here.glob("*.py")), here.parent / "payload.py"]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


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
