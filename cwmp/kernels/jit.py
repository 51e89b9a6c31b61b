"""Numba, as every kernel here uses it: cached on disk, without the interpreter's lock.

The first process on a machine compiles and says so on the logger ``cwmp.kernels``; later ones
load what it left (beside the source, or in numba's cache directory where that is read-only).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numba
from numba.core import event

_P = ParamSpec("_P")
_R = TypeVar("_R")
_log = logging.getLogger("cwmp.kernels")


def compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """*function* compiled at its first call; exact IEEE arithmetic, no reordering of sums."""
    kernel: Callable[_P, _R] = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return kernel


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
