"""Uploads that a method can read and the engine refuses all the same: those that dwarf the rest.

A method's `read` takes whatever is valid: finite values of the right shape. A finite 1e30 would be
the end of the shared model, so the size of an upload is held against two others::

    refused   |d| > FACTOR * m   and   |d| > MODEL_FACTOR * |w|

d is what the upload would add (`Reading.norm`), w the shared model, and m the largest median of a
round so far; before there is one, the median of the round's own first `GATHERED` uploads. Two
scales, since one alone refuses the honest: weights may start at zero, and a quiet round (a
threshold that little passes, a budget spent) says nothing of the next. Medians are the lower one
and leave empty messages out; whoever sends at least half of a round's uploads sets them.

Buffers replace the shared ones and have scales of their own, by the same rule; running variances
below 0 are refused. It is a guard against nonsense, not robust aggregation: a lie of the size of
an honest update is not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite, sqrt
from statistics import median_low
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwmp.fl.algorithms.base import Reading
from cwmp.fl.states import ModelState
from profiler.errors import PayloadError

FACTOR = 100.0
MODEL_FACTOR = 10.0
GATHERED = 8
"""Uploads that are held back until their median is known, in a round that has no scale yet."""
_VARIANCE = "running_var"


@dataclass
class Guard:
    """The scales of one round.

    Args:
        norm, buffer_norm: the largest medians of the rounds before; ``None`` without one.
        state: the shared model of the round.
    """

    norm: float | None
    buffer_norm: float | None
    state: ModelState
    _norms: list[float] = field(default_factory=list)
    _buffer_norms: list[float] = field(default_factory=list)

    @property
    def has_scale(self) -> bool:
        """Whether uploads can be judged one by one."""
        return self.norm is not None and (not self.state.buffers or self.buffer_norm is not None)

    def gauge(self, readings: Sequence[Reading]) -> None:
        """Take what scales are missing from the first *readings* of the round."""
        self.norm = self.norm or _median(_norm(reading) for reading in readings)
        self.buffer_norm = self.buffer_norm or _median(_size(r.buffers) for r in readings)

    def check(self, reading: Reading) -> None:
        """Note the size of *reading*.

        Raises:
            PayloadError: it dwarfs the others, is not finite, or holds variances below 0.
        """
        norm, buffer_norm = _norm(reading), _size(reading.buffers)
        _refuse("its norm is", norm, self.norm, self._model_norm)
        _refuse("the norm of its buffers is", buffer_norm, self.buffer_norm, self._model_buffers)
        for name, values in reading.buffers.items():
            if name.rpartition(".")[2] == _VARIANCE and (values < 0).any():
                raise PayloadError(f"buffer {name!r} holds variances below 0")
        self._norms.append(norm)
        self._buffer_norms.append(buffer_norm)

    def after(self) -> tuple[float | None, float | None]:
        """Both scales for the next round, from what was accepted in this one and before."""
        return _larger(self.norm, self._norms), _larger(self.buffer_norm, self._buffer_norms)

    @cached_property
    def _model_norm(self) -> float:
        return _size(self.state.parameters)

    @cached_property
    def _model_buffers(self) -> float:
        return _size(self.state.buffers)


def _refuse(what: str, norm: float, usual: float | None, model: float) -> None:
    limit = max(FACTOR * (usual or 0.0), MODEL_FACTOR * model)
    if not isfinite(norm) or (limit and norm > limit):
        beside = f"beside a median of {usual:.3g}" if usual else f"beside {model:.3g} of the model"
        raise PayloadError(f"{what} {norm:.3g} {beside}")


def _norm(reading: Reading) -> float:
    return 0.0 if reading.norm is None else reading.norm


def _size(arrays: Mapping[str, NDArray[Any]]) -> float:
    return sqrt(sum(float(np.square(x, dtype=np.float64).sum()) for x in arrays.values()))


def _median(norms: Iterable[float]) -> float | None:
    sent = [norm for norm in norms if norm > 0]
    return median_low(sent) if sent else None


def _larger(before: float | None, norms: Sequence[float]) -> float | None:
    now = _median(norms)
    return now if before is None or (now is not None and now > before) else before
