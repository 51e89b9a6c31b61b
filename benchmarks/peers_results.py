"""From windows to cells: errors by tool and case, and whether our intervals hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from statistics import fmean, median
from typing import Any

from scipy.special import betaincinv, ndtri

_Z95 = 1.959964
_ABSURD = 10.0  # times the truth


@dataclass(frozen=True)
class Row:
    """One window of one tool; ``None`` where it said nothing, and then *error* says what it said.

    Attributes:
        systematic_j: the systematic term that the tool states beside its interval.
        limit_j: an upper limit, where that is all it states.
        overhead_s: how much longer the tool says the window was than it was.
        wrapped: whether a counter wrapped within the window, where that was looked at.
    """

    case: str
    tool: str
    length_s: float
    truth_j: float | None
    energy_j: float | None
    half_width_j: float | None
    systematic_j: float = 0.0
    limit_j: float | None = None
    overhead_s: float | None = None
    wrapped: bool | None = None
    error: str | None = None

    @property
    def error_j(self) -> float | None:
        return (
            None if self.energy_j is None or self.truth_j is None else self.energy_j - self.truth_j
        )

    @property
    def covers(self) -> bool | None:
        """Whether the stated interval, systematic term left out, holds the truth."""
        if self.error_j is None or self.half_width_j is None:
            return None
        return abs(self.error_j) <= self.half_width_j


@dataclass(frozen=True)
class Cell:
    """One tool in one case at one length.

    Attributes:
        windows, lost: how many, and how many without a number.
        bias, worst: mean and largest error, as a share of the truth; ``None`` without numbers.
        covered, intervals: how many stated intervals hold the truth, of how many.
        deviation: mean error over its stated standard error, rms(half widths) / (1.96 sqrt(n)).
        beyond_systematic: the mean error exceeds what the stated systematic term and, at the
            level that all cells together need, that standard error allow; ``None`` for peers.
        text: for a table.
    """

    case: str
    tool: str
    length_s: float
    windows: int
    lost: int
    bias: float | None
    worst: float | None
    covered: int
    intervals: int
    deviation: float | None
    beyond_systematic: bool | None
    text: str


def cells(rows: Sequence[Row]) -> list[Cell]:
    """Every cell, in the order of its first window."""
    grouped: dict[tuple[str, float, str], list[Row]] = {}
    for row in rows:
        grouped.setdefault((row.case, row.length_s, row.tool), []).append(row)
    ours = sum(any(row.half_width_j is not None for row in group) for group in grouped.values())
    critical = float(ndtri(1 - 0.025 / max(ours, 1)))
    return [_cell(group, critical) for group in grouped.values()]


def _cell(rows: Sequence[Row], critical: float) -> Cell:
    first = rows[0]
    known = [row for row in rows if row.error_j is not None]
    shares = [row.error_j / row.truth_j for row in known]  # type: ignore[operator]
    stated = [row for row in known if row.half_width_j]
    deviation = beyond = None
    if stated:
        error_j = sqrt(fmean((row.half_width_j / _Z95) ** 2 for row in stated) / len(stated))  # type: ignore[operator]
        mean_j = fmean(row.error_j for row in stated)  # type: ignore[misc]
        allowed_j = fmean(row.systematic_j for row in stated)
        deviation = mean_j / error_j
        beyond = abs(mean_j) > allowed_j + critical * error_j
    return Cell(
        case=first.case,
        tool=first.tool,
        length_s=first.length_s,
        windows=len(rows),
        lost=len(rows) - len(known),
        bias=fmean(shares) if shares else None,
        worst=max(shares, key=abs) if shares else None,
        covered=sum(bool(row.covers) for row in stated),
        intervals=len(stated),
        deviation=deviation,
        beyond_systematic=beyond,
        text=_text(rows, known),
    )


def _text(rows: Sequence[Row], known: Sequence[Row]) -> str:
    """What happened, in words where there is no number worth printing."""
    parts = []
    sound = [row for row in known if abs(row.error_j or 0.0) <= _ABSURD * (row.truth_j or 0.0)]
    for word, sign in (("negative", -1), ("too high", 1)):
        wrong = [row.energy_j for row in known if row not in sound and sign * row.error_j > 0]
        if wrong:
            largest_j = max(wrong, key=abs)
            parts.append(f"{word} in {len(wrong)} of {len(rows)}, {largest_j:,.0f} J")
    if sound and not any(row.energy_j for row in sound):
        parts.append("0 J")
    elif sound:
        shares = [row.error_j / row.truth_j for row in sound]
        worst = max(shares, key=abs)
        parts.append(f"{100 * fmean(shares):+.1f} %, at worst {100 * worst:+.1f} %")
    limits = [row for row in rows if row.limit_j is not None]
    if limits:
        held = sum(row.limit_j >= row.truth_j for row in limits)
        parts.append(f"only a limit, which holds in {held} of {len(limits)}")
    failed = [row.error for row in rows if row.error]
    if failed:
        parts.append(f"lost in {len(failed)} of {len(rows)} ({failed[0].partition(':')[0]})")
    return "; ".join(parts) or "not resolved, and says so"


@dataclass(frozen=True)
class Coverage:
    """How many intervals hold the truth; Clopper and Pearson's 95 % bounds of the share."""

    covered: int
    intervals: int

    @property
    def share(self) -> float:
        return self.covered / self.intervals

    @property
    def bounds(self) -> tuple[float, float]:
        k, n = self.covered, self.intervals
        low = float(betaincinv(k, n - k + 1, 0.025)) if k else 0.0
        high = float(betaincinv(k + 1, n - k, 0.975)) if k < n else 1.0
        return low, high

    def __str__(self) -> str:
        low, high = self.bounds
        return f"{100 * self.share:.1f} % of {self.intervals} ({100 * low:.1f} to {100 * high:.1f})"


def coverage(rows: Iterable[Row]) -> Coverage | None:
    """Pooled over *rows*; ``None`` where no interval is stated."""
    stated = [row.covers for row in rows if row.covers is not None]
    return Coverage(sum(stated), len(stated)) if stated else None


def table(found: Sequence[Cell], tools: Sequence[str]) -> str:
    """Markdown: a line a case and length, a column a tool."""
    by_key = {(cell.case, cell.length_s, cell.tool): cell for cell in found}
    order = list(dict.fromkeys(cell.case for cell in found))
    places = {(cell.case, cell.length_s) for cell in found}
    lines = [f"| case | window | {' | '.join(tools)} |", "|---|---|" + "---|" * len(tools)]
    last = ""
    for case, length_s in sorted(places, key=lambda place: (order.index(place[0]), place[1])):
        texts = [getattr(by_key.get((case, length_s, tool)), "text", "-") for tool in tools]
        name = "" if case == last else case
        last = case
        lines.append(f"| {name} | {length_s:g} s | {' | '.join(texts)} |")
    return "\n".join(lines)


def verdicts(rows: Sequence[Row], found: Sequence[Cell]) -> list[str]:
    """One sentence for each thing that our intervals are held to."""
    lines = []
    for tool in dict.fromkeys(row.tool for row in rows if row.half_width_j is not None):
        own = [row for row in rows if row.tool == tool]
        stated = [cell for cell in found if cell.tool == tool and cell.intervals]
        pooled = coverage(own)
        if pooled is None:
            continue
        inside = "inside" if 0.93 <= pooled.share <= 0.97 else "OUTSIDE"
        lines.append(f"{tool}: nominal 95 % intervals hold in {pooled}: {inside} 93 to 97 %")
        for kind, chosen in (("RAPL", False), ("GPU", True)):
            part = coverage(row for row in own if ("GPU" in row.case) == chosen)
            lines += [f"{tool}: of these {kind}: {part}"] if part else []
        overhead_s = [row.overhead_s for row in own if row.overhead_s is not None]
        lines.append(
            f"{tool}: its own reads lengthen a window by {1e6 * median(overhead_s):.0f} us"
        )
        worst = min(stated, key=lambda cell: cell.covered / cell.intervals)
        lines.append(
            f"{tool}: worst cell {worst.case}, {worst.length_s:g} s: {worst.covered} of "
            f"{worst.intervals}, mean error {worst.deviation:+.1f} standard errors"
        )
        beyond = [f"{cell.case}, {cell.length_s:g} s" for cell in stated if cell.beyond_systematic]
        lines.append(
            f"{tool}: cells off by more than the stated systematic term allows: "
            f"{'; '.join(beyond) or 'none'} (of {len(stated)})"
        )
    return lines


def document(rows: Sequence[Row], found: Sequence[Cell], **about: Any) -> dict[str, Any]:
    """Everything, for JSON."""
    return about | {
        "cells": [asdict(cell) for cell in found],
        "verdicts": verdicts(rows, found),
        "rows": [asdict(row) for row in rows],
    }
