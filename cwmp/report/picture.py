"""Accuracy against cumulative joules: one curve a method and budget, its end labelled.

Colours are Okabe and Ito's (2008), told apart by people with colour-blindness; budgets also
differ by marker. Labels stand in a column beside the axes, moved apart where they would
overlap, each tied to its curve's end by a thin line.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import cycle
from math import log10
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from cwmp.comparison import EQUAL_JOULES
from cwmp.conclusion import display_name
from cwmp.curves import Scope
from cwmp.report.curves import Curve, curves_of, describe_origin
from cwmp.results import outcome_of
from cwmp.summarise import kinds_of_total
from profiler.errors import MissingExtraError
from profiler.listing import quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cwmp.study import StudyResult

_INK, _FAINT = "#222222", "#8a8a8a"
_COLOURS = {"cwmp": "#D55E00", "topk": "#0072B2", "random": "#009E73", "dense": "#000000"}
_MORE_COLOURS = ("#CC79A7", "#B8860B", "#56B4E9", "#7A5195")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_LABEL_STEP = 0.052
"""Least distance of two labels, in heights of the axes."""
_LETTER = 0.085
"""Inches that a letter of a label takes, bold ones included."""


def draw(result: StudyResult) -> bytes:
    """The picture as a PNG.

    Two panels: all joules of a run, and the joules that the budgets cap.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "the picture needs matplotlib: pip install 'cwmp[report]'"
        ) from error
    table = result.summary.table
    scopes: tuple[Scope, ...] = ("total", "declared")
    figure = Figure(figsize=(5.6 * len(scopes) + 1.2, 5.2), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(scopes), sharey=True, squeeze=False)[0]
    for axes, scope in zip(panels, scopes, strict=True):
        curves = curves_of(result.runs, table, scope)
        comparable = scope == "declared" or len(kinds_of_total(table)) == 1
        _panel(axes, curves, scope, describe_origin(table, scope), comparable=comparable)
        if scope == scopes[-1]:
            _label_ends(axes, curves)
    panels[0].set_ylabel("test accuracy (%)", color=_INK)
    width = figure.get_figwidth()
    longest = max((len(_label(curve)) for curve in curves), default=0)
    left = 0.12 / width
    title, caption = fill(_title(result), int(11 * width)), fill(_caption(result), int(15 * width))
    figure.suptitle(title, x=left, y=0.98, ha="left", fontsize=12.5, color=_INK)
    figure.text(left, 0.02, caption, ha="left", fontsize=8.5, color="#555555", linespacing=1.4)
    figure.subplots_adjust(
        left=0.62 / width,
        right=1 - (0.3 + _LETTER * longest) / width,
        top=0.88 - 0.04 * title.count("\n"),
        bottom=0.19 + 0.035 * caption.count("\n"),
        wspace=0.06,
    )
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _panel(
    axes: Axes, curves: Sequence[Curve], scope: Scope, origin: str, *, comparable: bool
) -> None:
    """One panel; without a front where the joules of its curves are not *comparable*."""
    colours, markers = _styles(curves)
    for curve in curves:
        colour, marker = colours[curve.method], markers[curve.budget]
        accuracy, spread = 100 * curve.accuracy, 100 * curve.spread
        axes.fill_between(
            curve.joules, accuracy - spread, accuracy + spread, color=colour, alpha=0.09, lw=0
        )
        axes.plot(curve.joules, accuracy, color=colour, lw=1.5, alpha=0.85)
        axes.plot(
            curve.joules[-1],
            accuracy[-1],
            marker=marker,
            ms=8 if curve.on_front else 6.5,
            color=colour,
            mec=_INK if curve.on_front else "white",
            mew=1.4 if curve.on_front else 0.8,
            zorder=6 if curve.on_front else 5,
        )
    if curves and comparable:
        _front(axes, curves)
    axes.set_xscale("log")
    axes.set_ylim(0, 100)
    what = "all phases" if scope == "total" else "declared: uplink and update"
    axes.set_title(f"Joules, {what}", loc="left", fontsize=10.5, color=_INK)
    axes.set_xlabel(f"cumulative joules\n({origin})", color=_INK, fontsize=9.5)
    _joule_ticks(axes)
    axes.grid(axis="y", color="#e4e4e4", lw=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=_INK, labelsize=9)


def _joule_ticks(axes: Axes) -> None:
    """Ticks as ``20 mJ``: 1, 2 and 5 a decade, fewer where they would crowd."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_xlim()
    decades = log10(high / low)
    steps = (1.0, 2.0, 5.0) if decades < 1.6 else (1.0, 3.0) if decades < 2.5 else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _short(value_j: float) -> str:
    """``20 mJ``: a tick needs no decimals that are zero."""
    number, _, unit = quantity(value_j, "J").partition(" ")
    return f"{float(number):g} {unit}"


def _styles(curves: Sequence[Curve]) -> tuple[dict[str, str], dict[str, str]]:
    spare = cycle(_MORE_COLOURS)
    methods = dict.fromkeys(curve.method for curve in curves)
    colours = {method: _COLOURS.get(method) or next(spare) for method in methods}
    budgets = dict.fromkeys(curve.budget for curve in curves)
    return colours, dict(zip(budgets, cycle(_MARKERS), strict=False))


def _front(axes: Axes, curves: Sequence[Curve]) -> None:
    """The Pareto front over all rounds: the best accuracy so far, equal joules taken together."""
    joules = np.concatenate([curve.joules for curve in curves])
    order = np.argsort(joules, kind="stable")
    joules = joules[order]
    best = np.maximum.accumulate(np.concatenate([100 * curve.accuracy for curve in curves])[order])
    equal = np.searchsorted(joules, joules * (1 + EQUAL_JOULES), side="right") - 1
    axes.step(
        joules, best[equal], where="post", color=_INK, lw=1, ls=(0, (4, 3)), zorder=4, alpha=0.7
    )


def _label_ends(axes: Axes, curves: Sequence[Curve]) -> None:
    colours, _ = _styles(curves)
    places = spread_labels([float(curve.accuracy[-1]) for curve in curves], _LABEL_STEP)
    for curve, place in zip(curves, places, strict=True):
        axes.annotate(
            _label(curve),
            xy=(curve.joules[-1], 100 * curve.accuracy[-1]),
            xytext=(1.03, place),
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            fontweight="bold" if curve.on_front else "normal",
            color=colours[curve.method],
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colours[curve.method],
                "lw": 0.6,
                "alpha": 0.5,
                "shrinkA": 1,
                "shrinkB": 4,
            },
        )


def _label(curve: Curve) -> str:
    budget = "" if curve.method == "dense" else f" {curve.budget}"
    return f"{display_name(curve.method)}{budget}"


def spread_labels(wanted: Sequence[float], step: float) -> list[float]:
    """Heights in [0, 1] as near to *wanted* as a least distance of *step* allows, in its order.

    Labels that would overlap form a group that is centred on what its members wanted; where
    all together do not fit, the distance shrinks evenly.
    """
    if not wanted:
        return []
    step = min(step, 1 / max(len(wanted) - 1, 1))
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    groups: list[list[int]] = []
    for i in order:
        groups.append([i])
        while len(groups) > 1 and _bottom(groups[-1], wanted, step) < (
            _bottom(groups[-2], wanted, step) + len(groups[-2]) * step - 1e-9
        ):
            tail = groups.pop()
            groups[-1] += tail
    heights = [0.0] * len(wanted)
    for group in groups:
        for position, i in enumerate(group):
            heights[i] = _bottom(group, wanted, step) + position * step
    return heights


def _bottom(group: Sequence[int], wanted: Sequence[float], step: float) -> float:
    """Where the lowest label of *group* stands, the group kept inside [0, 1]."""
    span = (len(group) - 1) * step
    centre = sum(wanted[i] for i in group) / len(group)
    return min(max(centre - span / 2, 0.0), 1.0 - span)


def _title(result: StudyResult) -> str:
    config = result.config
    shown = max((len(cell.seeds) for cell in result.summary.table if cell.feasible), default=0)
    seeds = "1 seed" if shown == 1 else f"{shown} seeds"
    data = config.data.partition(":")[0]
    return (
        f"Accuracy against joules: {config.model} on {data}, {config.clients} clients, "
        f"Dirichlet {config.alpha:g}, {config.rounds} rounds, {seeds}"
    )


def _caption(result: StudyResult) -> str:
    costs = result.summary.costs
    source = ", ".join(dict.fromkeys((costs["origin"], costs["meter"])))
    text = [
        f"Joules by the cost file of {costs['device']} ({source}).",
        "Bands: ± 1 standard deviation over seeds. Dashed: Pareto front over all rounds. "
        "Ringed: ends that no other curve beats.",
    ]
    if len(kinds_of_total(result.summary.table)) > 1:
        text.append("No front of all phases: not every curve has the same phases priced.")
    absent: dict[tuple[str, str], list[str]] = {}
    for cell in result.summary.table:
        if not cell.feasible:
            failed = outcome_of(cell.reason).capitalize()
            absent.setdefault((failed, cell.budget), []).append(display_name(cell.method))
    text.extend(f"{how} at {b}: {', '.join(names)}." for (how, b), names in absent.items())
    return " ".join(text)
