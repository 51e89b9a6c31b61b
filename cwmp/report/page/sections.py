"""The figures of a scenario: accuracy against joules, joules by phase, the certificate."""

from __future__ import annotations

from collections.abc import Sequence

from cwmp.comparison import Mean
from cwmp.report.page.axes import joules, percent, short_joules
from cwmp.report.page.bars import TRAINING, draw_bars, total_of
from cwmp.report.page.lines import Drawn, draw_lines
from cwmp.report.page.markup import Markup, el
from cwmp.report.page.svg import Style, figure, switch, table
from cwmp.report.page.view import Curve, Energy, Point, View

_TABLE_ROUNDS = 11
_LOW = 260.0
"""Of the certificate's picture, whose curves mostly are near 100 %, px."""
Chart = dict[str, object]


def accuracy(view: View, scenario: int, styles: Sequence[Style]) -> tuple[Markup, list[Chart]]:
    """Accuracy against cumulative joules."""
    mine = [curve for curve in view.curves if curve.scenario == scenario]
    curves = [curve for curve in mine if all(_positive(point.spent) for point in curve.points)]
    left_out = [view.name_of(curve) for curve in mine if curve not in curves]
    identity, title = f"accuracy-{scenario}", "Accuracy against cumulative joules"
    if not curves:
        return el("p", "No curve of accuracy against joules: the costs price no phase."), []
    comparable = len({curve.lacks for curve in curves if not _control(view, curve)}) <= 1
    drawn = [_against_joules(view, curve, styles[curve.method]) for curve in curves]
    picture, data = draw_lines(
        identity, title,
        f"Test accuracy of {len(curves)} curves over cumulative joules. {_ends(view, curves)}",
        drawn,
        x_title="cumulative joules, all clients and the server", y_title="test accuracy",
        show_x=short_joules, variants=("log", "linear"), front=comparable,
    )  # fmt: skip
    caption = [
        "Mean over seeds; bands and bars at the ends: 95 % Student interval of the mean. ",
        "Dashed steps: the Pareto front, the best accuracy up to each joule over the curves shown. "
        if comparable
        else "No front: not every curve has the same phases priced. ",
        _lacks(curves),
        f"Without priced joules, and so not drawn: {', '.join(left_out)}. " if left_out else "",
        _origins(curves),
    ]
    rows = [
        (
            view.name_of(curve), str(point.round), joules(_spent(point).value_j),
            _joule_range(_spent(point)), mean_text(point.accuracy),
        )
        for curve in curves
        for point in thinned(curve.points)
    ]  # fmt: skip
    numbers = table(
        f"At most {_TABLE_ROUNDS} rounds of each curve",
        ("curve", "round", "joules so far", "interval of the costs", "accuracy, 95 %"),
        rows,
    )
    controls = switch(identity, (("log", "logarithmic joules"), ("linear", "linear")))
    shown = figure(identity, title, picture, caption, numbers, controls=controls, wide=True)
    return shown, [data]


def phases(view: View, scenario: int) -> Markup:
    """Joules by phase, stacked."""
    curves = [curve for curve in view.curves if curve.scenario == scenario]
    identity, title = f"phases-{scenario}", "Joules by phase"
    picture = draw_bars(identity, title, view, curves)
    swatches = [el("li", _square(f"p{place % 9}"), name) for place, name in enumerate(view.phases)]
    swatches += [
        el("li", _square("p0", origin), origin) for origin in ("measured", "modelled", "assumed")
    ]
    caption = [
        "Joules of a run, mean over seeds, all clients and the server. The line at each bar's end "
        "is the interval of the sum, limits of one cost file added low to low and high to high. "
        "Plain fill: measured; hatched: modelled; dotted with a dashed edge: assumed. ",
        _lacks(curves),
    ]
    rows = []
    for curve in curves:
        cells = [curve.phases.get(name) for name in view.phases]
        rows.append([view.name_of(curve), *map(_energy, cells), _energy(total_of(curve))])
    numbers = table(
        "Joules of a run with interval and origin", ("curve", *view.phases, "sum"), rows
    )
    controls = (
        switch(identity, (("all", "all phases"), ("exchange", "without local training")))
        if TRAINING in view.phases
        else None
    )
    return figure(identity, title, picture, caption, numbers, controls=controls, key=swatches)


def certificate(view: View, scenario: int, styles: Sequence[Style]) -> tuple[Markup, list[Chart]]:
    """Captured over bound, round by round."""
    curves = [
        curve
        for curve in view.curves
        if curve.scenario == scenario and all(p.certificate is not None for p in curve.points)
    ]
    identity, title = f"certificate-{scenario}", "Certificate: captured over the most possible"
    if not curves:
        return el("p", "No certificate: no method of this setting states a bound."), []
    drawn = [_by_round(view, curve, styles[curve.method]) for curve in curves]
    picture, data = draw_lines(
        identity, title, f"Captured over bound of {len(curves)} curves by round; 100 % is optimal.",
        drawn, x_title="round", y_title="captured / bound", show_x=_whole,
        variants=("linear",), height=_LOW,
    )  # fmt: skip
    caption = (
        "Sum of g² that the clients' selections captured, over the bound on what any selection "
        "within the budget could have captured of the same updates; sums over clients, mean over "
        "seeds. Methods that state no bound are not drawn."
    )
    rows = [
        (view.name_of(curve), str(point.round), percent(point.certificate or 0.0, 5))
        for curve in curves
        for point in thinned(curve.points)
    ]
    numbers = table("Certificate by round", ("curve", "round", "captured / bound"), rows)
    return figure(identity, title, picture, caption, numbers, wide=True), [data]


def thinned(points: Sequence[Point]) -> list[Point]:
    """At most `_TABLE_ROUNDS` of *points*, evenly, with the first and the last."""
    last = len(points) - 1
    if last < _TABLE_ROUNDS:
        return list(points)
    places = {round(i * last / (_TABLE_ROUNDS - 1)) for i in range(_TABLE_ROUNDS)}
    return [points[place] for place in sorted(places)]


def mean_text(mean: Mean) -> str:
    """``81.3 % [80.1, 82.5], n = 10``."""
    shown = percent(mean.mean, 4)
    if mean.low is None or mean.high is None:
        return f"{shown}, n = {mean.n}"
    return f"{shown} [{100 * mean.low:.1f}, {100 * mean.high:.1f}], n = {mean.n}"


def _against_joules(view: View, curve: Curve, style: Style) -> Drawn:
    return Drawn(
        name=view.name_of(curve),
        method=curve.method,
        budget=curve.budget,
        style=style,
        x=tuple(_spent(point).value_j for point in curve.points),
        y=tuple(point.accuracy.mean for point in curve.points),
        low=tuple(point.accuracy.low for point in curve.points),
        high=tuple(point.accuracy.high for point in curve.points),
        tips=tuple(
            f"round {p.round}, {mean_text(p.accuracy)}, {_energy(_spent(p))}" for p in curve.points
        ),
        faint=_control(view, curve),
        front=not _control(view, curve),
    )


def _by_round(view: View, curve: Curve, style: Style) -> Drawn:
    values = tuple(point.certificate or 0.0 for point in curve.points)
    nothing = (None,) * len(values)
    return Drawn(
        view.name_of(curve), curve.method, curve.budget, style,
        x=tuple(float(point.round) for point in curve.points), y=values,
        low=nothing, high=nothing,
        tips=tuple(
            f"round {p.round}, {percent(v, 5)} of the bound"
            for p, v in zip(curve.points, values, strict=True)
        ),
        faint=_control(view, curve),
    )  # fmt: skip


def _control(view: View, curve: Curve) -> bool:
    return view.methods[curve.method].control


def _positive(energy: Energy | None) -> bool:
    return energy is not None and energy.value_j > 0


def _spent(point: Point) -> Energy:
    return point.spent or Energy(0.0, 0.0, 0.0, "assumed")


def _ends(view: View, curves: Sequence[Curve]) -> str:
    best = max(curves, key=lambda curve: curve.points[-1].accuracy.mean)
    end = best.points[-1]
    return (
        f"Highest at the end: {view.name_of(best)} with {percent(end.accuracy.mean, 4)} after "
        f"{joules(_spent(end).value_j)}."
    )


def _lacks(curves: Sequence[Curve]) -> str:
    names = dict.fromkeys(name for curve in curves for name in curve.lacks)
    return f"Sums lack {', '.join(names)}: the costs do not price them. " if names else ""


def _origins(curves: Sequence[Curve]) -> str:
    found = dict.fromkeys(_spent(curve.points[-1]).origin for curve in curves)
    return f"Origin of the joules, by the weakest part: {', '.join(found)}."


def _joule_range(energy: Energy) -> str:
    return f"{joules(energy.low_j)} to {joules(energy.high_j)}, {energy.origin}"


def _energy(energy: Energy | None) -> str:
    if energy is None:
        return "not priced"
    if energy.value_j == 0:
        return "0 J"
    return f"{joules(energy.value_j)} ({_joule_range(energy)})"


def _square(*names: str) -> Markup:
    kinds = [" ".join(names[:1]), *(f"over {name}" for name in names[1:])]
    squares = [el("rect", x=0, y=0, width=14, height=12, class_=kind) for kind in kinds]
    return el("svg", squares, class_="swatch", width=14, height=12, aria_hidden="true")


def _whole(value: float) -> str:
    """A tick that counts: nothing between whole numbers."""
    return f"{value:g}" if value == int(value) else ""
