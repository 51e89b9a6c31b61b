"""``cwmp measure``: the joules of a command."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict

import click

from profiler.console import (
    ExampleCommand,
    Interrupted,
    json_option,
    print_json,
    print_table,
    say,
)
from profiler.errors import InputError, MeterError
from profiler.listing import NOT_SEEN, quantity
from profiler.measure import (
    Estimate,
    Repetition,
    as_document,
    check_plan,
    energy_above_rest,
    repeat_measured,
    total_energy,
)
from profiler.meters import find_meter
from profiler.meters.base import EnergyMeter
from profiler.probe import ProbeResult
from profiler.probe import probe as probe_meter

_PROBE_S = 1.0


@click.command(
    cls=ExampleCommand,
    context_settings={"allow_interspersed_args": False},
    epilog="cwmp measure --repeat 5 -- python train.py --epochs 1",
)
@click.option("--meter", "spec", default="auto", show_default=True, help="auto or NAME[:ARGUMENT].")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda:N.")
@click.option("--rails", help="Rails to add up, joined by commas, instead of the counted ones.")
@click.option(
    "--idle-s", default=1.0, show_default=True, help="Rest before each run, to subtract; 0: none."
)
@click.option(
    "--repeat", default=1, show_default=True, type=click.IntRange(min=1), help="Runs to make."
)
@json_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def measure(
    spec: str,
    device: str,
    rails: str | None,
    idle_s: float,
    repeat: int,
    as_json: bool,
    command: tuple[str, ...],
) -> None:
    """Joules of COMMAND, in all and above rest, with an interval over the runs.

    Where the meter fails after the first run, the finished ones are shown, and the exit code is 2.

    COMMAND is run as it stands, without a shell. Its exit code is reported, not passed on. With
    --json its standard output goes to standard error.
    """
    check_plan(repeat, idle_s)
    program = shutil.which(command[0])
    if program is None:
        raise InputError(f"cannot run {command[0]!r}: no such program; check the spelling or PATH")
    names = None if rails is None else [name.strip() for name in rails.split(",")]
    meter = find_meter(spec, device=device, rails=names)
    finished: list[Repetition] = []
    exit_codes: list[int] = []
    stopped: KeyboardInterrupt | MeterError | None = None
    try:
        probed = probe_meter(meter, max_time_s=_PROBE_S)

        def run() -> None:
            exit_codes.append(_run([program, *command[1:]], to_stderr=as_json))

        def done(repetition: Repetition) -> None:
            finished.append(repetition)
            if repeat > 1 and sys.stderr.isatty():
                say(f"run {len(finished)} of {repeat}: {repetition.run.energy_j:.4g} J")

        repeat_measured(run, meter, repeat=repeat, idle_s=idle_s, probe=probed, done=done)
    except (KeyboardInterrupt, MeterError) as cause:
        stopped = cause
        if not finished:
            raise
    finally:
        meter.close()
    del exit_codes[len(finished) :]
    if as_json:
        print_json(_document(command, meter, probed, finished, exit_codes, stopped))
    else:
        _print_measurement(command, meter, finished, exit_codes, stopped)
    if isinstance(stopped, MeterError):
        raise stopped
    if stopped is not None:
        raise Interrupted


def _run(command: Sequence[str], *, to_stderr: bool) -> int:
    try:
        process = subprocess.Popen(command, stdout=sys.stderr if to_stderr else None)
    except OSError as error:
        raise InputError(f"cannot run {command[0]!r}: {error.strerror or error}") from error
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise


def _document(
    command: Sequence[str],
    meter: EnergyMeter,
    probed: ProbeResult,
    finished: Sequence[Repetition],
    exit_codes: Sequence[int],
    stopped: KeyboardInterrupt | MeterError | None,
) -> dict[str, object]:
    info = meter.info
    return {
        "command": list(command),
        "exit_codes": list(exit_codes),
        "interrupted": isinstance(stopped, KeyboardInterrupt),
        "error": str(stopped) if isinstance(stopped, MeterError) else None,
        "meter": info.name,
        "device": info.device,
        "origin": info.origin,
        "rails": list(info.selected),
        "assumptions": list(info.assumptions),
        "scope": list(info.scope),
        "systematic_terms": [asdict(term) for term in info.systematic],
        "probe": probed.as_dict(),
        **as_document(finished),
    }


def _print_measurement(
    command: Sequence[str],
    meter: EnergyMeter,
    finished: Sequence[Repetition],
    exit_codes: Sequence[int],
    stopped: KeyboardInterrupt | MeterError | None,
) -> None:
    info = meter.info
    total, above = total_energy(finished), energy_above_rest(finished)
    duration_s = sum(each.run.duration_s for each in finished) / len(finished)
    rows = [["energy", *_cells(total)]]
    if above is not None:
        rows.append(["above rest", *_cells(above)])
    rows.append(["duration", quantity(duration_s, "s"), ""])
    notes = [
        "",
        f"meter: {info.name} ({info.device}), origin: {info.origin}, "
        f"rails: {' + '.join(info.selected)}",
        *(f"scope: {sentence}" for sentence in info.scope),
        *(f"assumed: {sentence}" for sentence in info.assumptions),
        *(f"beside the interval: {sentence}" for sentence in info.systematic_sentences),
        *dict.fromkeys((*total.remarks, *(above.remarks if above else ()))),
        f"exit code of the command: {', '.join(str(code) for code in exit_codes)}",
    ]
    if total.basis == "edges":
        notes.append(
            "the interval of a single run is that of the counter's steps alone; "
            "--repeat 5 shows how runs differ"
        )
    if stopped is not None:
        why = f"the meter failed ({stopped})" if isinstance(stopped, MeterError) else "interrupted"
        notes.append(f"{why}: only finished runs are shown")
    runs = f"{total.n} run{'s' if total.n > 1 else ''}"
    click.secho(f"{shlex.join(command)} ({runs})", bold=True)
    print_table(
        "",
        ["each run", "mean", f"95 % interval ({total.basis})"],
        rows,
        note="\n".join(notes),
    )


def _cells(estimate: Estimate) -> list[str]:
    if not estimate.half_width:
        return [quantity(estimate.mean, "J"), "unknown"] if estimate.mean else [NOT_SEEN, "-"]
    return [quantity(estimate.mean, "J"), f"+- {quantity(estimate.half_width, 'J')}"]
