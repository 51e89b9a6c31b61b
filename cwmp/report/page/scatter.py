"""Predicted gain against observed: on the diagonal the prediction came true."""

from __future__ import annotations

from collections.abc import Sequence

from cwmp.report.page.axes import Scale, plain_number, scale_over
from cwmp.report.page.markup import Child, Markup, el
from cwmp.report.page.svg import (
    MARKERS,
    Box,
    Style,
    horizontal_axis,
    label,
    line,
    marker,
    picture,
    vertical_axis,
)
from cwmp.report.page.view import GainPair, View

SIDE = 420.0


def draw_pairs(
    identity: str, title: str, view: View, pairs: Sequence[GainPair], styles: Sequence[Style]
) -> Markup:
    """Points with both intervals, on the same logarithmic scale both ways."""
    ends = [1.0]
    for pair in pairs:
        ends += [pair.predicted, pair.predicted_low or pair.predicted]
        ends += [pair.predicted_high or pair.predicted, pair.observed.mean]
        ends += [v for v in (pair.observed.low, pair.observed.high) if v is not None and v > 0]
    box = Box(52.0, 34.0, SIDE + 52.0, SIDE)
    x = scale_over(ends, box.left, box.right, log=True)
    y = Scale(x.low, x.high, box.bottom, box.top, log=True)
    parts: list[Child] = [
        horizontal_axis(box, x, plain_number, "predicted", grid=True),
        vertical_axis(box, y, plain_number, "observed"),
        line(x(x.low), y(x.low), x(x.high), y(x.high), "front"),
        label(box.right - 4, box.top + 14, "observed more than predicted ↖", "tick end"),
    ]
    for pair in pairs:
        css = f"series tip {styles[pair.method].css}"
        parts.append(
            el("g", _point(pair, x, y), class_=css, data_m=pair.method, data_b=pair.budget,
               data_tip=tip_of(view, pair))
        )  # fmt: skip
    described = (
        f"{len(pairs)} points; a point on the dashed diagonal gained what was predicted, one above "
        "it more, one below it less. 1 is no gain."
    )
    return picture(identity, box.right + 20, SIDE + 56.0, title, described, parts)


def tip_of(view: View, pair: GainPair) -> str:
    """One line of what a point says."""
    return (
        f"{view.name_of(pair)}, {view.scenarios[pair.scenario]}: "
        f"predicted {span(pair.predicted, pair.predicted_low, pair.predicted_high)}, "
        f"observed {span(pair.observed.mean, pair.observed.low, pair.observed.high)}"
    )


def span(value: float, low: float | None, high: float | None) -> str:
    """``1.25 [1.2, 1.31]``, or the value alone."""
    shown = plain_number(value)
    if low is None or high is None:
        return shown
    return f"{shown} [{plain_number(low)}, {plain_number(high)}]"


def _point(pair: GainPair, x: Scale, y: Scale) -> list[Child]:
    at_x, at_y = x.clipped(pair.predicted), y.clipped(pair.observed.mean)
    parts: list[Child] = []
    if pair.predicted_low is not None and pair.predicted_high is not None:
        ends = x.clipped(pair.predicted_low), x.clipped(pair.predicted_high)
        parts.append(line(ends[0], at_y, ends[1], at_y, "whisker"))
    if pair.observed.low is not None and pair.observed.high is not None:
        bottom, top = y.clipped(pair.observed.low), y.clipped(pair.observed.high)
        parts.append(line(at_x, bottom, at_x, top, "whisker"))
    parts.append(marker(MARKERS[pair.budget % len(MARKERS)], at_x, at_y, 5.0, "end"))
    return parts
