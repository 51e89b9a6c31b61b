"""What the page shows, whichever folder it was read from: plain values, no markup."""

from __future__ import annotations

from dataclasses import dataclass, field

from costmodels.costfile import CostFile
from cwmp.comparison import Mean


@dataclass(frozen=True, slots=True)
class Energy:
    """Joules, the mean over runs, with the interval and origin that the costs give."""

    value_j: float
    low_j: float
    high_j: float
    origin: str


@dataclass(frozen=True, slots=True)
class Method:
    """A method of the study; a control is one that nobody would choose, run to compare with."""

    name: str
    label: str
    control: bool = False


@dataclass(frozen=True, slots=True)
class Point:
    """The mean over the runs of a curve after one round.

    Attributes:
        round: from 1.
        accuracy: over runs, with its 95 % interval.
        spent: joules up to and with this round; ``None`` where they are not priced.
        certificate: captured over bound of this round; ``None`` where there is no bound.
    """

    round: int
    accuracy: Mean
    spent: Energy | None
    certificate: float | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """One method at one budget in one scenario, over its finished seeds.

    Attributes:
        scenario, method, budget: places in the lists of the `View`.
        seeds: of the runs behind it.
        points: by round.
        phases: joules of the whole run by phase; ``None`` where the costs do not price it.
        lacks: phases that the sums do not hold.
        worst_decile: mean accuracy of the worst tenth of clients at the end.
        uplink_bytes: over clients and rounds, the mean over runs.
        certificate: of the whole run.
    """

    scenario: int
    method: int
    budget: int
    seeds: tuple[int, ...]
    points: tuple[Point, ...]
    phases: dict[str, Energy | None]
    lacks: tuple[str, ...] = ()
    worst_decile: float | None = None
    uplink_bytes: float = 0.0
    certificate: float | None = None


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Runs that gave no curve, and why."""

    scenario: int
    method: int
    budget: int
    status: str
    reason: str
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GainPair:
    """What the costs predicted CWMP to capture over Top-K, and what it did capture.

    Attributes:
        scenario, method, budget: places in the lists of the `View`.
        predicted, predicted_low, predicted_high: the ratio of captured sums of g^2.
        observed: the ratio over a whole run, over seeds.
        first: the same in round 1 alone, where both methods stand on the same model.
    """

    scenario: int
    method: int
    budget: int
    predicted: float
    predicted_low: float | None
    predicted_high: float | None
    observed: Mean
    first: Mean | None


@dataclass(frozen=True, slots=True)
class Test:
    """One comparison, paired by seed.

    Attributes:
        family: of tests that it is of; "" where it only describes, and its verdict is no test.
        effect, low, high: the difference with its 95 % interval.
        p, p_holm: raw, and adjusted in the family.
        energy_ratio: joules of the first over those of the other.
        per_cent: whether the effect is a share, shown in points.
    """

    family: str
    scenario: str
    pair: str
    endpoint: str
    n: int
    effect: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    verdict: str
    energy_ratio: float | None = None
    per_cent: bool = False


@dataclass(frozen=True, slots=True)
class PlainTable:
    """A table that is shown as it is."""

    heading: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class AbsentCount:
    """How often clients were asked in vain, by reason."""

    scenario: int
    method: int
    budget: int
    reason: str
    times: int
    clients: int


@dataclass(frozen=True)
class View:
    """A study as its page shows it.

    Attributes:
        name: of the study.
        about: sentences under the title.
        scenarios: device and mix of labels, as one line each.
        methods, budgets: in the order they are listed.
        curves, unfinished, absences: by scenario, method and budget.
        phases: names, in the order they are stacked.
        costs: the cost file of each device, by name.
        gains, gain_notes: predicted against observed, and why pairs are missing.
        tests: of the summary; empty where it has not been written.
        tables: more tables, of the summary.
        facts: name and value of what must be known to repeat the study.
        assumptions, warnings, conclusions: sentences.
        details: more conclusions, that are folded away.
    """

    name: str
    about: tuple[str, ...]
    scenarios: tuple[str, ...]
    methods: tuple[Method, ...]
    budgets: tuple[str, ...]
    curves: tuple[Curve, ...]
    unfinished: tuple[Unfinished, ...] = ()
    absences: tuple[AbsentCount, ...] = ()
    phases: tuple[str, ...] = ()
    costs: dict[str, CostFile] = field(default_factory=dict)
    gains: tuple[GainPair, ...] = ()
    gain_notes: tuple[str, ...] = ()
    tests: tuple[Test, ...] = ()
    tables: tuple[PlainTable, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    assumptions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    conclusions: tuple[str, ...] = ()
    details: tuple[str, ...] = ()

    def name_of(self, curve: Curve | Unfinished | GainPair | AbsentCount) -> str:
        """Method and budget, as legends write them."""
        budget = self.budgets[curve.budget]
        label = self.methods[curve.method].label
        return label if budget in ("", "100%") else f"{label} {budget}"
