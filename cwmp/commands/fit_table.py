"""``cwmp fit TABLE --columns SPEC``: what was found in a table, prices, tests and intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING

from cwmp.commands.fit import price_range, price_text
from cwmp.commands.fit_tests import short
from profiler.console import print_json, print_table, say

if TYPE_CHECKING:
    from costmodels.energymodel import EnergyModel, GroupTest, KindModel
    from costmodels.evaluation.additivity import Additivity
    from costmodels.evaluation.conformal import Width
    from costmodels.evaluation.scores import Coverage, Metric, Scores
    from costmodels.samples import Finding
    from costmodels.tablefit import Estimator

_ALL, _OTHERS = "all rows", "any other (pooled)"
_FIGURES = (
    ("mape", "MAPE", 100.0, " %"),
    ("median_ape", "median error", 100.0, " %"),
    ("bias", "bias of the sum", 100.0, " %"),
    ("r2", "R2", 1.0, ""),
    ("r2_log", "R2 of log", 1.0, ""),
    ("spearman", "Spearman", 1.0, ""),
)


def fit_table(
    table: Path,
    columns: Path,
    output: Path,
    picture: Path | None,
    estimator: Estimator,
    seed: int,
    *,
    force: bool,
    as_json: bool,
) -> None:
    """Read *table* by the spec in *columns*, fit, write *output* and *picture*, and print."""
    from costmodels.fitpicture import check_picture, draw_tested
    from costmodels.tablefit import fit_and_test
    from costmodels.tables import TableSpec, read_samples
    from profiler.errors import InputError
    from profiler.files import refuse_existing

    if picture is not None:
        refuse_existing(picture, force=force)
        check_picture(picture)
        if picture.absolute() == output.absolute():
            raise InputError(f"{picture} is to hold both the model and the picture")
    samples = read_samples(table, TableSpec.load(columns))
    with show_progress(quiet=as_json) as progress:
        model, tested = fit_and_test(samples, estimator=estimator, seed=seed, progress=progress)
    if picture is not None:
        draw_tested(picture, samples, tested, force=force)
    model.save(output, force=force)
    if as_json:
        print_json(model.model_dump(mode="json"))
        return
    print_findings(samples.findings, f"{model.source}: {model.rows} rows are fitted")
    print_energy_model(model)
    say(f"wrote {output}" + ("" if picture is None else f" and {picture}"))


@contextmanager
def show_progress(*, quiet: bool) -> Iterator[Callable[[str], None] | None]:
    """One line on stderr that changes, where that is a terminal; nothing where it is not."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    with console.status("reading") as status:
        yield status.update


def print_findings(findings: tuple[Finding, ...], title: str) -> None:
    """Print what was dropped, repaired and kept though odd, with the first lines of each."""
    if not findings:
        say_text(f"{title}; nothing was dropped or repaired")
        return
    print_table(
        title,
        ["rows", "what", "done", "on line"],
        [
            [str(found.rows), found.what, found.action, ", ".join(map(str, found.examples))]
            for found in findings
        ],
    )


def say_text(text: str) -> None:
    """Print *text* on stdout, broken at the console's width."""
    from rich.console import Console

    Console(highlight=False, markup=False).print(text)


def print_energy_model(model: EnergyModel) -> None:
    """Print prices by kind, corrections, the tests by each grouping, and what intervals are."""
    where = f" on {model.device}" if model.device else ""
    by = f" by {model.meter}" if model.meter else ""
    # one kind's prices are the pooled ones too
    pooled = _OTHERS if model.kinds else _ALL
    kinds = list(model.kinds) if len(model.kinds) == 1 else [*model.kinds, model.pooled]
    print_table(
        f"\nprices{where} (modelled from measurements{by})",
        ["kind", "feature", "price [95 %]", "trained on"],
        [row for kind in kinds for row in _price_rows(kind, pooled)],
        note="\n".join([*_zero_prices(kinds, pooled), *_corrections(model)]),
    )
    columns = 4 if any(report.prices_alone for report in model.tests) else 3
    print_table(
        "\ntests: the rows of a group are predicted by a model that never saw the group",
        ["left out", "figure [95 %]", "this model", "its prices alone"][:columns],
        [row[:columns] for report in model.tests for row in _test_rows(report)],
        note="\n".join(_verdicts(model)),
    )
    if model.additivity is not None:
        _print_additivity(model.additivity)
    print_table(
        "\nintervals of a prediction at 95 %",
        ["kind", "from", "to", "groups", ""],
        _interval_rows(model),
        note="\n".join(f"assumed: {sentence}" for sentence in model.assumptions),
    )


def _price_rows(model: KindModel, pooled: str) -> list[list[str]]:
    shown = [price for price in model.prices if price.high > 0]
    return [
        [
            _kind(model.kind, pooled) if number == 0 else "",
            price.feature,
            price_text(price),
            price_range(price),
        ]
        for number, price in enumerate(shown)
    ]


def _kind(kind: str, pooled: str) -> str:
    return pooled if kind == "*" else kind


def _zero_prices(kinds: list[KindModel], pooled: str) -> list[str]:
    """Features that a kind has and pays nothing for, in every resample."""
    lines = []
    for model in kinds:
        names = [p.feature for p in model.prices if p.high == 0 and p.feature_high > 0]
        if names:
            lines.append(f"{_kind(model.kind, pooled)}: no price for {', '.join(names)}")
    return lines


def _corrections(model: EnergyModel) -> list[str]:
    """Which kinds are corrected by a learned factor, and what it did for left-out groups."""
    lines = []
    for kind in model.kinds:
        found = kind.correction
        if found is None:
            lines.append(f"{kind.kind}: prices alone; no learned factor was shown to help")
        elif found.groups == 0:
            lines.append(f"{kind.kind}: a learned factor as asked for; not tested if it helps")
        else:
            lines.append(
                f"{kind.kind}: a learned factor takes the mean error of left-out groups from "
                f"{100 * found.without:.3g} % to {100 * found.corrected:.3g} % (standard error of "
                f"the difference {100 * found.error:.2g} points, {found.groups} groups)"
            )
    return lines


def _test_rows(report: GroupTest) -> list[list[str]]:
    if report.scores is None:
        return [[report.grouping, "-", "untested", ""]]
    heads = [report.grouping, f"{report.scores.groups} groups"]
    rows = []
    for number, (name, words, scale, unit) in enumerate(_FIGURES):
        head = heads[number] if number < len(heads) else ""
        rows.append(
            [
                head,
                words,
                _metric(report.scores, name, scale, unit),
                ""
                if report.prices_alone is None
                else _metric(report.prices_alone, name, scale, unit),
            ]
        )
    held = report.coverage_90
    rows.append(["", "90 % ones held", "uncalibrated" if held is None else _held(held), ""])
    return rows


def _metric(scores: Scores, name: str, scale: float, unit: str) -> str:
    metric: Metric = getattr(scores, name)
    if metric.value is None:
        return "n/a"
    text = f"{short(metric.value * scale, 3)}{unit}"
    if metric.low is None or metric.high is None:
        return text
    return f"{text} [{metric.low * scale:.3g}, {metric.high * scale:.3g}]"


def _held(held: Coverage) -> str:
    return f"{held.value:.1%} [{held.low:.1%}, {held.high:.1%}]".replace("%", " %")


def _verdicts(model: EnergyModel) -> list[str]:
    lines = []
    for report in model.tests:
        lines.append(report.verdict)
        held = report.coverage_90
        if held is not None:
            lines.append(
                f"90 % intervals held worst for {report.grouping} {held.worst_group}: "
                f"{100 * held.worst_value:.0f} % of {held.worst_rows} rows"
            )
        if report.nested:
            lines.append(f"by {report.grouping} the choice to correct is part of what is tested")
    return lines


def _print_additivity(found: Additivity) -> None:
    from costmodels.evaluation.additivity import LAYERS

    ways = {"plain": found.unscaled, "scaled": found.without_overhead}
    if set(found.chosen) != {LAYERS}:
        ways["overhead"] = found.scores
    print_table(
        "\nwhole models from the sums of their left-out layers",
        ["", *(words for _, words, _, _ in _FIGURES[:3])],
        [
            [name, *(_metric(scores, key, scale, unit) for key, _, scale, unit in _FIGURES[:3])]
            for name, scores in ways.items()
        ],
        note=f"a whole is {_terms(found)}\n{found.verdict}",
    )


def _terms(found: Additivity) -> str:
    """What a whole was fitted as: so many times its layers' sum, and joules a layer."""
    from costmodels.evaluation.additivity import COUNT, LAYERS
    from profiler.units import format_si

    words = []
    for term in found.terms:
        if term.name == LAYERS:
            words.append(f"{term.value:.3g} times the sum of its layers")
        else:
            unit = "a layer" if term.name == COUNT else f"a unit of {term.name}"
            words.append(f"{format_si(term.value, 'J')} {unit}")
    if all(term.name != COUNT for term in found.terms):
        return f"{' and '.join(words)}; no overhead a layer was shown to help"
    return " and ".join(words)


def _interval_rows(model: EnergyModel) -> list[list[str]]:
    from costmodels.estimates import OUTSIDE, width_of

    rows = []
    for kind in model.kinds or (model.pooled,):
        name = kind.kind if model.kinds else _ALL
        rows.append(_interval_row(name, width_of(model, kind.kind)))
        rows.append(_interval_row(f"  {name}, outside", width_of(model, f"{kind.kind}{OUTSIDE}")))
    return [*rows, _interval_row("never seen", model.unseen)] if model.kinds else rows


def _interval_row(name: str, width: Width) -> list[str]:
    return [
        name,
        f"/ {exp(width.below_log):.3g}",
        f"x {exp(width.above_log):.3g}",
        str(width.groups),
        "calibrated" if width.calibrated else "uncalibrated",
    ]
