"""What a study's ``summary.json`` tells beyond its runs: tests, endpoints, controls, verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cwmp.conclusion import display_name
from cwmp.report.page.axes import joules, percent, plain_number
from cwmp.report.page.view import PlainTable, Test
from cwmp.studies.summary import ControlVerdict, MeanOf, StudyCell, StudySummary, StudyTest, Verdict

_VERDICTS: dict[Verdict, str] = {
    "better": "better",
    "worse": "worse",
    "tied": "tied",
    "unknown": "not told apart",
}
_ENDPOINTS = {"worst_decile": "worst tenth of clients"}
_SHARES = ("final_accuracy", "worst_decile")


@dataclass(frozen=True, slots=True)
class Told:
    """Of the summary, what the page shows; empty where there is none yet."""

    name: str = ""
    question: str = ""
    devices: tuple[str, ...] = ()
    tests: tuple[Test, ...] = ()
    tables: tuple[PlainTable, ...] = ()
    conclusions: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def told(path: Path) -> Told:
    """Read the summary of a study, if it has been written.

    Raises:
        FileFormatError: it is there and is refused.
    """
    return told_of(StudySummary.load(path)) if path.exists() else Told()


def told_of(summary: StudySummary) -> Told:
    """The same of a summary in memory."""
    tables = [_endpoints(summary.cells)] if summary.cells else []
    if summary.controls:
        tables.append(_controls(summary.controls))
    spec = summary.spec
    devices = (each.get("name") for each in spec.get("devices", ()) if isinstance(each, dict))
    return Told(
        name=str(spec.get("name", "")),
        question=" ".join(str(spec.get("question", "")).split()),
        devices=tuple(str(device) for device in devices),
        tests=tuple(_test(test, summary.family) for test in summary.tests),
        tables=tuple(tables),
        # the last sentence is the family's: what the study was made to decide
        conclusions=summary.verdicts[-1:],
        details=summary.verdicts[:-1],
        warnings=summary.warnings,
    )


def _test(test: StudyTest, family: str) -> Test:
    method, other = _named(test.method, test.budget), _named(test.other, test.other_budget)
    return Test(
        family=family if test.family else "",
        scenario=f"{test.device}, Dirichlet {test.alpha:g}",
        pair=f"{method} against {other}",
        endpoint=_ENDPOINTS.get(test.endpoint, test.endpoint.replace("_", " ")),
        n=test.difference.n,
        effect=test.difference.mean,
        low=test.difference.low,
        high=test.difference.high,
        p=test.p,
        p_holm=test.p_holm,
        verdict=_VERDICTS[test.verdict],
        energy_ratio=test.energy_ratio,
        per_cent=test.endpoint in _SHARES,
    )


def _endpoints(cells: tuple[StudyCell, ...]) -> PlainTable:
    scopes = list(dict.fromkeys(scope for cell in cells for scope in cell.hypervolume))
    levels = sorted({target.accuracy for cell in cells for target in cell.targets})
    rows = []
    for cell in cells:
        reached = {target.accuracy: target for target in cell.targets}
        row = [
            _named(cell.method, cell.budget) + (f", control: {cell.control}" * bool(cell.control)),
            f"{cell.device}, Dirichlet {cell.alpha:g}",
            ", ".join(f"{count} {how}" for how, count in cell.runs.items()),
            _share(cell.final_accuracy),
            _share(cell.worst_decile),
            *(_plain(cell.hypervolume.get(scope)) for scope in scopes),
        ]
        for level in levels:
            target = reached.get(level)
            if target is None:
                row.append("-")
            else:
                median = "not reached" if target.median_j is None else joules(target.median_j)
                row.append(f"{median} ({target.reached} of {target.n})")
        rows.append(tuple(row))
    columns = ["method", "setting", "runs", "final accuracy", "worst tenth of clients"]
    columns += [f"hypervolume, {scope}" for scope in scopes]
    columns += [f"joules to {percent(level)}" for level in levels]
    caption = (
        "Endpoints, fixed before the runs: means over seeds with 95 % bootstrap intervals; joules "
        "to an accuracy are the median with censoring, and how many seeds got there"
    )
    return PlainTable("Endpoints", caption, tuple(columns), tuple(rows))


def _controls(controls: tuple[ControlVerdict, ...]) -> PlainTable:
    said = {True: "holds", False: "does not hold", None: "shown, not checked"}
    rows = tuple(
        (each.control, said[each.holds], str(each.compared), each.sentence) for each in controls
    )
    columns = ("control", "outcome", "compared", "what it says")
    return PlainTable("Controls", "Runs that must come out as theory says", columns, rows)


def _named(method: str, budget: str) -> str:
    return display_name(method) if budget in ("", "100%") else f"{display_name(method)} {budget}"


def _share(mean: MeanOf | None) -> str:
    if mean is None:
        return "-"
    shown = percent(mean.mean, 4)
    if mean.low is None or mean.high is None:
        return shown
    return f"{shown} [{100 * mean.low:.1f}, {100 * mean.high:.1f}]"


def _plain(mean: MeanOf | None) -> str:
    if mean is None:
        return "-"
    shown = plain_number(mean.mean)
    if mean.low is None or mean.high is None:
        return shown
    return f"{shown} [{plain_number(mean.low)}, {plain_number(mean.high)}]"
