"""``cwmp flower``: a job with Flower, simulated or on nodes that talk over sockets."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from profiler.console import (
    ExampleCommand,
    force_option,
    json_option,
    output_option,
    print_json,
    say,
)

if TYPE_CHECKING:
    from cwmp.fl.engines.flower import Runtime
    from cwmp.fl.job import Job
    from cwmp.studies.runs import RoundRow

_UP = """
cwmp flower up --job job.json --nodes 3 --tls -o run.json
"""
_SIMULATE = """
cwmp flower simulate --job job.json -o run.json
"""
_JOB = click.option(
    "--job",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The job, a JSON file.",
)
_DEADLINE = click.option(
    "--deadline",
    "deadline_s",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds after which a client of a round is late.",
)


@click.group()
def flower() -> None:
    """Run a job with Flower; needs the extra cwmp[flower]."""


@flower.command(cls=ExampleCommand, epilog=_UP)
@_JOB
@click.option("--nodes", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--tls", is_flag=True, help="Make certificates and encrypt what nodes say.")
@_DEADLINE
@output_option("The finished run to write.")
@force_option
@json_option
def up(
    path: Path,
    nodes: int,
    tls: bool,
    deadline_s: float | None,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Start a SuperLink and SuperNodes on loopback, run the job, and stop them all.

    Client c is on node c mod NODES. Whatever ends the run, no process is left behind.
    """
    from cwmp.fl.engines.flower_deploy import Deployment

    def told(program: Any) -> None:
        say(f"{program.name} is process {program.process.pid}")

    runtime = Deployment(nodes, tls, started=told)
    _run(path, runtime, deadline_s, output, force, as_json)


@flower.command(cls=ExampleCommand, epilog=_SIMULATE)
@_JOB
@click.option("--nodes", type=click.IntRange(min=1), help="Default: as many as clients.")
@click.option("--cpus", type=float, default=1.0, show_default=True, help="Of Ray's, for a node.")
@_DEADLINE
@output_option("The finished run to write.")
@force_option
@json_option
def simulate(
    path: Path,
    nodes: int | None,
    cpus: float,
    deadline_s: float | None,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Run the job in Flower's simulation, on Ray."""
    from cwmp.fl.engines.flower import Simulation

    _run(path, Simulation(nodes, cpus), deadline_s, output, force, as_json)


def _run(
    path: Path,
    runtime: Runtime,
    deadline_s: float | None,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    from cwmp.fl.engines.flower import FlowerEngine
    from cwmp.fl.engines.flower_app import load_job
    from cwmp.studies.runner import RunOptions, run_job
    from profiler.files import refuse_existing

    refuse_existing(output, force=force)
    job = load_job(path)
    engine = FlowerEngine(job, runtime, deadline_s=deadline_s)
    with _ended_by_sigterm():
        run = run_job(job, {}, options=RunOptions(engine=engine, seen=_say_round))
    if run.status != "finished":
        from profiler.errors import RoundError

        raise RoundError(run.reason)
    run.save(output)
    if as_json:
        print_json(run.model_dump(mode="json"))
    else:
        click.echo(f"Accuracy {100 * run.final_accuracy:.2f} %. The run is in {output}.")


def _say_round(job: Job, row: RoundRow) -> None:
    absent = f", absent: {'; '.join(f'{a.client} {a.reason}' for a in row.absent)}"
    say(
        f"round {row.round} of {job.rounds}: accuracy {100 * row.accuracy:.2f} %"
        f"{absent if row.absent else ''}"
    )


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that it can stop what it started."""

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
