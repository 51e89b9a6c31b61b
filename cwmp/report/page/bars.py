"""Joules by phase, stacked: one bar a method and budget."""

from __future__ import annotations

from collections.abc import Sequence

from cwmp.fl.ledger import weakest
from cwmp.report.page.axes import joules, scale_over, short_joules
from cwmp.report.page.markup import Child, Markup, el
from cwmp.report.page.svg import Box, horizontal_axis, label, line, picture
from cwmp.report.page.view import Curve, Energy, View

WIDTH, _ROW, _TOP, _FOOT = 760.0, 24.0, 10.0, 56.0
TRAINING = "train"


def draw_bars(identity: str, title: str, view: View, curves: Sequence[Curve]) -> Markup:
    """Two variants: all phases, and all but local training, which often hides the rest."""
    names = [view.name_of(curve) for curve in curves]
    left = min(20 + 6.9 * max(map(len, names), default=0), 280.0)
    shown = [curve for curve in curves if not view.methods[curve.method].control]
    # controls stand below the others and start hidden: the script makes room for them
    curves = [*shown, *(curve for curve in curves if curve not in shown)]
    names = [view.name_of(curve) for curve in curves]
    box = Box(left, _TOP, WIDTH - 92.0, _TOP + _ROW * len(shown))
    groups = [
        _variant(variant, view, curves, names, box, hidden=place > 0)
        for place, variant in enumerate(("all", "exchange"))
    ]
    described = (
        f"{len(curves)} horizontal bars, one a method and budget; segments are joules of a run by "
        "phase, the line at the end is the interval that the costs give the sum."
    )
    drawing = picture(identity, WIDTH, box.bottom + _FOOT, title, described, groups)
    return el("div", drawing, class_="bars", data_pitch=_ROW, data_rows=len(shown))


def total_of(curve: Curve, *, training: bool = True) -> Energy | None:
    """The sum over the phases that are priced; ``None`` when none is."""
    known = [
        cell
        for name, cell in curve.phases.items()
        if cell is not None and (training or name != TRAINING)
    ]
    if not known:
        return None
    return Energy(
        sum(cell.value_j for cell in known),
        sum(cell.low_j for cell in known),
        sum(cell.high_j for cell in known),
        weakest(cell.origin for cell in known),  # type: ignore[misc]
    )


def _variant(
    variant: str,
    view: View,
    curves: Sequence[Curve],
    names: Sequence[str],
    box: Box,
    *,
    hidden: bool,
) -> Markup:
    training = variant == "all"
    totals = [total_of(curve, training=training) for curve in curves]
    ends = [total.high_j for total in totals if total is not None]
    scale = scale_over([0.0, max(ends, default=1.0)], box.left, box.right, zero=True)
    parts: list[Child] = [
        horizontal_axis(box, scale, short_joules, "joules of a run, mean over seeds", grid=True)
    ]
    for row, (curve, total, name) in enumerate(zip(curves, totals, names, strict=True)):
        top = box.top + row * _ROW
        inside: list[Child] = [label(box.left - 8, top + 16, name, "row-label end")]
        at = 0.0
        for place, phase in enumerate(view.phases):
            cell = curve.phases.get(phase)
            if cell is None or cell.value_j == 0 or (phase == TRAINING and not training):
                continue
            inside.append(_segment(scale(at), scale(at + cell.value_j), top, place, phase, cell))
            at += cell.value_j
        if total is not None:
            inside += _interval(total, scale(total.low_j), scale(total.high_j), top)
            inside.append(label(scale(total.high_j) + 8, top + 16, joules(total.value_j), "value"))
        else:
            inside.append(label(box.left + 6, top + 16, "not priced", "value"))
        control = view.methods[curve.method].control
        css = "series off" if control else "series"
        parts.append(
            el("g", inside, class_=css, data_m=curve.method, data_b=curve.budget, data_row=row)
        )
    css = "variant off" if hidden else "variant"
    return el("g", parts, class_=css, data_variant=variant)


def _segment(start: float, end: float, top: float, place: int, phase: str, cell: Energy) -> Markup:
    tip = f"{phase}: {joules(cell.value_j)} [{joules(cell.low_j)}, {joules(cell.high_j)}], "
    tip += cell.origin
    return el(
        "g",
        el("rect", x=start, y=top + 4, width=max(end - start, 0.4), height=_ROW - 8,
           class_=f"p{place % 9}"),
        el("rect", x=start, y=top + 4, width=max(end - start, 0.4), height=_ROW - 8,
           class_=f"over {cell.origin}"),
        class_="tip",
        data_tip=tip,
    )  # fmt: skip


def _interval(total: Energy, low: float, high: float, top: float) -> list[Child]:
    middle = top + _ROW / 2
    return [
        line(low, middle, high, middle, "whisker"),
        line(low, middle - 3, low, middle + 3, "whisker"),
        line(high, middle - 3, high, middle + 3, "whisker"),
    ]
