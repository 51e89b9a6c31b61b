"""Whether the controls of a study came out as they must, and what they show.

uniform
    All entries at one cost: CWMP and Top-K must agree bit for bit in what every round left:
    accuracies, losses, bytes, entries. (What they report as captured is summed in different
    orders and may differ in the last digit.) Anything else
    is an error of this program, and the study says so first.
shuffled, other_device
    Selecting by wrong costs while the ledger charges true ones. They do not hold or fail: the
    difference is what knowing the costs is worth. The budget is the same joules by the wrong
    prices, so that true joules may differ, and are told.
bound
    No selection may capture more of sum g^2 than the LP bound in its own report.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cwmp.studies.grid import Plan
from cwmp.studies.inference import bootstrap_mean
from cwmp.studies.runs import RoundRow, RunFile
from cwmp.studies.summary import ControlVerdict, MeanOf

_SAME = (
    "accuracy",
    "loss",
    "worst_decile",
    "train_loss",
    "uplink_bytes",
    "downlink_bytes",
    "entries_kept",
)
_ROUNDING = 1e-9
_CAPPED = ("uplink", "update")


def control_verdicts(plan: Plan, runs: Sequence[RunFile]) -> Iterator[ControlVerdict]:
    """One verdict for each control that the study asks for."""
    controls = plan.spec.controls
    if controls is None:
        return
    if controls.uniform:
        yield _uniform(runs)
    for control, asked in (
        ("shuffled", controls.shuffled),
        ("other_device", controls.other_device is not None),
    ):
        if asked:
            yield _wrong_costs(control, controls.other_device, runs)
    if controls.bound:
        yield _bound(runs)


def _uniform(runs: Sequence[RunFile]) -> ControlVerdict:
    pairs: dict[tuple[str, int], list[RunFile]] = {}
    for run in _of_control(runs, "uniform"):
        if run.status == "finished":
            pairs.setdefault((run.labels["budget"], run.labels["seed"]), []).append(run)
    compared = [pair for pair in pairs.values() if len(pair) == 2]
    differing = [pair[0].labels for pair in compared if not _agree(*pair)]
    if not compared:
        said, holds = "uniform costs: not run yet, or nothing fits the budgets", None
    elif differing:
        holds, where = False, differing[0]
        said = (
            f"uniform costs: CWMP DIFFERS from Top-K in {len(differing)} of {len(compared)} pairs "
            f"(first: budget {where['budget']}, seed {where['seed']}): a fault of this program"
        )
    else:
        holds = True
        said = (
            f"uniform costs: CWMP equals Top-K bit for bit in all {len(compared)} pairs of runs "
            "(accuracies, losses, bytes and entries of every round)"
        )
    return ControlVerdict(control="uniform", holds=holds, compared=len(compared), sentence=said)


def _agree(one: RunFile, other: RunFile) -> bool:
    def numbers(row: RoundRow) -> tuple[object, ...]:
        return tuple(getattr(row, name) for name in _SAME)

    return list(map(numbers, one.rounds)) == list(map(numbers, other.rounds))


def _wrong_costs(control: str, other: str | None, runs: Sequence[RunFile]) -> ControlVerdict:
    by_place = {_place(run): run for run in runs if run.labels["control"] == ""}
    pairs = [
        (by_place[_place(wrong)], wrong)
        for wrong in _of_control(runs, control)
        if _place(wrong) in by_place
    ]
    whole = [(true, wrong) for true, wrong in pairs if true.status == wrong.status == "finished"]
    name = "costs shuffled over layers" if control == "shuffled" else f"costs of {other}"
    if not whole:
        said = f"{name}: not run yet, or nothing fits the budgets"
        return ControlVerdict(control=control, holds=None, compared=0, sentence=said)
    # budgets of one seed are no independent runs: they are averaged first
    by_seed: dict[int, list[float]] = {}
    for true, wrong in whole:
        gained = true.final_accuracy - wrong.final_accuracy
        by_seed.setdefault(true.labels["seed"], []).append(gained)
    found = bootstrap_mean([sum(each) / len(each) for each in by_seed.values()])
    ratio = _mean(_spent_ratio(true, wrong) for true, wrong in whole)
    interval = (
        ""
        if found.low is None or found.high is None
        else f" [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"
    )
    joules = (
        "" if ratio is None else f", at {ratio:.3g} times their true joules of sending and applying"
    )
    return ControlVerdict(
        control=control,
        holds=None,
        compared=len(whole),
        sentence=(
            f"selecting by true costs instead of {name}: {100 * found.mean:+.2f} points of "
            f"accuracy{interval} over {found.n} seeds{joules}"
        ),
        difference=MeanOf(n=found.n, mean=found.mean, low=found.low, high=found.high),
        energy_ratio=ratio,
    )


def _bound(runs: Sequence[RunFile]) -> ControlVerdict:
    shares = [share for run in runs for share in bound_shares(run)]
    if not shares:
        said = "LP bound: no run says what it captured and could have"
        return ControlVerdict(control="bound", holds=None, compared=0, sentence=said)
    holds = max(shares) <= 1 + _ROUNDING
    said = (
        f"LP bound: {'no' if holds else 'A'} round of {len(shares)} captures more of sum g^2 than "
        f"its bound{'' if holds else f' ({max(shares):.6g} of it): a fault of this program'}"
    )
    return ControlVerdict(control="bound", holds=holds, compared=len(shares), sentence=said)


def bound_shares(run: RunFile) -> list[float]:
    """Captured sum of g^2 over its bound, of each round that states both."""
    return [
        row.captured / row.bound
        for row in run.rounds
        if row.captured is not None and row.bound is not None and row.bound > 0
    ]


def _spent_ratio(one: RunFile, other: RunFile) -> float | None:
    """Joules of the phases that a budget caps, by true costs: wrong ones may overspend it."""
    spent = [_capped_j(run) for run in (one, other)]
    if spent[0] is None or not spent[1]:
        return None
    return spent[0] / spent[1]


def _capped_j(run: RunFile) -> float | None:
    cells = [row.phases.get(phase) for row in run.rounds for phase in _CAPPED]
    if any(cell is None for cell in cells):
        return None
    return sum(cell.value_j for cell in cells if cell is not None)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _of_control(runs: Sequence[RunFile], control: str) -> list[RunFile]:
    return [run for run in runs if run.labels["control"] == control]


def _place(run: RunFile) -> tuple[object, ...]:
    return tuple(run.labels[key] for key in ("device", "alpha", "seed", "method", "budget"))
