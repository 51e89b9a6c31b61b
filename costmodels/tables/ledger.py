"""Which rows are still in, and why the others are not: every row leaves once, for one cause."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from costmodels.samples import Finding

_EXAMPLES = 3


class Ledger:
    """The rows that are in, the line of each, and what was found.

    Attributes:
        alive: bool, which rows are still in.
        lines: the line of the file that each row was on.
    """

    def __init__(self, lines: NDArray[np.int64], findings: Sequence[Finding] = ()) -> None:
        self.lines = lines
        self.alive = np.ones(len(lines), dtype=bool)
        self._found = list(findings)
        self._repairs: list[tuple[NDArray[np.bool_], str]] = []

    def drop(self, mask: NDArray[np.bool_], what: str) -> None:
        """Take the rows of *mask* out and say why, unless there are none."""
        self._note(mask, what, "dropped")
        self.alive &= ~mask

    def repaired(self, mask: NDArray[np.bool_], what: str) -> None:
        """Say which rows were repaired; those that are dropped later do not count as such."""
        self._repairs.append((mask, what))

    def kept(self, mask: NDArray[np.bool_], what: str) -> None:
        """Say which rows that are in are odd yet kept, unless there are none."""
        self._note(mask, what, "kept")

    def remark(self, count: int, what: str, action: str) -> None:
        """Say something that is not of single rows."""
        self._found.append(Finding(what, count, action))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was noticed so far: rows left out and oddities in order, then repairs."""
        repairs = [self._finding(mask, what, "repaired") for mask, what in self._repairs]
        return (*self._found, *(finding for finding in repairs if finding.rows))

    def _note(self, mask: NDArray[np.bool_], what: str, action: str) -> None:
        finding = self._finding(mask, what, action)
        if finding.rows:
            self._found.append(finding)

    def _finding(self, mask: NDArray[np.bool_], what: str, action: str) -> Finding:
        rows = np.flatnonzero(mask & self.alive)
        examples = tuple(int(line) for line in self.lines[rows[:_EXAMPLES]])
        return Finding(what, len(rows), action, examples)
