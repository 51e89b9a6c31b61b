"""What an entry of each layer costs to apply, and what opening the layer does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from costmodels.costfile import CostFile, Estimate, LayerCost
from cwmp.report.page.axes import Scale, joules, scale_over, short_joules
from cwmp.report.page.markup import Child, Markup, el
from cwmp.report.page.svg import Box, horizontal_axis, label, line, marker, picture

WIDTH, _ROW, _TOP, _FOOT = 760.0, 20.0, 30.0, 56.0
MOST_DRAWN = 80
DENSITY = 0.05
"""Costs are those of the piece that holds where this share of a layer's entries is sent."""


@dataclass(frozen=True, slots=True)
class LayerRow:
    """The update costs of one layer; ``None`` where the file has none."""

    name: str
    kind: str
    entries: int
    origin: str
    marginal: Estimate | None
    fixed: Estimate | None


def rows_of(costs: CostFile) -> list[LayerRow]:
    """One row a layer, in the model's order."""
    return [_row(layer) for layer in costs.layers]


def _row(layer: LayerCost) -> LayerRow:
    cost = layer.find("update", "random") or layer.find("update", "clustered")
    if cost is None:
        return LayerRow(layer.name, layer.kind, layer.parameters, "not priced", None, None)
    k = max(1, round(DENSITY * layer.parameters))
    piece = [piece for piece in cost.pieces if piece.from_k <= k][-1]
    return LayerRow(layer.name, layer.kind, layer.parameters, cost.origin, piece.c_j, piece.a_j)


def draw_layers(identity: str, title: str, rows: Sequence[LayerRow]) -> Markup:
    """Two panels with logarithmic axes: joules an entry, and joules for opening the layer."""
    rows = rows[:MOST_DRAWN]
    left = min(20 + 6.6 * max((len(_shown(row.name)) for row in rows), default=0), 220.0)
    bottom = _TOP + _ROW * len(rows)
    width = (WIDTH - 92.0 - left - 34.0) / 2
    first = Box(left, _TOP, left + width, bottom)
    second = Box(first.right + 34.0, _TOP, first.right + 34.0 + width, bottom)
    parts: list[Child] = [label(second.right + 10, _TOP - 12, "origin", "title")]
    for box, which, axis in ((first, "c", "joules an entry"), (second, "a", "joules to open it")):
        if all(_estimate(row, which) is None for row in rows):
            parts.append(
                label(box.left + 4, _TOP + 0.5 * _ROW + 4, "none in this cost file", "tick")
            )
            continue
        scale = _scale(rows, which, box)
        parts.append(horizontal_axis(box, scale, short_joules, axis, grid=True))
        parts += [_mark(row, which, scale, place) for place, row in enumerate(rows)]
    for place, row in enumerate(rows):
        y = _TOP + (place + 0.5) * _ROW
        parts.append(label(left - 8, y + 4, _shown(row.name), "row-label end"))
        parts.append(label(second.right + 10, y + 4, row.origin, f"origin {row.origin}"))
    described = (
        f"{len(rows)} layers in the model's order; left the marginal cost of an entry, right the "
        "fixed cost of opening the layer, each with its 95 % interval, and the origin as a word."
    )
    return picture(identity, WIDTH, bottom + _FOOT, title, described, parts)


def _shown(name: str) -> str:
    return name if len(name) <= 30 else f"{name[:14]}…{name[-15:]}"


def _estimate(row: LayerRow, which: str) -> Estimate | None:
    return row.marginal if which == "c" else row.fixed


def _scale(rows: Sequence[LayerRow], which: str, box: Box) -> Scale:
    """Holds all values and intervals; a lower limit of 0 reaches the left edge."""
    found = [each for row in rows if (each := _estimate(row, which)) is not None]
    return scale_over(
        [v for each in found for v in (each.low, each.value, each.high)],
        box.left, box.right, log=True,
    )  # fmt: skip


def _mark(row: LayerRow, which: str, scale: Scale, place: int) -> Markup:
    y = _TOP + (place + 0.5) * _ROW
    estimate = _estimate(row, which)
    if estimate is None:
        return label(scale.start + 4, y + 4, "none" if row.marginal else "not priced", "tick")
    low, high = scale.clipped(max(estimate.low, scale.low)), scale.clipped(estimate.high)
    x = scale.clipped(estimate.value)
    limit = ", below the detection limit" if estimate.below_detection else ""
    tip = (
        f"{row.name}: {joules(estimate.value)} [{joules(estimate.low)}, {joules(estimate.high)}]"
        f", {row.origin}{limit}"
    )
    kind = {"measured": "circle", "modelled": "square"}.get(row.origin, "diamond")
    return el(
        "g",
        el("rect", x=scale.start, y=y - _ROW / 2, width=scale.end - scale.start, height=_ROW,
           class_="hit"),
        line(low, y, high, y, f"whisker {row.origin}"),
        marker(kind, x, y, 4.5, f"dot {row.origin}"),
        class_="tip",
        data_tip=tip,
    )  # fmt: skip
