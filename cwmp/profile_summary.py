"""What a profiling session found, for people: a and c of each layer's operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import sqrt
from typing import TYPE_CHECKING, Any

from costmodels.cells import CellMean, cell_means
from costmodels.curves import Quantity, Segment, fit_curve
from profiler.listing import NOT_SEEN
from profiler.statistics import detect, t_quantile
from profiler.units import format_scaled, format_si, prefix, si_exponent

if TYPE_CHECKING:
    from profiler.trace import Trace

_UNITS = {"send": "byte", "train": "example"}


@dataclass(frozen=True, slots=True)
class CostRow:
    """One line E(k) = a + c k; where cells share one k, *a* is the whole call and *c* absent.

    Attributes:
        operation, pattern, layer: what was measured.
        unit: what k counts.
        from_k: where the line begins; above 1 behind a knee.
        a, c: joules a call and a unit, with standard errors; may be negative.
        blocks: blocks behind it.
    """

    operation: str
    pattern: str
    layer: str
    unit: str
    from_k: int
    a: Quantity
    c: Quantity | None
    blocks: int

    def as_json(self) -> dict[str, Any]:
        """Plain numbers; an estimate below detection is flagged and carries its upper limit."""
        return {
            "operation": self.operation,
            "pattern": self.pattern,
            "layer": self.layer,
            "unit": self.unit,
            "from_k": self.from_k,
            "blocks": self.blocks,
            "a_j": _quantity_json(self.a),
            "c_j": None if self.c is None else _quantity_json(self.c),
        }

    def as_text(self) -> list[str]:
        """Operation, layer, a, c and blocks as cells of a table."""
        beyond = f" k>={self.from_k}" if self.from_k > 1 else ""
        plain = self.pattern in ("batch", "random") and self.operation in ("train", "send")
        operation = self.operation if plain else f"{self.operation} {self.pattern}"
        slope = "(whole call)" if self.c is None else quantity_text(self.c, f"J/{self.unit}")
        return [operation + beyond, self.layer, quantity_text(self.a, "J"), slope, str(self.blocks)]


def summarise(trace: Trace) -> tuple[CostRow, ...]:
    """The lines that the trace's cells support, as `costmodels.curves.fit_curve` draws them.

    Raises:
        InputError: too few blocks to say how uncertain a cost is.
    """

    def key(cell: CellMean) -> tuple[str, str, str]:
        return (cell.operation, cell.layer, cell.pattern)

    # as in the design: by operation and layer, not by the random order of the blocks
    places = {layer.name: number for number, layer in enumerate(trace.metadata.layers)}
    cells = sorted(cell_means(trace), key=lambda c: (c.operation, places.get(c.layer, -1), key(c)))
    return tuple(row for _, group in groupby(cells, key) for row in _rows(list(group)))


def quantity_text(quantity: Quantity, unit: str) -> str:
    """``1.23 +- 0.05 uJ`` with the 95 % half-width, or ``< 0.4 uJ`` below detection.

    Where nothing bounds it, as where the counter never moved: ``not seen``.
    """
    found = detect(quantity.value, quantity.error, quantity.degrees)
    if not found.detected and not found.upper_limit:
        return NOT_SEEN
    if not found.detected:
        return f"< {format_si(found.upper_limit, unit, 2)}"
    half = t_quantile(0.975, quantity.degrees) * quantity.error
    exponent = si_exponent(quantity.value)
    value, spread = format_scaled(quantity.value, exponent), format_scaled(half, exponent, 2)
    return f"{value} +- {spread} {prefix(exponent)}{unit}"


def _quantity_json(quantity: Quantity) -> dict[str, Any]:
    found = detect(quantity.value, quantity.error, quantity.degrees)
    half = t_quantile(0.975, quantity.degrees) * quantity.error
    return {
        "value": quantity.value,
        "low": quantity.value - half,
        "high": quantity.value + half,
        "detected": found.detected,
        "upper_limit": None if found.detected else found.upper_limit or None,
        "could_have_seen": found.capability,
    }


def _rows(cells: Sequence[CellMean]) -> list[CostRow]:
    first, curve = cells[0], fit_curve(cells)
    segments: Sequence[Segment] = curve.segments
    rows = []
    for segment in segments:
        rows.append(
            CostRow(
                first.operation,
                first.pattern,
                first.layer,
                _UNITS.get(first.operation, "entry"),
                segment.from_k,
                a=_whole(cells) if segment.a is None else segment.a,
                c=segment.c,
                blocks=curve.blocks,
            )
        )
    return rows


def _whole(cells: Sequence[CellMean]) -> Quantity:
    """The mean energy of a call where all cells share one k."""
    count = len(cells)
    error = sqrt(sum(cell.variance for cell in cells)) / count
    mean = sum(cell.mean_j for cell in cells) / count
    return Quantity(mean, error, min(cell.degrees for cell in cells))
