"""A study in sentences, each computed from its numbers: who wins, by whose costs, by how much."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cwmp.conclusion import display_name
from cwmp.studies.grid import Plan
from cwmp.studies.inference import too_few
from cwmp.studies.spec import StudySpec
from cwmp.studies.summary import (
    ControlVerdict,
    DeviceCosts,
    MeanOf,
    StudyCell,
    StudyTest,
    Verdict,
)

_TESTED: dict[Verdict, str] = {
    "better": "wins",
    "worse": "loses",
    "tied": "ties",
    "unknown": "is not told apart",
}
_UNCORRECTED: dict[Verdict, str] = {**_TESTED, "better": "is ahead", "worse": "is behind"}
_UNMATCHED: dict[Verdict, str] = {
    "better": "is more accurate",
    "worse": "is less accurate",
    "tied": "is as accurate",
    "unknown": "is not told apart",
}
_ORDER: tuple[Verdict, ...] = ("better", "tied", "unknown", "worse")
_AREA: dict[Verdict, str] = {"better": "larger", "worse": "smaller"}
_EQUAL_JOULES = 0.01
_UNSPENT = 0.9
"""Share of the budget below which a method has left joules that others spent."""


def verdicts(
    spec: StudySpec,
    costs: Sequence[DeviceCosts],
    cells: Sequence[StudyCell],
    tests: Sequence[StudyTest],
) -> Iterator[str]:
    """A sentence a device, alpha, method of the family and other method, then the family."""
    final = [test for test in tests if test.endpoint == "final_accuracy"]
    groups = dict.fromkeys((t.device, t.alpha, t.method, t.other) for t in final)
    for device, alpha, method, other in groups:
        rows = [
            t
            for t in final
            if (t.device, t.alpha, t.method, t.other) == (device, alpha, method, other)
        ]
        yield (
            f"{device} ({costs_of(device, costs)}), alpha {alpha:g}: {display_name(method)} "
            f"against {display_name(other)}: {_outcomes(rows, spec)}"
            f"{_areas(rows[0], tests, spec)}"
        )
    yield from _nothing_fits(cells)
    own = [test for test in tests if test.family]
    passed = [test for test in own if test.p_holm is not None and test.p_holm <= 0.05]
    planned = len(spec.family_places())
    made = "" if len(own) == planned else f" ({len(own)} could be made)"
    waiting = sum(test.difference.n < spec.seeds for test in own)
    if waiting:
        yield (
            f"family '{spec.family.name}': not decided, {waiting} of {planned} tests wait for seeds"
        )
        return
    yield (
        f"family '{spec.family.name}': {len(passed)} of {planned} tests{made} pass Holm at .05"
        + ("" if passed else ": a null result")
    )


def costs_of(device: str, costs: Sequence[DeviceCosts]) -> str:
    """Origin and spread of the costs of a fleet."""
    kinds = [each for each in costs if each.device == device]
    return "; ".join(
        f"{'' if len(kinds) == 1 else kind.kind + ' '}{kind.origin} costs, spread over entries "
        f"{kind.spread:.3g}, opening all layers {100 * kind.opening_share:.2g} % of dense"
        for kind in kinds
    )


def points(difference: MeanOf) -> str:
    """``+1.20 [+0.30, +2.10] points``."""
    if difference.low is None or difference.high is None:
        return f"{100 * difference.mean:+.2f} points"
    return (
        f"{100 * difference.mean:+.2f} [{100 * difference.low:+.2f}, "
        f"{100 * difference.high:+.2f}] points"
    )


def _outcomes(rows: Sequence[StudyTest], spec: StudySpec) -> str:
    """What came out at which budgets; wins and losses are of the family's tests alone."""
    parts = []
    for verdict in _ORDER:
        for words in (_TESTED, _UNCORRECTED, _UNMATCHED):
            chosen = [r for r in rows if r.verdict == verdict and _words(r, spec) is words]
            if chosen:
                parts.append(f"{words[verdict]} at {', '.join(_one(r, spec) for r in chosen)}")
    return "; ".join(parts)


def _words(row: StudyTest, spec: StudySpec) -> dict[Verdict, str]:
    if not _matched(row, spec):
        return _UNMATCHED
    return _TESTED if row.family else _UNCORRECTED


def _matched(row: StudyTest, spec: StudySpec) -> bool:
    """Whether both had the same joules to declare."""
    return spec.takes_budget(row.method) and spec.takes_budget(row.other)


def _one(row: StudyTest, spec: StudySpec) -> str:
    budget = row.budget if spec.takes_budget(row.method) else row.other_budget
    tested = f"p {row.p:.3g} uncorrected" if row.p_holm is None else f"Holm p {row.p_holm:.3g}"
    ratio = row.energy_ratio
    equal = ratio is not None and abs(ratio - 1) < _EQUAL_JOULES and _matched(row, spec)
    joules = "" if ratio is None or equal else f", {ratio:.3g} x its joules"
    by = "no difference" if row.identical else f"{points(row.difference)}, {tested}"
    return f"{budget} ({by}{joules})"


def _areas(row: StudyTest, tests: Sequence[StudyTest], spec: StudySpec) -> str:
    """Of methods whose joules differ by design: the hypervolume, where both count."""
    if _matched(row, spec):
        return ""
    parts = []
    for test in tests:
        same = (test.device, test.alpha, test.method, test.other)
        if test.endpoint != "hypervolume" or same != (row.device, row.alpha, row.method, row.other):
            continue
        found, p = test.difference, test.p if test.p_holm is None else test.p_holm
        ends = "" if found.low is None else f" [{found.low:+.3g}, {found.high:+.3g}]"
        budget = test.budget if spec.takes_budget(test.method) else test.other_budget
        parts.append(
            f"{_AREA.get(test.verdict, 'not told apart')} at {budget} ({found.mean:+.3g}{ends}, "
            f"{'p' if test.p_holm is None else 'Holm p'} {p:.3g})"
        )
    return f"; joules and accuracy together, hypervolume {', '.join(parts)}" if parts else ""


def _nothing_fits(cells: Sequence[StudyCell]) -> Iterator[str]:
    """Budgets that open no layer, by device."""
    groups: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        if cell.runs.get("infeasible") and not cell.control:
            names = groups.setdefault((cell.device, cell.budget), [])
            if display_name(cell.method) not in names:
                names.append(display_name(cell.method))
    for (device, budget), names in groups.items():
        who = ", ".join(names)
        yield f"{device}: a budget of {budget} is infeasible for {who}: it opens no layer"


def _left_over(cells: Sequence[StudyCell]) -> Iterator[str]:
    """Methods that declare clearly less than they may: what they had to spend is not equal."""
    frugal = [
        f"{display_name(cell.method)} {cell.budget} on {cell.device} ({100 * cell.spent:.0f} %)"
        for cell in cells
        if cell.spent is not None and cell.spent < _UNSPENT and not cell.control
    ]
    if frugal:
        yield f"these declare less than {100 * _UNSPENT:.0f} % of their budget: {', '.join(frugal)}"


def warnings(
    plan: Plan,
    costs: Sequence[DeviceCosts],
    cells: Sequence[StudyCell],
    tests: Sequence[StudyTest],
    controls: Sequence[ControlVerdict],
    done: int,
) -> Iterator[str]:
    """What to hold against the numbers, most serious first."""
    spec = plan.spec
    for control in controls:
        if control.holds is False:
            yield f"a control failed, so that nothing here can be relied on: {control.sentence}"
    if done < len(plan.tasks):
        yield (
            f"{len(plan.tasks) - done} of {len(plan.tasks)} runs are not done: the same command "
            "goes on with them"
        )
    pairs = min((test.difference.n for test in tests if test.family), default=spec.seeds)
    few = too_few(pairs, len(spec.family_places()))
    if few:
        yield few
    yield from _left_over(cells)
    assumed = [each.device for each in costs if each.origin == "assumed"]
    if assumed:
        yield (
            f"costs of {', '.join(dict.fromkeys(assumed))} are assumed: what holds there says when "
            "CWMP would pay, not that any device is like it"
        )
    unsure = [each.device for each in costs if each.origin == "modelled"]
    if unsure:
        yield f"costs of {', '.join(dict.fromkeys(unsure))} are modelled, not measured"
    for word in ("diverged", "failed"):
        hit = [c for c in cells if c.runs.get(word)]
        if hit:
            yield (
                f"{len(hit)} cells have runs that {word} and no mean; the first: {hit[0].method} "
                f"{hit[0].budget} on {hit[0].device}: {hit[0].reason}"
            )
    lacks = sorted({name for c in cells for name, energy in c.phases.items() if energy is None})
    if lacks:
        yield f"joules of {', '.join(lacks)} are not priced: endpoints in joules are left out there"
