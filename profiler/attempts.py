"""A block again, until nothing disturbed it; a module's own errors, named."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from profiler.blocks import Pair
from profiler.conditions import SUSPEND_GAP, THROTTLED
from profiler.errors import CounterFaultError, CwmpError, InputError, MeterReadError
from profiler.workloads import Cell, Operation, Workload

_Result = TypeVar("_Result")
_Pair = TypeVar("_Pair", bound=Pair)
FAILURES_IN_A_ROW = 4
_COOLING_S = 0.25


class DisturbedError(CounterFaultError):
    """The host slept or changed its clock inside a block; the message is the block's flag."""


class Attempts:
    """Runs actions on freshly prepared workloads and counts what was lost.

    Args:
        drop: called with the cause of each loss: an error's class, or a block's flag.
        kept: what becomes of what was measured, for the end of an error's message.
        sleep: waits so many seconds, for a throttled device to cool.
    """

    def __init__(
        self, drop: Callable[[str], None], kept: str, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._drop, self._kept, self._sleep = drop, kept, sleep

    def insist(
        self,
        operation: Operation,
        cell: Cell,
        seed: int,
        action: Callable[[Workload, int], _Result],
    ) -> _Result:
        """*action* on the workload of *cell* and the number of attempts lost before it.

        Raises:
            MeterReadError: `FAILURES_IN_A_ROW` attempts were lost.
            InputError: the operation itself failed; it is not tried again.
        """
        lost: list[CwmpError] = []
        while len(lost) < FAILURES_IN_A_ROW:
            workload = _Named(operation, cell, seed, self._kept)
            try:
                return action(workload, len(lost))
            except (MeterReadError, CounterFaultError) as error:
                lost.append(error)
                disturbed = isinstance(error, DisturbedError)
                self._drop(str(error) if disturbed else type(error).__name__)
            finally:
                workload.close()
            if isinstance(lost[-1], DisturbedError) and str(lost[-1]) == THROTTLED:
                self._sleep(_COOLING_S * 2.0 ** len(lost))
        raise MeterReadError(
            f"{len(lost)} blocks in a row were lost: {lost[-1]}; {self._kept}"
        ) from lost[-1]


def undisturbed(pair: _Pair, attempt: int) -> _Pair:
    """*pair*, unless it must be measured again.

    A pair that spans a suspend never counts. One that was throttled, or ran at an unusual clock,
    is kept at the last attempt with its flag, and enters no estimate: a host whose clock never
    rests ends its session, and says in how many blocks it was so.

    Raises:
        DisturbedError: naming the flag.
    """
    for flag in pair.flags:
        if flag == SUSPEND_GAP or attempt < FAILURES_IN_A_ROW - 1:
            raise DisturbedError(flag)
    return pair


class _Named:
    """A workload whose own errors say which operation, layer and k they came from."""

    def __init__(self, operation: Operation, cell: Cell, seed: int, kept: str) -> None:
        self._cell, self._kept = cell, kept
        with self._naming():
            self._workload = operation.prepare(cell, seed)

    def run(self, repetitions: int) -> None:
        with self._naming():
            self._workload.run(repetitions)

    def reference(self, repetitions: int) -> None:
        with self._naming():
            self._workload.reference(repetitions)

    def close(self) -> None:
        self._workload.close()

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except CwmpError:
            raise
        except Exception as error:  # a user's module may raise anything
            cell = self._cell
            raise InputError(
                f"{cell.operation} of layer {cell.layer} at k = {cell.k} failed: "
                f"{first_line(error)}; mend the module, or leave {cell.operation} out of the "
                f"operations; {self._kept}"
            ) from error


def first_line(error: BaseException) -> str:
    """The first line of what *error* says, or its class where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
