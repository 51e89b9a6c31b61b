"""What the costs predicted CWMP to gain over Top-K, beside what it gained in the runs.

Predicted: `cwmp.gain.predict_gain` of the device's cost file at the budget, entries Laplace
distributed with one scale in all layers, the interval by drawing the costs within theirs.
Observed: of each seed, ::

    (captured / all sum g^2 of CWMP) / (captured / all sum g^2 of Top-K)

with sums over clients and rounds; each method is taken of its own updates, since after
round 1 the two train different models. Round 1 alone compares the same updates. With feedback
they are e + g, whose distribution is no more Laplace than that of g is.

The prediction is of the rule that maximises sum g^2 within a budget a round: other scores, and the
price that keeps a budget over the run, have pairs only in what is observed, and are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from costmodels.costfile import CostFile
from cwmp.comparison import mean_of
from cwmp.fl.algorithms.setting import MethodName
from cwmp.report.page.grouping import Grid, label, share
from cwmp.report.page.view import GainPair
from cwmp.studies.runs import RunFile
from profiler.errors import CwmpError

_DRAWS, _SEED = 40, 0
_PREDICTED = ((), ("2", "1"), ("fixed",))
"""Arguments of ``cwmp`` that are the rule `predict_gain` is about."""
_Predicted = tuple[float, float | None, float | None]


def pairs_of(
    grid: Grid, costs: dict[str, CostFile]
) -> tuple[tuple[GainPair, ...], tuple[str, ...]]:
    """CWMP, with each feedback, beside the Top-K of its scenario, budget and feedback."""
    pairs: list[GainPair] = []
    notes: dict[str, None] = {}
    cache: dict[tuple[str, str], _Predicted | str] = {}
    places = {
        (scenario, grid.methods[method].name, budget): runs
        for (scenario, method, budget), runs in grid.cells.items()
        if not grid.methods[method].control
    }
    for (scenario, method, budget), runs in grid.cells.items():
        name = grid.methods[method]
        other = places.get((scenario, _topk_of(name.name), budget))
        if name.control or not _weighs(name.name) or other is None:
            continue
        whole = _ratios(runs, other, first=False)
        if not whole:
            continue
        predicted = _predict(runs[0], label(runs[0], "budget"), costs, cache)
        if isinstance(predicted, str):
            notes[f"{grid.scenarios[scenario]}, {grid.budgets[budget]}: {predicted}"] = None
            continue
        first = _ratios(runs, other, first=True)
        pair = GainPair(
            scenario,
            method,
            budget,
            *predicted,
            observed=mean_of(whole),
            first=mean_of(first) if first else None,
        )
        pairs.append(pair)
    return tuple(pairs), tuple(notes)


def _topk_of(name: str) -> str:
    _, plus, feedback = name.partition("+")
    return f"topk{plus}{feedback}"


def _weighs(name: str) -> bool:
    method = MethodName.parse(name)
    return method.name == "cwmp" and method.arguments in _PREDICTED


def _ratios(runs: Sequence[RunFile], others: Sequence[RunFile], *, first: bool) -> list[float]:
    """One ratio a seed that both finished."""
    by_seed = {run.job.seed: run for run in others if run.status == "finished"}
    found = []
    for run in runs:
        other = by_seed.get(run.job.seed)
        if run.status != "finished" or other is None:
            continue
        end = 1 if first else None
        mine, theirs = share(run.rounds[:end]), share(other.rounds[:end])
        if mine is not None and theirs:
            found.append(mine / theirs)
    return found


def _predict(
    run: RunFile, budget: str, costs: dict[str, CostFile],
    cache: dict[tuple[str, str], _Predicted | str],
) -> _Predicted | str:  # fmt: skip
    """The ratio with its interval, or why there is none."""
    devices = run.job.devices
    if len(devices) > 1:
        return "not predicted, the fleet has several kinds of device"
    device = devices[0].name
    if device not in costs:
        return f"not predicted, the costs of {device} are not at hand"
    if (device, budget) not in cache:
        cache[device, budget] = _ratio(costs[device], budget)
    return cache[device, budget]


def _ratio(costs: CostFile, budget: str) -> _Predicted | str:
    import numpy as np

    from cwmp.gain import predict_gain

    try:
        found = predict_gain(
            costs, "laplace", budget, generator=np.random.default_rng(_SEED), draws=_DRAWS
        )
    except CwmpError as error:
        return f"not predicted, {error}"
    return found.ratio.value, found.ratio.low, found.ratio.high
