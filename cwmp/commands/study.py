"""``cwmp study``: a grid of federated runs from a file, resumed where it stopped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from profiler.console import (
    ExampleCommand,
    Interrupted,
    ended_by_sigterm,
    json_option,
    print_json,
    say,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cwmp.studies.grid import Plan, Planned
    from cwmp.studies.summary import StudySummary
    from cwmp.studies.sweep import Seen

_EPILOG = """
cwmp study examples/studies/digits_small.yaml -o out/digits
cwmp study examples/studies/cifar10_noniid.yaml \\
    --data cifar10:cifar10_small.npz --workers 2 -o out/cifar
"""


@click.command(cls=ExampleCommand, epilog=_EPILOG, no_args_is_help=True)
@click.argument("spec", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder of the study."
)
@click.option("--data", help="In the place of the study's: digits or cifar10:PATH.")
@click.option("--workers", type=int, default=1, show_default=True, help="Processes.")
@click.option("--ray", metavar="ADDRESS", help="Run on a Ray cluster instead; 'local' starts one.")
@click.option("--log", metavar="KIND:PATH", help="Each round to csv:PATH or tensorboard:DIR.")
@click.option(
    "--only",
    multiple=True,
    metavar="KEY=VALUE",
    help="Do only runs of this device, alpha, seed, method, budget or control; repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Check and list the plan; run nothing.")
@click.option("--summary-only", is_flag=True, help="Summarise the runs that are there.")
@json_option
def study(
    spec: Path,
    output: Path,
    data: str | None,
    workers: int,
    ray: str | None,
    log: str | None,
    only: tuple[str, ...],
    dry_run: bool,
    summary_only: bool,
    as_json: bool,
) -> None:
    """Run the study that SPEC describes, and summarise it.

    Runs that are in the folder already are not done again: after an interruption the same
    command goes on. Writes runs/, costs/, summary.json, summary.md and pictures.
    """
    from cwmp.studies.grid import check_partitions, plan_study
    from cwmp.studies.spec import StudySpec
    from cwmp.studies.sweep import collect, open_runs

    plan = plan_study(StudySpec.load(spec), output, spec.resolve().parent, data)
    check_partitions(plan)
    chosen = _chosen(plan, only)
    left = open_runs(output, chosen)
    say(f"{len(plan.tasks)} runs planned, {len(left)} to do ({plan.spec.family.name})")
    if dry_run:
        return
    interrupted = False
    if left and not summary_only:
        try:
            _sweep(chosen, output, workers, ray, log)
        except KeyboardInterrupt:
            interrupted = True
    runs = collect(output, plan.tasks)
    if interrupted:
        say(f"interrupted: {len(runs)} of {len(plan.tasks)} runs are kept in {output}; the same "
            "command goes on")  # fmt: skip
    if not runs:
        if interrupted:
            raise Interrupted
        from profiler.errors import InputError

        raise InputError(f"{output} holds no runs of this study: run it without --summary-only")
    from cwmp.studies.summarising import summarise

    summary = summarise(plan, runs)
    _save(summary, runs, output)
    if as_json:
        print_json(summary.model_dump(mode="json"))
    elif not interrupted:
        _print(summary, output)
    if interrupted:
        raise Interrupted
    if any(control.holds is False for control in summary.controls):
        raise click.exceptions.Exit(1)


def _chosen(plan: Plan, only: Sequence[str]) -> list[Planned]:
    from profiler.errors import InputError

    chosen = list(plan.tasks)
    wanted: dict[str, set[str]] = {}
    for text in only:
        key, equals, value = text.partition("=")
        if not equals or key not in chosen[0].labels:
            keys = ", ".join(chosen[0].labels)
            raise InputError(f"cannot read --only {text!r}: write KEY=VALUE with one of {keys}")
        wanted.setdefault(key, set()).add(value)
    for key, values in wanted.items():
        chosen = [task for task in chosen if str(task.labels[key]) in values]
    if not chosen:
        raise InputError(f"--only {' '.join(only)} leaves no run of the study")
    return chosen


def _sweep(
    tasks: Sequence[Planned], output: Path, workers: int, ray: str | None, log: str | None
) -> None:
    """Run what is left: a bar on a terminal, a line a run elsewhere; a log where one is asked."""
    from contextlib import ExitStack

    from cwmp.report.live import LiveRuns
    from cwmp.studies import sweep as sweeps

    with ExitStack() as stack:
        watchers: list[sweeps.SweepProgress] = [stack.enter_context(LiveRuns()).seen]
        stack.enter_context(ended_by_sigterm())
        if log is not None:
            from cwmp.fl.logs import open_log

            written = open_log(log, append=True)  # the same command goes on
            stack.callback(written.close)
            watchers.append(
                lambda seen: written.round(seen.row, seen.planned.labels) if seen.row else None
            )

        def tell(seen: Seen) -> None:
            for watcher in watchers:
                watcher(seen)

        sweeps.sweep(tasks, output, workers=workers, progress=tell, ray=ray)


def _save(summary: StudySummary, runs: Sequence[Any], output: Path) -> None:
    from cwmp.studies.tables import markdown, pictures
    from profiler.errors import MissingExtraError
    from profiler.files import write_atomic

    summary.save(output / "summary.json")
    write_atomic(output / "summary.md", markdown(summary).encode(), force=True)
    try:
        for name, content in pictures(summary, runs):
            write_atomic(output / name, content, force=True)
    except MissingExtraError as error:
        say(f"pictures skipped: {error}")


def _print(summary: StudySummary, output: Path) -> None:
    for line in (*summary.verdicts, *(control.sentence for control in summary.controls)):
        click.echo(f"- {line}")
    for line in summary.warnings:
        click.echo(f"Note: {line}.")
    click.echo(f"Tables and pictures are in {os.fspath(output)}: summary.md, summary.json.")
