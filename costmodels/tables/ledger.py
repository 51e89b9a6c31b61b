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
        findings: what was noticed so far.
    """

    def __init__(self, lines: NDArray[np.int64], findings: Sequence[Finding] = ()) -> None:
        self.lines = lines
        self.alive = np.ones(len(lines), dtype=bool)
        self.findings = list(findings)

    def drop(self, mask: NDArray[np.bool_], what: str) -> None:
        """Take the rows of *mask* out and say why, unless there are none."""
        self._note(mask, what, "dropped")
        self.alive &= ~mask

    def repaired(self, mask: NDArray[np.bool_], what: str) -> None:
        """Say which rows that are in were repaired, unless there are none."""
        self._note(mask, what, "repaired")

    def kept(self, mask: NDArray[np.bool_], what: str) -> None:
        """Say which rows that are in are odd yet kept, unless there are none."""
        self._note(mask, what, "kept")

    def first_line(self, mask: NDArray[np.bool_]) -> int:
        """The line of the first row of *mask*."""
        return int(self.lines[int(np.argmax(mask))])

    def _note(self, mask: NDArray[np.bool_], what: str, action: str) -> None:
        rows = np.flatnonzero(mask & self.alive)
        if len(rows):
            examples = tuple(int(line) for line in self.lines[rows[:_EXAMPLES]])
            self.findings.append(Finding(what, len(rows), action, examples))
