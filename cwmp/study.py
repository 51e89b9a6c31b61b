"""A grid of federated runs, methods x budgets x seeds, and what it shows.

Runs of one seed share weights, partition, test set and the order of examples; they differ in
the method and the joules it may declare a round. Sparsifiers are capped at the same joules
(uplink and one update, fixed costs included) and take what fits; dense runs once, at 100 %.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from costmodels.costfile import CostFile
from cwmp.conclusion import conclude, nothing_fits, share_of_dense
from cwmp.config import StudyConfig
from cwmp.fl.algorithms import make_algorithm
from cwmp.fl.charges import Rates
from cwmp.fl.data import input_spec, load_data
from cwmp.fl.engines import make_engine
from cwmp.fl.ledger import Entry, Ledger
from cwmp.fl.models import build_model
from cwmp.fl.partition import dirichlet_partition
from cwmp.fl.rounds import Federation, RoundRecord
from cwmp.fl.training import LocalPlan, Trainer
from cwmp.payload import PayloadLayout
from cwmp.progress import Cell, Progress, Step, Tick
from cwmp.results import RunResult, write_picture, write_results
from cwmp.selectors import make_selector
from cwmp.selectors.costs import SelectionCosts
from cwmp.summarise import (
    comparable_runs,
    compare_methods,
    small_sample_warning,
    summarise_cells,
)
from cwmp.summary import CellSummary, Summary
from profiler.errors import BudgetError, InputError, UpdateError
from profiler.listing import quantity

__all__ = ["Cell", "Progress", "Step", "StudyConfig", "StudyResult", "run_study"]


@dataclass(frozen=True)
class StudyResult:
    """The runs of a study and their summary.

    Attributes:
        config: what was asked for.
        runs: all runs that ended, failed ones included.
        summary: what they show.
    """

    config: StudyConfig
    runs: tuple[RunResult, ...]
    summary: Summary

    def save(
        self, directory: str | Path, *, picture: bytes | None = None, force: bool = False
    ) -> None:
        """Write results, ledger and summary into a folder, and then the picture if there is one.

        Raises:
            OutputExistsError: it holds results and *force* is false.
            OutputError: it cannot be written.
        """
        text = self.summary.model_dump_json(indent=1) + "\n"
        write_results(Path(directory), self.runs, text, force=force)
        if picture is not None:
            write_picture(Path(directory), picture)


def run_study(
    config: StudyConfig, progress: Progress | None = None, *, costs: CostFile | None = None
) -> StudyResult:
    """Run every method at every budget with every seed, in this process.

    A run that diverges, or whose budget turns out to open no layer, is reported with its reason
    and the study goes on. An interruption (Ctrl-C) after the first finished run ends the study
    early: the finished runs are summarised and the summary says so. Before that it is raised.

    Args:
        config: what to run.
        progress: called after each round.
        costs: the cost file, when it is in hand; else it is read from ``config.costs``.

    Raises:
        InputError: an unknown method, model or data, a model that does not fit the data, or an
            unusable alpha or number of clients.
        InputFileError, FileFormatError: data or costs that cannot be read.
        LayerMismatchError: the costs are not this model's.
        BudgetError: a budget above the dense cost, or every run that started found its own too
            small.
        UpdateError: training diverged in every run that started.
    """
    study = _Study(config, costs or CostFile.load(config.costs))
    runs: list[RunResult] = []
    interrupted = False
    try:
        for run in study.runs(progress):
            runs.append(run)
    except KeyboardInterrupt:
        if not any(run.feasible for run in runs):
            raise
        interrupted = True
    study.refuse_if_all_failed(runs)
    return StudyResult(config, tuple(runs), study.summarise(runs, interrupted=interrupted))


class _Study:
    """The parts that all runs share, made and checked before the first one starts."""

    def __init__(self, config: StudyConfig, costs: CostFile) -> None:
        self.config, self.costs = config, costs
        self.failures: list[InputError] = []
        for method in config.rules:
            make_selector(method, _ANY_COSTS)
        self.shape, self.classes = input_spec(config.data)
        trainer = self._trainer(seed=0)
        buffers = trainer.state().buffers
        self.prices = SelectionCosts.from_cost_file(
            costs, trainer.layers, buffer_entries=trainer.buffer_entries
        )
        self.layout = PayloadLayout(
            {layer.name: layer.shape for layer in trainer.layers},
            {name: buffer.shape for name, buffer in buffers.items()},
        )
        self.rates = Rates.of(costs)
        self.cells = tuple(self._cells())
        self.data = load_data(config.data)
        for seed in range(config.seeds):
            dirichlet_partition(self.data.y_train, config.clients, config.alpha, seed)

    def runs(self, progress: Progress | None) -> Iterator[RunResult]:
        """Seed by seed, so that an interruption leaves whole comparisons."""
        started = time.monotonic()
        runs, number = len(self.cells) * self.config.seeds, 0
        for seed in range(self.config.seeds):
            federation = Federation.prepare(
                self._trainer(seed),
                self.data,
                clients=self.config.clients,
                alpha=self.config.alpha,
                rounds=self.config.rounds,
                seed=seed,
            )
            for cell in self.cells:
                number += 1
                yield self._run(federation, cell, Tick(number, runs, started, progress))

    def refuse_if_all_failed(self, runs: Sequence[RunResult]) -> None:
        """Raise the first failure where every run that started failed of the same."""
        kinds = {type(error) for error in self.failures}
        if len(kinds) == 1 and not any(run.feasible for run in runs):
            raise self.failures[0]

    def summarise(self, runs: Sequence[RunResult], *, interrupted: bool) -> Summary:
        resolution = 1 / len(self.data.y_test)
        shared = comparable_runs(runs)
        cells = summarise_cells(shared, resolution)
        comparisons = tuple(
            comparison
            for method in self.config.rules
            if method.startswith("cwmp") and "topk" in self.config.rules
            for comparison in compare_methods(shared, method, "topk", resolution)
        )
        impossible = nothing_fits(cells, self.prices)
        conclusion = conclude(cells, comparisons)
        return Summary(
            created_utc=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            config=self.config.model_dump(mode="json"),
            costs={
                name: getattr(self.costs, name)
                for name in ("device", "meter", "origin", "model", "basis", "created_utc")
            },
            dense_j=self.prices.dense_j,
            interrupted=interrupted,
            table=cells,
            comparisons=comparisons,
            conclusion=(impossible, *conclusion) if impossible else conclusion,
            warnings=tuple(self._warnings(runs, cells, interrupted=interrupted)),
            assumptions=(*ASSUMPTIONS, *self.costs.assumptions),
        )

    def _warnings(
        self, runs: Sequence[RunResult], cells: Sequence[CellSummary], *, interrupted: bool
    ) -> Iterator[str]:
        """What to hold against the summary's numbers."""
        fewest = min((len(cell.seeds) for cell in cells if cell.feasible), default=0)
        small = small_sample_warning(fewest)
        if small:
            yield small
        if interrupted:
            planned = len(self.cells) * self.config.seeds
            seeds = "1 seed" if fewest == 1 else f"{fewest} seeds"
            yield (
                f"interrupted: {len(runs)} of {planned} runs finished and are here; the table is "
                f"over the {seeds} that all its rows have finished"
            )

    def _trainer(self, seed: int) -> Trainer:
        config = self.config
        plan = LocalPlan(config.local_epochs, config.batch_size, config.lr, config.momentum)
        return Trainer(build_model(config.model, self.shape, self.classes, seed), plan)

    def _cells(self) -> Iterator[Cell]:
        for method in self.config.rules:
            if method == "dense":
                yield Cell(method, "100%", self.prices.dense_j)
                continue
            for budget in self.config.parsed_budgets:
                budget_j = budget.joules(self.prices.dense_j)
                yield Cell(method, str(budget), budget_j, self._reason(budget_j))

    def _reason(self, budget_j: float) -> str:
        """Why *budget_j* cannot be spent; raises where no study could be meant."""
        if budget_j >= self.prices.cheapest_j:
            self.prices.check_budget(budget_j)
            return ""
        return (
            f"infeasible: {quantity(budget_j, 'J')} opens no layer: the cheapest single entry "
            f"costs {quantity(self.prices.cheapest_j, 'J')} with its fixed costs, "
            f"{share_of_dense(self.prices.cheapest_j, self.prices)} of the dense cost"
        )

    def _run(self, federation: Federation, cell: Cell, tick: Tick) -> RunResult:
        entries = sum(layer.parameters for layer in federation.trainer.layers)
        head = (cell.method, cell.budget, cell.budget_j, federation.seed)
        if cell.reason:
            return RunResult(*head, (), None, entries, cell.reason)
        try:
            records, ledger = self._rounds(federation, cell, tick)
        except (UpdateError, BudgetError) as error:
            self.failures.append(error)
            return RunResult(*head, (), None, entries, _failure(error, federation.seed))
        return RunResult(*head, records, ledger, entries)

    def _rounds(
        self, federation: Federation, cell: Cell, tick: Tick
    ) -> tuple[tuple[RoundRecord, ...], Ledger]:
        algorithm = make_algorithm(cell.method, self.prices, self.layout, cell.budget_j)
        records: list[RoundRecord] = []
        charged: list[Entry] = []
        for record in make_engine(self.config.engine).run(federation, algorithm):
            records.append(record)
            charged.extend(self.rates.charge(record, cell.method))
            tick(cell, federation, record, charged)
        return tuple(records), Ledger(tuple(charged))


def _failure(error: InputError, seed: int) -> str:
    """A `RunResult.reason`: what kind of failure, with which seed, and what was said."""
    kind = "diverged" if isinstance(error, UpdateError) else "infeasible"
    return f"{kind}: seed {seed}, {str(error).removeprefix(f'{kind}: ')}"


_ANY_COSTS = SelectionCosts.linear({"w": (1,)}, {"w": 1.0})
"""Enough to find out whether a method exists before anything is read."""

ASSUMPTIONS = (
    "downlink: receiving a byte is taken to cost what sending one does",
    "select: a rule that was not profiled is charged as one that does the same work, or as Top-K",
    "update: indices of a selection are priced as random ones",
)
"""What the ledger takes for granted, whatever the cost file."""
