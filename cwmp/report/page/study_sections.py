"""What speaks of the whole study: gains, layers, the table of methods, tests, provenance."""

from __future__ import annotations

from collections.abc import Sequence

from costmodels.costfile import CostFile
from cwmp.report.page.axes import joules, percent, plain_number
from cwmp.report.page.bars import total_of
from cwmp.report.page.layers import DENSITY, MOST_DRAWN, draw_layers, rows_of
from cwmp.report.page.markup import Child, Markup, el
from cwmp.report.page.scatter import draw_pairs, span
from cwmp.report.page.sections import mean_text
from cwmp.report.page.svg import Style, figure, table
from cwmp.report.page.view import Energy, PlainTable, Test, View

_FOLDED = 12
"""Rows beyond which a table of the summary is folded away."""


def gains(view: View, styles: Sequence[Style]) -> Markup:
    """Predicted gain against observed."""
    identity, title = "gain", "Predicted gain against observed"
    notes = el("ul", [el("li", note) for note in view.gain_notes]) if view.gain_notes else None
    if not view.gains:
        said = "Nothing to compare: it takes CWMP and Top-K at the same budget, and their costs."
        return el("section", el("h2", title), el("p", said), notes)
    caption = (
        "Gain: sum of g² that CWMP captures over what Top-K captures at equal joules. Predicted "
        "from the cost file alone, entries taken as Laplace distributed with one scale in all "
        "layers, for the score g²/c whatever score the method has; its interval draws the costs "
        "within theirs. Observed: for each seed the share "
        "that CWMP captured of its own updates over the share that Top-K captured of its own, "
        "sums over clients and rounds; interval: 95 % Student over seeds. After round 1 the two "
        "train different models; the table has round 1 alone, where both stand on the same."
    )
    rows = [
        (
            view.name_of(pair), view.scenarios[pair.scenario],
            span(pair.predicted, pair.predicted_low, pair.predicted_high),
            span(pair.observed.mean, pair.observed.low, pair.observed.high),
            "-" if pair.first is None
            else span(pair.first.mean, pair.first.low, pair.first.high),
            str(pair.observed.n),
        )
        for pair in view.gains
    ]  # fmt: skip
    numbers = table(
        "Captured by CWMP over captured by Top-K",
        ("method", "setting", "predicted", "observed", "round 1 alone", "seeds"),
        rows,
    )
    picture = draw_pairs(identity, title, view, view.gains, styles)
    return el(
        "section", el("h2", title),
        figure(identity, "Captured over Top-K", picture, caption, numbers), notes,
    )  # fmt: skip


def layers(view: View) -> Markup:
    """Cost by layer, one picture a device."""
    parts: list[Child] = [el("h2", "Cost by layer")]
    if not view.costs:
        parts.append(el("p", "No cost file of this study is at hand."))
    for number, (device, costs) in enumerate(view.costs.items()):
        parts.append(_device_layers(number, device, costs))
    return el("section", parts)


def _device_layers(number: int, device: str, costs: CostFile) -> Markup:
    rows = rows_of(costs)
    title = f"{device}: applying an update, {costs.model}"
    more = f" The first {MOST_DRAWN} of {len(rows)} layers are drawn." * (len(rows) > MOST_DRAWN)
    caption = (
        f"By {costs.device} ({costs.meter}). Lines: 95 % intervals; filled circles measured, open "
        f"squares modelled, dashed diamonds assumed. The line E(k) = a + c k of each layer that "
        f"holds where {DENSITY:.0%} of its entries are sent: c left, a right.{more}"
    )
    cells = [
        (
            row.name, row.kind, f"{row.entries:,}",
            "-" if row.marginal is None
            else f"{joules(row.marginal.value)} [{joules(row.marginal.low)}, "
            f"{joules(row.marginal.high)}]",
            "-" if row.fixed is None
            else f"{joules(row.fixed.value)} [{joules(row.fixed.low)}, {joules(row.fixed.high)}]",
            _badge(row.origin),
        )
        for row in rows
    ]  # fmt: skip
    numbers = table(
        f"Update costs of {device}",
        ("layer", "kind", "entries", "an entry", "opening it", "origin"),
        cells,
    )
    identity = f"layers-{number}"
    return figure(identity, title, draw_layers(identity, title, rows), caption, numbers)


def methods(view: View) -> Markup:
    """The table of methods, the tests, and what did not finish."""
    rows = []
    attributes: list[dict[str, object]] = []
    for curve in view.curves:
        end = curve.points[-1]
        rows.append(
            (
                view.methods[curve.method].label, view.budgets[curve.budget],
                view.scenarios[curve.scenario], mean_text(end.accuracy),
                "-" if curve.worst_decile is None else percent(curve.worst_decile, 4),
                _energy(total_of(curve)), _energy(total_of(curve, training=False)),
                _bytes(curve.uplink_bytes),
                "-" if curve.certificate is None else percent(curve.certificate, 4),
            )
        )  # fmt: skip
        attributes.append({"data_row": f"{curve.scenario}-{curve.method}-{curve.budget}"})
    parts: list[Child] = [
        el("h2", "Methods"),
        table(
            "After the last round, means over seeds; joules with the interval and origin of the "
            "costs",
            ("method", "budget", "setting", "accuracy, 95 %", "worst tenth of clients", "joules",
             "without training", "uplink", "certificate"),
            rows,
            attributes=attributes,
        ),
    ]  # fmt: skip
    if view.unfinished:
        parts += [el("h3", "Runs without a result"), _unfinished(view)]
    parts += [el("h3", "Tests"), _tests(view.tests)]
    for each in view.tables:
        parts += [el("h3", each.heading), _more_table(each)]
    return el("section", parts)


def headline(tests: Sequence[Test]) -> Markup | None:
    """The family's tests, above everything else."""
    rows = [
        (test.pair, test.scenario, test.endpoint, _effect(test), _p(test.p_holm), _verdict(test))
        for test in tests
        if test.family
    ]
    if not rows:
        return None
    return table(
        "What was to be tested, named before the runs: the effect with its 95 % interval, and p "
        "after Holm's correction",
        ("comparison", "setting", "endpoint", "effect", "p", "verdict"),
        rows,
    )


def _more_table(each: PlainTable) -> Markup:
    """Open where it is short; else folded away."""
    shown = table(each.caption, each.columns, each.rows)
    if len(each.rows) <= _FOLDED:
        return shown
    return el("details", el("summary", f"{len(each.rows)} rows"), shown)


def _verdict(test: Test) -> Markup:
    return el("span", test.verdict, class_=f"verdict-{test.verdict.replace(' ', '-')}")


def provenance(view: View) -> Markup:
    """Where every number comes from."""
    devices = [
        (
            name, costs.device, costs.meter, _badge(costs.origin), costs.basis,
            ", ".join(f"{key} {value}" for key, value in costs.software.items()) or "-",
        )
        for name, costs in view.costs.items()
    ]  # fmt: skip
    parts: list[Child] = [el("h2", "Provenance")]
    if devices:
        columns = ("name", "device", "meter", "origin", "basis", "software")
        parts.append(table("Devices and their costs", columns, devices))
    facts = [(el("dt", name), el("dd", value)) for name, value in view.facts if value]
    parts += [el("h3", "Runs"), el("dl", facts)]
    for heading, sentences in (("Assumptions", view.assumptions), ("Warnings", view.warnings)):
        if sentences:
            items = [el("li", sentence) for sentence in sentences]
            parts += [el("h3", heading), el("ul", items)]
    parts.append(el("h3", "Absent clients"))
    if view.absences:
        absent = [
            (view.name_of(a), view.scenarios[a.scenario], a.reason, str(a.times), str(a.clients))
            for a in view.absences
        ]
        heads = ("curve", "setting", "reason", "times", "clients")
        parts.append(table("Clients asked in vain, over seeds and rounds", heads, absent))
    else:
        parts.append(el("p", "Every client that was asked took part."))
    return el("section", parts)


def _unfinished(view: View) -> Markup:
    rows = [
        (view.name_of(each), view.scenarios[each.scenario], each.status, each.reason,
         ", ".join(map(str, each.seeds)))
        for each in view.unfinished
    ]  # fmt: skip
    return table(
        "Infeasible, diverged or failed", ("curve", "setting", "status", "reason", "seeds"), rows
    )


def _tests(tests: Sequence[Test]) -> Markup:
    if not tests:
        said = "No tests: the study has no summary yet. Means above are not tested differences."
        return el("p", said)
    inside = [test for test in tests if test.family]
    outside = [test for test in tests if not test.family]
    name = inside[0].family if inside else "none"
    parts: list[Child] = [
        _compared(
            f"Family, named before the runs: {name} ({len(inside)} tests). Effects paired by seed, "
            "95 % bootstrap; p of Wilcoxon's two-sided test, adjusted after Holm within the "
            "family; verdicts outside it follow from intervals and are no tests",
            inside,
        )
    ]
    if outside:
        more = _compared("Verdicts by the 95 % interval; none of these is a test", outside)
        heading = f"{len(outside)} comparisons that are not in the family"
        parts.append(el("details", el("summary", heading), more))
    return el("div", parts)


def _compared(caption: str, tests: Sequence[Test]) -> Markup:
    rows = [
        (
            test.pair, test.scenario, test.endpoint, str(test.n), _effect(test), _p(test.p),
            _p(test.p_holm) if test.family else "not in the family",
            _verdict(test),
            "-" if test.energy_ratio is None else plain_number(test.energy_ratio),
        )
        for test in tests
    ]  # fmt: skip
    heads = ("comparison", "setting", "endpoint", "pairs", "effect, 95 %", "p", "p, Holm",
             "verdict", "joules, ratio")  # fmt: skip
    return table(caption, heads, rows)


def _effect(test: Test) -> str:
    if test.effect is None:
        return "-"
    factor, unit = (100.0, " points") if test.per_cent else (1.0, "")
    shown = f"{factor * test.effect:+.3g}{unit}"
    if test.low is None or test.high is None:
        return shown
    return f"{shown} [{factor * test.low:+.3g}, {factor * test.high:+.3g}]"


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _badge(origin: str) -> Markup:
    return el("span", origin, class_=f"badge {origin}")


def _energy(energy: Energy | None) -> Child:
    if energy is None:
        return "not priced"
    shown = f"{joules(energy.value_j)} [{joules(energy.low_j)}, {joules(energy.high_j)}] "
    return [shown, _badge(energy.origin)]


def _bytes(count: float) -> str:
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"
