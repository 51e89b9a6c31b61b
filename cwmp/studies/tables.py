"""A study as Markdown tables and pictures, for documents that carry results and not data."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from cwmp.conclusion import display_name
from cwmp.studies.endpoints import cumulative_j
from cwmp.studies.runs import EnergyCell, RunFile
from cwmp.studies.spec_parts import Scope
from cwmp.studies.summary import MeanOf, StudyCell, StudySummary, StudyTest
from cwmp.studies.verdicts import points
from profiler.errors import MissingExtraError
from profiler.listing import quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#B8860B", "#56B4E9", "#7A5195", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P")


def markdown(summary: StudySummary) -> str:
    """The whole summary as Markdown: verdicts, warnings, then a table a device and alpha."""
    return "\n".join(_lines(summary)).rstrip() + "\n"


def _lines(summary: StudySummary) -> Iterator[str]:
    spec = summary.spec
    yield f"# {_escaped(spec['name'])}"
    yield ""
    yield _escaped(spec["question"].strip())
    yield ""
    yield (
        f"{summary.done} of {summary.planned} runs; {spec['seeds']} seeds; {spec['model']} on "
        f"{_escaped(spec['data'].partition(':')[0])}, {spec['clients']} clients, "
        f"{spec['rounds']} rounds."
    )
    for title, sentences in (
        ("Verdicts", summary.verdicts),
        ("Controls", tuple(control.sentence for control in summary.controls)),
        ("What to hold against this", summary.warnings),
    ):
        if sentences:
            yield from ("", f"## {title}", "")
            yield from (f"- {_escaped(sentence)}" for sentence in sentences)
    yield from ("", "## Costs", "")
    yield from _table(
        (
            "device",
            "origin",
            "basis",
            "dearest / cheapest",
            "spread over entries",
            "dense",
            "message",
            "opening all layers",
        ),
        (
            (
                each.device if each.kind == each.device else f"{each.device}: {each.kind}",
                each.origin,
                each.basis,
                f"{each.layer_ratio:.3g}",
                f"{each.spread:.3g}",
                quantity(each.dense_j, "J"),
                f"{100 * each.message_share:.2g} %",
                f"{100 * each.opening_share:.2g} %",
            )
            for each in summary.costs
        ),
    )
    for device, alpha in dict.fromkeys((cell.device, cell.alpha) for cell in summary.cells):
        yield from ("", f"## {_escaped(device)}, alpha {alpha:g}", "")
        here = [c for c in summary.cells if (c.device, c.alpha) == (device, alpha)]
        yield from _table(_heads(summary), (_row(cell, summary) for cell in here))
    if summary.tests:
        yield from ("", f"## Comparisons (family: {_escaped(summary.family)})", "")
        yield from _table(
            (
                "device",
                "alpha",
                "method",
                "against",
                "endpoint",
                "difference [95 %]",
                "p",
                "Holm",
                "verdict",
                "joules",
                "targets met sooner / later / unknown",
            ),
            map(_test_row, summary.tests),
        )


def _heads(summary: StudySummary) -> tuple[str, ...]:
    targets = tuple(f"J to {100 * a:g} %" for a in summary.spec["endpoints"]["targets"])
    return ("method", "budget", "n", "accuracy %", "worst decile %", "hypervolume",
            "J exchange", "J total", "declared / budget", *targets, "certificate")  # fmt: skip


def _row(cell: StudyCell, summary: StudySummary) -> tuple[str, ...]:
    name = display_name(cell.method) + (f" ({cell.control})" if cell.control else "")
    if cell.final_accuracy is None:
        how = ", ".join(f"{count} {status}" for status, count in cell.runs.items())
        width = len(_heads(summary)) - 4
        return (name, cell.budget, str(sum(cell.runs.values())), how, *("-" for _ in range(width)))
    targets = {target.accuracy: target for target in cell.targets}
    return (
        name,
        cell.budget,
        str(cell.final_accuracy.n),
        _percent(cell.final_accuracy),
        _percent(cell.worst_decile),
        _plain(cell.hypervolume.get(summary.spec["endpoints"]["joules"])),
        _joules(cell.exchange),
        _joules(cell.total),
        "-" if cell.spent is None else f"{100 * cell.spent:.0f} %",
        *(_target(targets.get(a)) for a in summary.spec["endpoints"]["targets"]),
        "-" if cell.certificate is None else f"{100 * cell.certificate:.2f} %",
    )


def _test_row(test: StudyTest) -> tuple[str, ...]:
    other = display_name(test.other)
    at = test.budget if test.budget == test.other_budget else f"{test.other_budget}"
    is_share = test.endpoint != "hypervolume"
    difference = points(test.difference) if is_share else _plain(test.difference)
    targets = "; ".join(
        f"{100 * s.accuracy:g} %: {s.fewer}/{s.more}/{s.censored}" for s in test.sooner
    )
    return (
        test.device,
        f"{test.alpha:g}",
        f"{display_name(test.method)} {test.budget}",
        f"{other} {at}",
        test.endpoint.replace("_", " "),
        difference,
        f"{test.p:.3g}",
        "-" if test.p_holm is None else f"{test.p_holm:.3g}",
        test.verdict if test.family else f"{test.verdict} (uncorrected)",
        "-" if test.energy_ratio is None else f"x {test.energy_ratio:.3g}",
        targets or "-",
    )


def _target(target: object) -> str:
    from cwmp.studies.summary import Target

    if not isinstance(target, Target):
        return "-"
    median = "not reached" if target.median_j is None else quantity(target.median_j, "J")
    return f"{median} ({target.reached}/{target.n})"


def _percent(mean: MeanOf | None) -> str:
    if mean is None:
        return "-"
    if mean.low is None or mean.high is None:
        return f"{100 * mean.mean:.1f}"
    return f"{100 * mean.mean:.1f} [{100 * mean.low:.1f}, {100 * mean.high:.1f}]"


def _plain(mean: MeanOf | None) -> str:
    if mean is None:
        return "-"
    if mean.low is None or mean.high is None:
        return f"{mean.mean:.3g}"
    return f"{mean.mean:.3g} [{mean.low:.3g}, {mean.high:.3g}]"


def _joules(energy: EnergyCell | None) -> str:
    return "not priced" if energy is None else f"{quantity(energy.value_j, 'J')} {energy.origin}"


def _table(
    heads: Sequence[str], rows: Iterator[Sequence[str]] | map[tuple[str, ...]]
) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(map(_escaped, row))} |"


def _escaped(text: str) -> str:
    """Names come from a file: what Markdown or HTML would act upon is made plain."""
    for letter in "\\|<>`*_[":
        text = text.replace(letter, "\\" + letter)
    return " ".join(text.split())


def pictures(summary: StudySummary, runs: Sequence[RunFile]) -> Iterator[tuple[str, bytes]]:
    """(file name, PNG): accuracy against joules for each device and alpha, and the regime map.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    scope: Scope = summary.spec["endpoints"]["joules"]
    places = dict.fromkeys((cell.device, cell.alpha) for cell in summary.cells)
    for number, (device, alpha) in enumerate(places):
        here = [
            run
            for run in runs
            if (run.labels["device"], run.labels["alpha"]) == (device, alpha)
            and not run.labels["control"]
            and run.status == "finished"
        ]
        if here:
            title = f"{device}, alpha {alpha:g}: {', '.join(_origins(summary, device))} costs"
            yield f"accuracy_{number}.png", _accuracy(here, scope, title)
    regime = _regime(summary)
    if regime is not None:
        yield "regime.png", regime


def _origins(summary: StudySummary, device: str) -> list[str]:
    return sorted({each.origin for each in summary.costs if each.device == device})


def _accuracy(runs: Sequence[RunFile], scope: Scope, title: str) -> bytes:
    """Mean accuracy against mean joules by round, a line a method and budget."""
    figure, axes = _figure((9.0, 5.4))
    methods = dict.fromkeys(run.labels["method"] for run in runs)
    colours = dict(zip(methods, cycle(_COLOURS)))
    budgets = dict.fromkeys(run.labels["budget"] for run in runs)
    markers = dict(zip(budgets, cycle(_MARKERS)))
    for method in methods:
        for budget in budgets:
            mine = [r for r in runs if (r.labels["method"], r.labels["budget"]) == (method, budget)]
            spent = [cumulative_j(run, scope) for run in mine]
            known = [each for each in spent if each is not None]
            if not known or len(known) < len(mine):
                continue
            accuracy = 100 * np.mean([[row.accuracy for row in run.rounds] for run in mine], axis=0)
            axes.plot(
                np.mean(known, axis=0),
                accuracy,
                color=colours[method],
                marker=markers[budget],
                markevery=[-1],
                lw=1.4,
                label=f"{display_name(method)} {budget}",
            )
    axes.set_xscale("log")
    axes.set_xlabel(
        f"cumulative joules ({'all phases' if scope == 'total' else 'all but training'})"
    )
    axes.set_ylabel("test accuracy (%), mean over seeds")
    axes.set_title(title, loc="left", fontsize=10.5)
    if axes.lines:
        axes.legend(fontsize=7.5, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return _png(figure)


def _regime(summary: StudySummary) -> bytes | None:
    """CWMP minus the reference against the spread of costs, a point a device and budget."""
    reference = str(summary.spec["references"][0])
    rows = [t for t in summary.tests if t.endpoint == "final_accuracy" and t.other == reference]
    if not rows:
        return None
    figure, axes = _figure((7.0, 4.6))
    spreads = {each.device: each.spread for each in summary.costs}
    budgets = dict.fromkeys(row.budget for row in rows)
    for budget, colour, marker in zip(budgets, cycle(_COLOURS), cycle(_MARKERS)):
        mine = [row for row in rows if row.budget == budget]
        centre = np.array([100 * row.difference.mean for row in mine])
        low = np.array([100 * (row.difference.low or row.difference.mean) for row in mine])
        high = np.array([100 * (row.difference.high or row.difference.mean) for row in mine])
        axes.errorbar(
            [spreads[row.device] for row in mine],
            centre,
            yerr=(np.maximum(centre - low, 0), np.maximum(high - centre, 0)),
            fmt=marker,
            color=colour,
            capsize=2,
            label=budget,
        )
    axes.axhline(0, color="#8a8a8a", lw=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("spread of costs over entries, exp(2 sd of ln c)")
    axes.set_ylabel(f"final accuracy minus {display_name(reference)}'s (points)")
    axes.legend(title="budget", fontsize=8, frameon=False)
    return _png(figure)


def _figure(size: tuple[float, float]) -> tuple[Figure, Axes]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "the pictures need matplotlib: pip install 'cwmp[report]'"
        ) from error
    figure = Figure(figsize=size, dpi=130, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
