"""``cwmp profile``: measure a model's operations into a trace."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
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
from profiler.errors import InputError, OutputError, OutputExistsError
from profiler.files import refuse_existing
from profiler.journal import journal_path, refuse_unfinished

if TYPE_CHECKING:
    from profiler.trace import Trace

OPERATIONS = ("update", "encode", "send", "select", "train")
ON_DEVICE = ("update", "train")
"""Those that run where --device says; the others are a CPU's work whatever it says."""
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


@click.command(
    cls=ExampleCommand,
    epilog="cwmp profile --model lenet --data digits --max-time 5m -o lenet.parquet",
)
@click.option(
    "--model", "model_name", required=True, help="lenet, resnet8, ... or module:callable."
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The trace.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda:N does the work.")
@click.option("--meter", "spec", default="auto", show_default=True, help="auto or NAME[:ARGUMENT].")
@click.option("--rails", help="Rails to add up, joined by commas, instead of the counted ones.")
@click.option("--data", help="digits or cifar10:PATH: sets input shape and classes.")
@click.option("--input-shape", help="C,H,W of one example, instead of --data's.")
@click.option("--classes", type=click.IntRange(min=1), help="Outputs, instead of --data's.")
@click.option(
    "--operations",
    help=f"Of {','.join(OPERATIONS)}; default: all, and on cuda {','.join(ON_DEVICE)}.",
)
@click.option("--densities", default="1%,5%,20%", show_default=True, help="Kept shares k/n.")
@click.option("--batch-sizes", default="8,32", show_default=True, help="Examples, for train.")
@click.option("--precision", default="5%", show_default=True, help="Of the fitted a and c.")
@click.option("--max-time", help="90, 90s, 10m or 1h: fewer blocks where it does not suffice.")
@click.option("--peer", help="HOST:PORT of a 'cwmp receive' for send, instead of loopback.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("--resume", is_flag=True, help="Go on with OUTPUT.journal.")
@click.option("--identify", is_flag=True, help="Keep host and user name in the trace.")
@force_option
@json_option
def profile(
    model_name: str,
    output: Path,
    device: str,
    spec: str,
    rails: str | None,
    data: str | None,
    input_shape: str | None,
    classes: int | None,
    operations: str | None,
    densities: str,
    batch_sizes: str,
    precision: str,
    max_time: str | None,
    peer: str | None,
    seed: int,
    resume: bool,
    identify: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Measure what a model's updates and training cost, layer by layer.

    Each operation runs against its reference loop, in pairs and random order, until the fixed
    cost a and the slope c reach --precision. OUTPUT ends in .parquet or .csv. Ctrl-C keeps what
    was measured; --resume goes on.
    """
    journal = journal_path(output)
    _refuse_outputs(output, journal, resume=resume, force=force)
    on_gpu = device.startswith("cuda")
    usual = ",".join(ON_DEVICE if on_gpu else OPERATIONS)
    names = _parse_operations(usual if operations is None else operations)
    wanted = [parse_share(part) for part in densities.split(",")]
    batches = _integers(batch_sizes, "--batch-sizes")
    limit_s = None if max_time is None else parse_seconds(max_time)
    relative = parse_share(precision)

    import torch

    from cwmp.fl.models import build_model
    from cwmp.operations import message_operations
    from profiler.layers import layers_of
    from profiler.meters import find_meter
    from profiler.progress import ProgressBar
    from profiler.session import SessionInterrupted, profile_model

    shape, outputs = _input(model_name, data, input_shape, classes)
    model = (
        build_model(model_name, seed=seed)
        if shape is None
        else build_model(model_name, shape, outputs, seed)
    )
    example = None
    if shape is not None:
        generator = torch.Generator().manual_seed(seed)
        example = torch.randn(max(batches), *shape, generator=generator)
    extra = message_operations(model, layers_of(model), wanted, names=names, peer=peer)
    rail_names = None if rails is None else [name.strip() for name in rails.split(",")]
    meter = find_meter(spec, device=device, rails=rail_names)
    interrupted = False
    try:
        with ProgressBar() as bar:
            trace = profile_model(
                model,
                model_name=model_name,
                meter=meter,
                example_input=example,
                operations=[name for name in names if name in ON_DEVICE],
                extra_operations=extra,
                device=device,
                densities=wanted,
                precision=relative,
                max_time_s=limit_s,
                seed=seed,
                journal=journal,
                resume=resume,
                progress=bar,
                identify=identify,
                batch_sizes=batches,
                force=force,
            )
    except SessionInterrupted as stop:
        if stop.trace is None:
            say(f"interrupted before the first block; --resume goes on with {journal}")
            raise Interrupted from None
        trace, interrupted = stop.trace, True
    finally:
        meter.close()
    _save(trace, output, force=force or resume)
    if not interrupted:
        journal.unlink(missing_ok=True)
    _print(trace, output, as_json=as_json)
    if on_gpu and operations is None:
        say(
            "encode, send and select run on the CPU: profile them apart with 'cwmp profile --model "
            f"{model_name} --operations encode,send,select --device cpu -o CPU_TRACE', then price "
            f"both with 'cwmp costs {output} --messages CPU_TRACE'"
        )
    if interrupted:
        say(f"interrupted: {output} holds what was measured; --resume goes on with {journal}")
        raise Interrupted


def parse_share(text: str) -> float:
    """``5%`` or ``0.05`` as 0.05.

    Raises:
        InputError: it is neither.
    """
    number, percent = re.fullmatch(r"\s*(.*?)\s*(%?)\s*", text, re.S).groups()  # type: ignore[union-attr]
    try:
        return float(number) / (100 if percent else 1)
    except ValueError as error:
        raise InputError(f"{text.strip()!r} is not a share such as 5% or 0.05") from error


def parse_seconds(text: str) -> float:
    """``90``, ``90s``, ``1.5m`` or ``1h`` in seconds.

    Raises:
        InputError: it is none of these.
    """
    match = re.fullmatch(r"\s*([0-9.]+)\s*([smh]?)\s*", text)
    try:
        if match is not None:
            return float(match[1]) * _SECONDS[match[2]]
    except ValueError:
        pass
    raise InputError(f"{text!r} is not a time such as 90s, 10m or 1h")


def _parse_operations(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in OPERATIONS]
    if unknown:
        raise InputError(f"unknown operation {unknown[0]!r}; choose from {', '.join(OPERATIONS)}")
    if not names or len(set(names)) != len(names):
        raise InputError("give at least one operation, each once")
    return names


def _integers(text: str, option: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"{option} {text!r} is not whole numbers joined by commas") from error


def _input(
    model: str, data: str | None, input_shape: str | None, classes: int | None
) -> tuple[tuple[int, ...] | None, int]:
    """One example's shape and the number of classes; no shape for a callable that gives none."""
    from cwmp.fl.data import input_spec

    shape: tuple[int, ...] | None = None
    outputs = 10
    if data is not None or ":" not in model:
        shape, outputs = input_spec(data or "digits")
    if input_shape is not None:
        shape = tuple(_integers(input_shape, "--input-shape"))
        if min(shape) < 1:
            raise InputError(f"--input-shape {input_shape!r} has a side below 1")
    return shape, classes or outputs


def _refuse_outputs(output: Path, journal: Path, *, resume: bool, force: bool) -> None:
    from profiler.trace import check_suffix

    check_suffix(output)
    refuse_existing(output, force=force or resume)
    refuse_unfinished(journal, force=resume or force)


def _save(trace: Trace, output: Path, *, force: bool) -> None:
    try:
        trace.save(output, force=force)
    except OutputExistsError:
        raise
    except OSError as error:
        raise OutputError(
            f"cannot write {output}: {error.strerror or error}; free space, then give --resume: "
            f"the blocks are in {journal_path(output)}"
        ) from error


def _print(trace: Trace, output: Path, *, as_json: bool) -> None:
    from cwmp.profile_summary import summarise

    meta, count = trace.metadata, len(trace.blocks)
    try:
        rows = summarise(trace)
    except InputError as error:
        say(str(error))
        rows = ()
    if as_json:
        document: dict[str, Any] = {
            "trace": str(output),
            **{
                name: getattr(meta, name)
                for name in ("model", "device", "meter", "origin", "dropped", "implementations")
            },
            **{name: list(getattr(meta, name)) for name in ("assumptions", "scope", "remarks")},
            "systematic": [asdict(term) for term in meta.systematic],
            "blocks": count,
            "costs": [row.as_json() for row in rows],
        }
        print_json(document)
        return
    shared = sum(layer.name != layer.measured_as for layer in meta.layers)
    notes = [
        "",
        "E(k) = a + c k, marginal, with 95 % intervals; '<' is below detection: the limit",
        f"origin: {meta.origin}; meter: {meta.meter} ({meta.device}); {count} blocks",
        *(f"assumed: {sentence}" for sentence in meta.assumptions),
        *(f"scope: {sentence}" for sentence in meta.scope),
        *(f"beside the intervals: {term.bound}, {term.cause}" for term in meta.systematic),
        *(
            ["beside the intervals: unknown; nothing is published of this meter's gain"]
            if meta.origin == "measured" and not meta.systematic
            else []
        ),
        *([f"{shared} layers share the cells of one of equal signature"] if shared else []),
        *(f"dropped: {number} blocks, {cause}" for cause, number in meta.dropped.items()),
        *meta.remarks,
        f"wrote {output}",
    ]
    print_table(
        f"Energy of {meta.model}, {meta.origin}",
        ["operation", "layer", "fixed a", "slope c", "blocks"],
        [row.as_text() for row in rows],
        note="\n".join(notes),
    )
