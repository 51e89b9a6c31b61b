"""``cwmp flower``: a job with Flower, simulated or on nodes that talk over sockets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from profiler.console import (
    ExampleCommand,
    ended_by_sigterm,
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
    help="The job, a JSON file; or a finished run's, to run its job again.",
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


@flower.command(
    cls=ExampleCommand, epilog=_UP, short_help="Run the job on nodes of this machine, over sockets."
)
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
@click.option(
    "--cpus",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Of Ray's, for a node at work.",
)
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
    with ended_by_sigterm():
        run = run_job(job, {}, options=RunOptions(engine=engine, seen=_say_round))
    done = len(run.rounds)
    if run.status == "finished" or done:
        run.save(output)
    if run.status != "finished":
        from profiler.errors import RoundError

        raise RoundError(
            f"{run.reason}; rounds 1 to {done} are in {output}" if done else run.reason
        )
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
