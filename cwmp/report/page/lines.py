"""Pictures of curves over rounds: accuracy against joules, and the certificate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cwmp.report.page.axes import Scale, percent, scale_over
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
    polyline,
    vertical_axis,
)
from cwmp.report.picture import spread_labels

WIDTH, HEIGHT = 760.0, 420.0
_STEP = 14.0
_MOST_LABELS = 25
_LEAST_SPAN = 0.01
"""Of the y axis, so that rounding errors do not fill it."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A curve ready to be drawn.

    Attributes:
        name: for its end and for hovering.
        method, budget: places in their lists: what toggles hide it, and its marker.
        style: of its method.
        x, y: shape (points,).
        low, high: of y, or ``None``.
        tips: what hovering a point says.
        faint: drawn thin: a control.
        front: whether the front may run over it.
    """

    name: str
    method: int
    budget: int
    style: Style
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    tips: tuple[str, ...]
    faint: bool = False
    front: bool = True


def draw_lines(
    identity: str,
    title: str,
    description: str,
    curves: Sequence[Drawn],
    *,
    x_title: str,
    y_title: str,
    show_x: Callable[[float], str],
    variants: Sequence[str],
    front: bool = False,
    height: float = HEIGHT,
) -> tuple[Markup, dict[str, object]]:
    """The picture, and what the script needs to know of its points.

    Args:
        variants: of ``log`` and ``linear`` x axes; the first is shown.
        front: whether to draw the Pareto front: the best y up to each x.
    """
    longest = max((len(curve.name) for curve in curves), default=0)
    right = WIDTH - min(24 + 7.2 * longest, 270.0)
    box = Box(52.0, 34.0, right, height - 52.0)
    ends = [v for c in curves for v in (*c.y, *_known(c.low), *_known(c.high)) if 0 <= v <= 1]
    low = min(ends, default=0.0)
    y = scale_over([low, max(ends, default=1.0)], box.bottom, box.top)
    middle, half = (y.low + y.high) / 2, max(y.high - y.low, _LEAST_SPAN) / 2
    y = Scale(max(middle - half, 0.0), min(middle + half, 1.0), box.bottom, box.top)
    groups: list[Child] = [vertical_axis(box, y, lambda v: percent(v, 4), y_title)]
    scales: dict[str, object] = {}
    for place, variant in enumerate(variants):
        values = [v for curve in curves for v in curve.x]
        x = scale_over(values, box.left, box.right, log=variant == "log")
        if variant != "log":
            x = Scale(max(x.low, 0.0), x.high, box.left, box.right)
        scales[variant] = {"low": x.low, "high": x.high, "log": x.log}
        content: list[Child] = [horizontal_axis(box, x, show_x, x_title)]
        content += [_curve(curve, x, y) for curve in curves]
        if front:
            d = front_path([c for c in curves if c.front and not c.faint], x, y)
            content.append(el("path", d=d, class_="front"))
        hidden = "variant" if place == 0 else "variant off"
        groups.append(el("g", content, class_=hidden, data_variant=variant))
        groups += _end_labels(curves, x, y, box, variant, hidden)
    groups.append(el("g", class_="pointer", aria_hidden="true"))
    drawing = picture(identity, WIDTH, height, title, description, groups)
    return drawing, _data(identity, curves, scales, y, box, front=front)


def front_path(curves: Sequence[Drawn], x: Scale, y: Scale) -> str:
    """Steps through the best y up to each x, over all points of *curves*."""
    points = sorted((px, -py) for curve in curves for px, py in zip(curve.x, curve.y, strict=True))
    path: list[tuple[float, float]] = []
    best = -1.0
    for px, negative in points:
        if -negative > best:
            if path:
                path.append((x(px), y.clipped(best)))
            best = -negative
            path.append((x(px), y.clipped(best)))
    if path:
        path.append((x(max(px for px, _ in points)), y.clipped(best)))
    return polyline(path)


def _curve(curve: Drawn, x: Scale, y: Scale) -> Markup:
    points = [(x(px), y.clipped(py)) for px, py in zip(curve.x, curve.y, strict=True)]
    parts: list[Child] = []
    if len(points) > 1 and None not in curve.low and None not in curve.high:
        upper = [(p[0], y.clipped(v)) for p, v in zip(points, _known(curve.high), strict=True)]
        lower = [(p[0], y.clipped(v)) for p, v in zip(points, _known(curve.low), strict=True)]
        parts.append(el("path", d=polyline([*upper, *lower[::-1]]) + "Z", class_="band"))
    parts.append(el("path", d=polyline(points), class_="curve",
                    stroke_dasharray=curve.style.dash))  # fmt: skip
    kind = MARKERS[curve.budget % len(MARKERS)]
    end_low, end_high = curve.low[-1], curve.high[-1]
    if end_low is not None and end_high is not None:
        px = points[-1][0]
        parts.append(line(px, y.clipped(end_low), px, y.clipped(end_high), "whisker"))
    parts.append(marker(kind, *points[-1], 5.0, "end"))
    css = f"series {curve.style.css}{' faint off' if curve.faint else ''}"
    return el("g", parts, class_=css, data_m=curve.method, data_b=curve.budget)


def _end_labels(
    curves: Sequence[Drawn], x: Scale, y: Scale, box: Box, variant: str, css: str
) -> list[Child]:
    """Names beside the ends, moved apart, each tied to its end; none where they are too many,
    and none of controls, which only a toggle shows."""
    curves = [curve for curve in curves if not curve.faint]
    if len(curves) > _MOST_LABELS:
        return []
    height = box.bottom - box.top
    wanted = [1 - (y.clipped(curve.y[-1]) - box.top) / height for curve in curves]
    parts: list[Child] = []
    for curve, place in zip(curves, spread_labels(wanted, _STEP / height), strict=True):
        at = box.bottom - place * height
        end_x, end_y = x(curve.x[-1]), y.clipped(curve.y[-1])
        parts.append(
            el(
                "g",
                line(end_x + 6, end_y, box.right + 5, at, "tie"),
                label(box.right + 8, at + 4, curve.name, "end-label"),
                class_=f"series {curve.style.css}",
                data_m=curve.method,
                data_b=curve.budget,
            )
        )
    return [el("g", parts, class_=f"{css} names", data_variant=variant)]


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _data(
    identity: str,
    curves: Sequence[Drawn],
    scales: dict[str, object],
    y: Scale,
    box: Box,
    *,
    front: bool,
) -> dict[str, object]:
    return {
        "id": identity,
        "front": front,
        "box": [box.left, box.top, box.right, box.bottom],
        "x": scales,
        "y": {"low": y.low, "high": y.high},
        "series": [
            {
                "name": curve.name,
                "m": curve.method,
                "b": curve.budget,
                "front": curve.front,
                "x": curve.x,
                "y": curve.y,
                "tips": curve.tips,
            }
            for curve in curves
        ],
    }
