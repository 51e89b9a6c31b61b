"""``cwmp run``: federated training under joule budgets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill
from typing import TYPE_CHECKING, Any

import click

from profiler.console import (
    ExampleCommand,
    Interrupted,
    force_option,
    json_option,
    print_json,
    print_table,
    say,
)
from profiler.errors import MissingExtraError

if TYPE_CHECKING:
    from cwmp.fl.live import LiveReport
    from cwmp.study import Progress, StudyResult
    from cwmp.summary import CellSummary, Energy

_EPILOG = """
cwmp run --costs costs.json --data digits --model lenet \\
    --budgets 5%,20% -o out
cwmp run --costs costs.json --data cifar10:cifar10.npz --model resnet8 \\
    --rounds 50 -o out
"""


@click.command(cls=ExampleCommand, epilog=_EPILOG)
@click.option("--costs", type=click.Path(path_type=Path), required=True, help="The cost file.")
@click.option("--data", default="digits", show_default=True, help="digits or cifar10:PATH.")
@click.option("--model", default="lenet", show_default=True, help="A name or module:callable.")
@click.option("--clients", type=int, default=10, show_default=True)
@click.option(
    "--alpha", type=float, default=0.1, show_default=True, help="Dirichlet mix of labels."
)
@click.option("--rounds", type=int, default=20, show_default=True)
@click.option("--local-epochs", type=int, default=1, show_default=True)
@click.option("--batch-size", type=int, default=32, show_default=True)
@click.option("--lr", type=float, default=0.05, show_default=True, help="Of local SGD.")
@click.option("--momentum", type=float, default=0.5, show_default=True, help="Of local SGD.")
@click.option(
    "--methods",
    default="dense,topk,random,cwmp",
    show_default=True,
    help="Also cwmp:P,Q for the score |g|^P / c^Q.",
)
@click.option(
    "--budgets",
    default="1%,5%,20%",
    show_default=True,
    help="Joules a client may declare a round: a share of the dense cost, or 2mJ.",
)
@click.option("--seeds", type=int, default=3, show_default=True, help="How many.")
@click.option("--score", default="2,1", show_default=True, help="P,Q of the method cwmp.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder of results."
)
@click.option(
    "--live", is_flag=True, help="Measure the real joules too, and set them against the ledger."
)
@click.option(
    "--meter", "spec", default="auto", show_default=True, help="Of --live: auto or NAME[:ARGUMENT]."
)
@force_option
@json_option
def run(output: Path, force: bool, as_json: bool, live: bool, spec: str, **values: Any) -> None:
    """Train federated under joule budgets and compare methods at equal joules.

    Writes results.parquet, ledger.parquet, summary.json and accuracy_vs_joules.png to the
    output folder. Interrupted, it keeps the finished runs.
    """
    from cwmp.fl.live import warm_up
    from cwmp.results import refuse_results
    from cwmp.study import StudyConfig, run_study

    refuse_results(output, force=force)
    config = StudyConfig.parse(**values)
    with show_progress() as progress:
        if live:
            warm_up(config.data)
            result, report = _measured(lambda: run_study(config, progress), spec)
        else:
            result, report = run_study(config, progress), None
    result.save(output, force=force)
    if as_json:
        measured = {"live": report.as_dict() if report else None} if live else {}
        print_json({**result.summary.model_dump(mode="json"), **measured})
    else:
        print_summary(result)
        if report is not None:
            click.echo(fill(report.sentence(), _width()))
    drawn = save_picture(result, output)
    if not as_json:
        click.echo(f"Results{', ledger and picture' if drawn else ' and ledger'} are in {output}.")
    if result.summary.interrupted:
        raise Interrupted


def _measured(study: Callable[[], StudyResult], spec: str) -> tuple[StudyResult, LiveReport | None]:
    """A study and its real joules; without these, and a line on stderr, where the meter failed."""
    from cwmp.fl.live import LiveReport, watch
    from profiler.meters import find_meter
    from profiler.probe import probe

    meter = find_meter(spec)
    try:
        seen = watch(study, meter, probe=probe(meter))
        result: StudyResult = seen.result
        if seen.repetition is None:
            say(f"not measured: the meter failed: {seen.error}")
            return result, None
        ledgers = [run.ledger for run in result.runs if run.ledger is not None]
        return result, LiveReport.of(meter, seen.repetition, ledgers)
    finally:
        meter.close()


def _width() -> int:
    return min(get_terminal_size().columns, 100)


def print_summary(result: StudyResult) -> None:
    """The table, the conclusion and the warnings, on stdout."""
    from cwmp.report.curves import describe_origin

    summary = result.summary
    rows = [_row(cell) for cell in summary.table]
    print_table(
        "Final accuracy, and joules of a run",
        ("method", "budget", "accuracy %", "joules", "no training", "kept", "certificate"),
        rows,
    )
    width = _width()
    notes = _notes(summary.table, describe_origin(summary.table, "total"))
    for line in (*notes, "", *summary.conclusion, *(f"Note: {w}." for w in summary.warnings)):
        click.echo(fill(line, width))


def _row(cell: CellSummary) -> tuple[str, ...]:
    from cwmp.conclusion import describe_accuracy, display_name
    from cwmp.results import outcome_of

    name = display_name(cell.method)
    if cell.accuracy is None:
        return (name, cell.budget, outcome_of(cell.reason), "-", "-", "-", "-")
    return (
        f"{name} *" if cell.on_front else name,
        cell.budget,
        describe_accuracy(cell.accuracy),
        _joules(cell.total),
        _joules(cell.exchange),
        "-" if cell.kept_fraction is None else _percent(cell.kept_fraction),
        "-" if cell.certificate is None else _percent(cell.certificate),
    )


def _joules(energy: Energy | None) -> str:
    from profiler.listing import quantity

    return "not priced" if energy is None else quantity(energy.value_j, "J")


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _notes(table: tuple[CellSummary, ...], origin: str) -> list[str]:
    from cwmp.conclusion import display_name

    star = "* no round of another row beats this end. " if any(c.on_front for c in table) else ""
    lines = [
        f"Joules: {origin}. {star}Accuracy: mean ± sd over seeds. "
        "Certificate: captured sum of g^2 of the most that any selection captures."
    ]
    failed: dict[tuple[str, str], list[str]] = {}
    for cell in table:
        if cell.reason:
            failed.setdefault((cell.budget, cell.reason), []).append(display_name(cell.method))
    lines.extend(f"{', '.join(n)} at {budget}: {why}." for (budget, why), n in failed.items())
    lacks = dict.fromkeys(phase for c in table if c.total for phase in c.total.lacks)
    if lacks:
        lines.append(f"Joules lack {', '.join(lacks)}: the cost file does not price them.")
    return lines


def save_picture(result: StudyResult, output: Path) -> bool:
    """Draw saved results; the last thing to do, so that no failure of it can cost them."""
    from cwmp.results import write_picture

    picture = picture_of(result)
    if picture is None:
        return False
    write_picture(output, picture)
    return True


def picture_of(result: StudyResult) -> bytes | None:
    """The study as a PNG; without matplotlib none, and a line on stderr says so."""
    from cwmp.report.picture import draw

    try:
        return draw(result)
    except MissingExtraError as error:
        say(f"picture skipped: {error}")
        return None


@contextmanager
def show_progress() -> Iterator[Progress | None]:
    """A bar on stderr where that is a terminal; nothing where it is not."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from cwmp.conclusion import display_name
    from cwmp.study import Step
    from profiler.listing import quantity

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def show(step: Step) -> None:
            done = (step.run - 1) * step.rounds + step.round
            name = f"{display_name(step.cell.method)} {step.cell.budget}"
            text = (
                f"run {step.run}/{step.runs} {name}, round {step.round}/{step.rounds}, "
                f"accuracy {100 * step.accuracy:.1f} %"
                + ("" if step.spent_j is None else f", {quantity(step.spent_j, 'J')}")
            )
            bar.update(task, description=text, total=step.runs * step.rounds, completed=done)

        yield show
