"""Runs of a study brought together: one curve a method, budget and scenario, over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cwmp.comparison import mean_of
from cwmp.conclusion import display_name
from cwmp.fl.ledger import PHASES, weakest
from cwmp.report.page.view import AbsentCount, Curve, Energy, Method, Point
from cwmp.studies.runs import EnergyCell, RoundRow, RunFile

Place = tuple[int, int, int]
"""Scenario, method and budget, as places in their lists."""


@dataclass(frozen=True)
class Grid:
    """The runs by place.

    Attributes:
        scenarios, methods, budgets: in the order they are listed.
        cells: the runs of each place, by seed.
    """

    scenarios: tuple[str, ...]
    methods: tuple[Method, ...]
    budgets: tuple[str, ...]
    cells: dict[Place, list[RunFile]]


def label(run: RunFile, name: str) -> str:
    """What the study calls the run's *name*; else what the job says."""
    value = run.labels.get(name)
    if value is None:
        value = run.job.devices[0].name if name == "device" else getattr(run.job, name, "")
    return f"{value:g}" if isinstance(value, float) else str(value)


def grid_of(runs: Sequence[RunFile], devices: Sequence[str] = ()) -> Grid:
    """Sort *runs* into places; controls are methods of their own, after the others.

    Args:
        devices: in the order to list them; others follow by name.
    """
    rows = [(run, _scenario(run), _method(run), label(run, "budget")) for run in runs]
    rank = {device: place for place, device in enumerate(devices)}
    found = {(rank.get(label(run, "device"), len(rank)), scenario) for run, scenario, *_ in rows}
    scenarios = tuple(scenario for _, scenario in sorted(found))
    methods = tuple(sorted({row[2] for row in rows}, key=_method_order))
    budgets = tuple(sorted({row[3] for row in rows}, key=_budget_order))
    cells: dict[Place, list[RunFile]] = {}
    for run, scenario, method, budget in rows:
        place = scenarios.index(scenario), methods.index(method), budgets.index(budget)
        cells.setdefault(place, []).append(run)
    for members in cells.values():
        members.sort(key=lambda run: run.job.seed)
    return Grid(scenarios, methods, budgets, dict(sorted(cells.items())))


def phases_of(runs: Iterable[RunFile]) -> tuple[str, ...]:
    """The phases that any run names: those of the ledger first, in its order."""
    found = dict.fromkeys(name for run in runs for row in run.rounds for name in row.phases)
    known = [name for name in PHASES if name in found]
    return (*known, *(name for name in found if name not in known))


def curve_of(place: Place, runs: Sequence[RunFile]) -> Curve:
    """The mean over finished *runs*; as many rounds as all of them have."""
    rounds = min(len(run.rounds) for run in runs)
    rows = [[run.rounds[number] for run in runs] for number in range(rounds)]
    names = phases_of(runs)
    worst = [row.worst_decile for row in rows[-1]]
    sums = [bounded(run.rounds[:rounds]) for run in runs]
    return Curve(
        *place,
        seeds=tuple(run.job.seed for run in runs),
        points=tuple(_point(each) for each in rows),
        phases={name: _phase(runs, name) for name in names},
        lacks=tuple(dict.fromkeys(n for run in runs for row in run.rounds for n in row.lacks)),
        worst_decile=None if None in worst else _mean([w for w in worst if w is not None]),
        uplink_bytes=_mean([float(sum(row.uplink_bytes for row in run.rounds)) for run in runs]),
        certificate=None if None in sums else _mean([s for s in sums if s is not None]),
    )


def bounded(rows: Iterable[RoundRow]) -> float | None:
    """Captured over bound, both summed over *rows*; ``None`` where either is missing."""
    captured = bound = 0.0
    for row in rows:
        if row.captured is None or row.bound is None:
            return None
        captured, bound = captured + row.captured, bound + row.bound
    return min(1.0, captured / bound) if bound > 0 else None


def share(rows: Iterable[RoundRow]) -> float | None:
    """Captured of all sum g^2, both summed over *rows*; ``None`` where either is missing."""
    captured = whole = 0.0
    for row in rows:
        if row.captured is None or row.captured_of is None:
            return None
        captured, whole = captured + row.captured, whole + row.captured_of
    return captured / whole if whole > 0 else None


def absences_of(grid: Grid) -> tuple[AbsentCount, ...]:
    """How often each place's clients were asked in vain, by the reason's first words."""
    found: list[AbsentCount] = []
    for place, runs in grid.cells.items():
        reasons: dict[str, list[int]] = {}
        for run in runs:
            for row in run.rounds:
                for absent in row.absent:
                    reasons.setdefault(absent.reason, []).append(absent.client)
        found.extend(
            AbsentCount(*place, why, len(who), len(set(who))) for why, who in reasons.items()
        )
    return tuple(found)


def _point(rows: Sequence[RoundRow]) -> Point:
    certificates = [bounded([row]) for row in rows]
    known = [value for value in certificates if value is not None]
    return Point(
        round=rows[0].round,
        accuracy=mean_of([row.accuracy for row in rows]),
        spent=_energy([row.cumulative for row in rows]),
        certificate=_mean(known) if len(known) == len(rows) else None,
    )


def _phase(runs: Sequence[RunFile], name: str) -> Energy | None:
    """Joules of a phase over each whole run, the mean over runs."""
    sums: list[Energy] = []
    for run in runs:
        cells = [row.phases.get(name) for row in run.rounds]
        known = [cell for cell in cells if cell is not None]
        if len(known) < len(cells):
            return None
        sums.append(_scaled(known, 1.0))
    return _scaled(sums, 1 / len(sums))


def _energy(cells: Sequence[EnergyCell | None]) -> Energy | None:
    known = [cell for cell in cells if cell is not None]
    return _scaled(known, 1 / len(known)) if known and len(known) == len(cells) else None


def _scaled(parts: Sequence[EnergyCell | Energy], factor: float) -> Energy:
    return Energy(
        value_j=factor * sum(part.value_j for part in parts),
        low_j=factor * sum(part.low_j for part in parts),
        high_j=factor * sum(part.high_j for part in parts),
        origin=weakest(part.origin for part in parts),  # type: ignore[misc]
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _scenario(run: RunFile) -> str:
    return f"{label(run, 'device')}, Dirichlet {label(run, 'alpha')}"


def _method(run: RunFile) -> Method:
    name, control = label(run, "method"), str(run.labels.get("control") or "")
    shown = display_name(name)
    return Method(name, f"{shown}, control: {control}" if control else shown, bool(control))


_FIRST = ("cwmp", "topk", "random", "dense")


def _method_order(method: Method) -> tuple[bool, int, str, str]:
    head = method.name.partition("+")[0].partition(":")[0]
    rank = _FIRST.index(head) if head in _FIRST else len(_FIRST)
    return method.control, rank, method.name, method.label


def _budget_order(budget: str) -> tuple[int, float, str]:
    from cwmp.budget import Budget
    from profiler.errors import BudgetError

    try:
        parsed = Budget.parse(budget)
    except BudgetError:
        return 2, 0.0, budget
    return int(not parsed.relative), parsed.amount, budget
