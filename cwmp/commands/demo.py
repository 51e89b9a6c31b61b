"""``cwmp demo``: the whole path on this machine, from a meter to accuracy against joules."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

import click

from profiler.console import (
    ExampleCommand,
    Interrupted,
    force_option,
    json_option,
    print_json,
    say,
)

if TYPE_CHECKING:
    from costmodels.costfile import CostFile
    from costmodels.costmodel import CostModel
    from cwmp.study import StudyResult
    from profiler.meters.base import EnergyMeter, SourceReport
    from profiler.trace import Trace

MODEL, UNSEEN, DATA = "lenet", "mlp", "digits"
NO_GAIN = 1.01
SHARES = (0.02, 0.05, 0.1, 0.2, 0.5)
FILES = ("trace.parquet", "costmodel.json", "costs.json", f"costs-{UNSEEN}.json")


@dataclass(frozen=True, slots=True)
class Scale:
    """How much the demo does."""

    profile_s: float
    densities: tuple[float, ...]
    rounds: int
    seeds: int
    budgets: int


FULL = Scale(profile_s=60.0, densities=(0.01, 0.05, 0.2), rounds=12, seeds=3, budgets=3)
QUICK = Scale(profile_s=12.0, densities=(0.02, 0.2), rounds=3, seeds=2, budgets=1)


@click.command(cls=ExampleCommand, epilog="cwmp demo --quick -o out")
@click.option("--quick", is_flag=True, help="Less of everything: half a minute.")
@click.option("--meter", "spec", default="auto", show_default=True, help="auto or NAME[:ARGUMENT].")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("-o", "--output", default="out", show_default=True, type=click.Path(path_type=Path))
@force_option
@json_option
def demo(quick: bool, spec: str, seed: int, output: Path, force: bool, as_json: bool) -> None:
    """Profile a small CNN here, fit and predict costs, and run CWMP against its peers.

    Federated training is on scikit-learn's handwritten digits, so nothing is downloaded. Trace,
    cost model, cost files, results and picture are left in the output folder.
    """
    from cwmp.commands.run import save_picture
    from cwmp.results import refuse_results
    from profiler.files import refuse_existing
    from profiler.meters import discover, find_meter
    from profiler.session import SessionInterrupted

    refuse_results(output, force=force)
    scale = QUICK if quick else FULL
    tell = _Teller(silent=as_json)
    meter = find_meter(spec)
    output.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        refuse_existing(output / name, force=force)
    (output / "summary.json").unlink(missing_ok=True)  # what says that a folder is complete

    tell.step(1, "Meters")
    tell.meters(discover(), meter)
    tell.step(2, f"Profile of {MODEL}, about {scale.profile_s:.0f} s")
    try:
        trace = _profile(scale, meter, seed)
    except SessionInterrupted as stop:
        if stop.trace is not None:
            stop.trace.save(output / FILES[0], force=force)
            say(f"interrupted: {output / FILES[0]} holds what was measured")
        raise Interrupted from None
    finally:
        meter.close()
    trace.save(output / FILES[0], force=force)

    tell.step(3, "Cost model")
    model, costs, predicted = _price(trace, seed)
    model.save(output / FILES[1], force=force)
    costs.save(output / FILES[2], force=force)
    predicted.save(output / FILES[3], force=force)
    tell.costs(model, costs, predicted)

    tell.step(4, "What the spread of costs allows")
    budgets = choose_budgets(costs, scale.budgets)
    gains = _gains(costs, budgets)
    tell.gains(costs, budgets, gains)

    tell.step(5, f"Federated training on {DATA}, sparsifiers at equal joules")
    result = _train(scale, output / FILES[2], budgets)
    result.save(output, force=force)
    if as_json:
        print_json(_document(trace, costs, budgets, gains, result, output))
    else:
        tell.study(result, output)
    save_picture(result, output)
    if result.summary.interrupted:
        raise Interrupted


def choose_budgets(costs: CostFile, count: int) -> list[str]:
    """Budgets that open a layer, as percentages of the dense cost.

    What a message costs whatever is in it cannot be saved by any selection, so the shares are
    taken of the rest: A + f (dense - A) for the first *count* feasible f of `SHARES`.
    """
    from cwmp.selectors.costs import SelectionCosts

    prices = SelectionCosts.from_cost_file(costs)
    spendable_j = prices.dense_j - prices.message_j
    chosen = [prices.message_j + share * spendable_j for share in SHARES]
    feasible = [budget_j for budget_j in chosen if budget_j >= 1.02 * prices.cheapest_j]
    tenths = [ceil(1000 * budget_j / prices.dense_j) for budget_j in feasible[:count]]
    return [f"{tenth / 10:g}%" for tenth in dict.fromkeys(tenths)]


def _profile(scale: Scale, meter: EnergyMeter, seed: int) -> Trace:
    import torch

    from cwmp.fl.data import input_spec
    from cwmp.fl.models import build_model
    from cwmp.operations import message_operations
    from profiler.layers import layers_of
    from profiler.progress import ProgressBar
    from profiler.session import profile_model

    shape, classes = input_spec(DATA)
    model = build_model(MODEL, shape, classes, seed)
    example = torch.randn(32, *shape, generator=torch.Generator().manual_seed(seed))
    with ProgressBar() as bar:
        return profile_model(
            model,
            model_name=MODEL,
            meter=meter,
            example_input=example,
            extra_operations=message_operations(model, layers_of(model), scale.densities),
            densities=scale.densities,
            max_time_s=scale.profile_s,
            seed=seed,
            progress=bar,
        )


def _price(trace: Trace, seed: int) -> tuple[CostModel, CostFile, CostFile]:
    """The fitted model, the costs as profiled, and predicted ones for a model never profiled."""
    from costmodels import costs_from_trace, fit_cost_model
    from cwmp.fl.data import input_spec
    from cwmp.fl.models import build_model
    from profiler.layers import layers_of

    model = fit_cost_model([trace], seed=seed)
    unseen = build_model(UNSEEN, *input_spec(DATA), seed)
    return model, costs_from_trace(trace), model.predict(layers_of(unseen), UNSEEN)


def _gains(costs: CostFile, budgets: list[str]) -> list[float]:
    from cwmp.gain import predict_gain

    return [predict_gain(costs, "laplace", budget).gain for budget in budgets]


def _train(scale: Scale, costs: Path, budgets: list[str]) -> StudyResult:
    from cwmp.commands.run import show_progress
    from cwmp.study import StudyConfig, run_study

    config = StudyConfig.parse(
        costs=costs,
        data=DATA,
        model=MODEL,
        rounds=scale.rounds,
        seeds=scale.seeds,
        budgets=tuple(budgets),
    )
    with show_progress() as progress:
        return run_study(config, progress)


def _document(
    trace: Trace,
    costs: CostFile,
    budgets: list[str],
    gains: list[float],
    result: StudyResult,
    output: Path,
) -> dict[str, Any]:
    return {
        "output": str(output),
        "meter": trace.metadata.meter,
        "origin": trace.metadata.origin,
        "assumptions": list(trace.metadata.assumptions),
        "blocks": len(trace.blocks),
        "budgets": budgets,
        "predicted_gain": gains,
        "costs": costs.model_dump(mode="json"),
        "summary": result.summary.model_dump(mode="json"),
    }


class _Teller:
    """Prints what the demo finds as it goes; silent under ``--json``."""

    def __init__(self, *, silent: bool) -> None:
        self.silent = silent

    def step(self, number: int, title: str) -> None:
        if not self.silent:
            click.secho(f"\n{number}. {title}", bold=True)

    def say(self, text: str) -> None:
        """One wrapped paragraph."""
        if not self.silent:
            click.echo(textwrap.fill(text, min(get_terminal_size().columns, 100)))

    def meters(self, reports: Sequence[SourceReport], meter: EnergyMeter) -> None:
        for report in reports:
            found = f"{report.device or 'found'}" if report.usable else f"no: {report.cause}"
            self.say(f"{report.source:<9} {found}")
        info = meter.info
        if info.origin == "modelled":
            self.say(
                "No energy counter can be read here: every joule below is modelled, not measured."
            )
        else:
            self.say(f"Measuring {info.device} by {info.name}: {' + '.join(info.selected)}.")

    def costs(self, model: CostModel, costs: CostFile, predicted: CostFile) -> None:
        from cwmp.commands.cost_table import print_costs

        if self.silent:
            return
        print_costs(costs)
        click.echo()
        update = model.find("update")
        error = None if update is None else update.validation.mape
        if error is not None and error.value is not None:
            interval = (
                f" (95 % {100 * error.low:.0f} to {100 * error.high:.0f})"
                if error.low is not None and error.high is not None
                else ""
            )
            self.say(
                f"The pooled cost model misses the update cost of a layer it has not seen by "
                f"{100 * error.value:.0f} %{interval} on average (leave one layer out). With it, "
                f"the {len(predicted.layers)} layers of {predicted.model}, which was not "
                f"profiled, are priced in {FILES[3]}."
            )

    def gains(self, costs: CostFile, budgets: list[str], gains: list[float]) -> None:
        from costmodels import marginal_spread
        from cwmp.bounds import cost_spread
        from cwmp.commands.cost_table import SIGNIFICANT
        from cwmp.selectors.costs import SelectionCosts
        from profiler.units import format_si

        if self.silent:
            return
        prices = SelectionCosts.from_cost_file(costs)
        spread = cost_spread(prices)
        share = prices.message_j / prices.dense_j
        self.say(
            f"Sending and applying everything takes {format_si(prices.dense_j, 'J')} a client and "
            f"round, of which {format_si(prices.message_j, 'J')} ({100 * share:.0f} %) are spent "
            "whatever a message holds. The budgets below share out the rest."
        )
        self.say(
            f"An entry, index and bytes included, costs {format_si(spread.lowest_j, 'J')} to "
            f"{format_si(spread.highest_j, 'J')} by layer; opening a layer is worth "
            f"{spread.fixed_entries:.0f} entries in the median."
        )
        for budget, gain in zip(budgets, gains, strict=True):
            self.say(
                f"At {budget} of the dense cost, CWMP is expected to capture {gain:.2f} x Top-K's "
                "sum of g^2 on Laplace-distributed updates."
            )
        best = max(gains, default=1.0)
        slopes = marginal_spread(costs)
        if slopes.p_equal is not None and slopes.p_equal >= SIGNIFICANT and best >= NO_GAIN:
            self.say(
                "The cost of an entry was not shown to differ between layers: what CWMP uses here "
                "is the fixed cost of opening a layer."
            )
        if best < NO_GAIN:
            self.say(
                "CWMP is expected to gain less than 1 % over Top-K: costs this flat leave it "
                "nothing to win on this device."
            )

    def study(self, result: StudyResult, output: Path) -> None:
        from cwmp.commands.run import print_summary

        print_summary(result)
        click.echo(f"\nTrace, cost model, cost files, results and picture are in {output}/.")
