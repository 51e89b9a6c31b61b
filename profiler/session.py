"""Profile a model: one driver over probe, sizing, pilot and main stage.

::

    meter = find_meter("auto")
    trace = profile_model(model, model_name="net", meter=meter, example_input=images[:8])
    trace.save("net.parquet")
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.design import pilot_counts
from profiler.errors import CwmpError, InputError
from profiler.gauge import Gauge
from profiler.host import describe_host, git_revision, software_versions
from profiler.journal import Journal, Measured, check_same, refuse_unfinished
from profiler.layers import LayerInfo, layers_of
from profiler.meters.base import EnergyMeter, MeterInfo
from profiler.operations import UpdateOperation, check_densities, check_device
from profiler.pace import Pace
from profiler.progress import Report
from profiler.stages import Session, Settings
from profiler.subject import Subject
from profiler.threads import thread_count, threads_for
from profiler.workloads import Operation, place_of_work

if TYPE_CHECKING:
    import torch
    from torch import nn

    from profiler.trace import Trace

OPERATIONS = ("update", "train")
"""The operations that this package measures by itself; others are passed in as instances."""

_PROBE_S = 3.0


class SessionInterrupted(KeyboardInterrupt):
    """Ctrl-C during a session. ``trace`` is what was measured, ``None`` before the first block."""

    def __init__(self, trace: Trace | None) -> None:
        super().__init__("the profiling session was interrupted")
        self.trace = trace


def profile_model(
    model: nn.Module,
    *,
    model_name: str,
    meter: EnergyMeter,
    example_input: torch.Tensor | None = None,
    operations: Sequence[str] | None = None,
    extra_operations: Sequence[Operation] = (),
    device: str = "cpu",
    densities: Sequence[float] = (0.01, 0.05, 0.2),
    precision: float = 0.05,
    max_time_s: float | None = None,
    seed: int = 0,
    journal: str | Path | None = None,
    resume: bool = False,
    progress: Report | None = None,
    identify: bool = False,
    batch_sizes: Sequence[int] = (8, 32),
    force: bool = False,
) -> Trace:
    """Measure what a model's operations cost, layer by layer.

    Every cell (operation, layer, k, pattern) is sized by one block that enters no estimate,
    then measured in blocks of operation, matched loop and sleep, next to each other and in
    random order: a pilot of three to six blocks a cell, then as many as Stein's rule asks for the
    fitted a and c of E(k) = a + c k to reach *precision*, the widest intervals first. See
    `profiler.design`.

    Args:
        model: left as it is.
        model_name: what the trace calls it.
        meter: an open meter; the caller closes it.
        example_input: a batch that the model takes; ``train`` needs it.
        operations: which of `OPERATIONS`; ``None`` takes both.
        extra_operations: further operations, such as those of ``cwmp.operations``.
        device: ``cpu`` or ``cuda:0``.
        densities: k / n to measure for ``update``.
        precision: wanted relative half-width of a and c.
        max_time_s: cap; windows are shortened and block counts scaled down to it, and flagged.
            On a resumed session it caps all runs together. Without two pilot blocks a cell
            there is no interval: a cap below what they take is refused.
        seed: of orders, indices and values.
        journal: file to journal to while running; the caller deletes it once the trace is saved.
        resume: go on with *journal*.
        progress: called before the first block and after each, see `profiler.progress`.
        identify: keep host and user name in the trace.
        batch_sizes: examples a batch for ``train``.
        force: replace a *journal* that exists, once the first block is about to be measured.

    Raises:
        InputError: an argument that cannot be used; an operation whose work the meter does not
            cover; a *max_time_s* that is too short; or an operation that failed, for example
            in the model's own code: the journal keeps what was measured before.
        OutputExistsError: *journal* exists, and neither *resume* nor *force* is given.
        InputFileError: nothing to resume.
        FileFormatError: the journal is of another session; it says in what they differ.
        MeterReadError: several blocks in a row were lost.
        OutputError: the journal cannot be written, for example because the disk is full, or
            another session writes to it.
        SessionInterrupted: Ctrl-C; it carries the trace of what was measured.
    """
    begin_s = time.perf_counter()
    if resume and journal is None:
        raise InputError("nothing to resume from: name the journal")
    _check_numbers(precision, max_time_s)
    check_device(device)
    layers = layers_of(model)
    parameters = sum(layer.parameters for layer in layers)
    names = OPERATIONS if operations is None else tuple(operations)
    own = _own_operations(
        names, model, layers, example_input, check_densities(densities), batch_sizes, device
    )
    chosen = (*own, *extra_operations)
    cells = [(operation, cell) for operation in chosen for cell in operation.cells()]
    if not cells:
        raise InputError("there is nothing to measure: choose at least one operation")
    _check_covered(chosen, device, meter.info)
    asked = {
        "operations": [operation.name for operation in chosen],
        "densities": list(densities),
        "batch_sizes": list(batch_sizes),
        "precision": precision,
        "device": device,
        "threads": thread_count(parameters),
    }
    subject = Subject(
        model_name,
        layers,
        chosen,
        [cell for _, cell in cells],
        meter.info,
        asked,
        seed,
        describe_host(identify=identify),
        software_versions() | ({"revision": revision} if (revision := git_revision()) else {}),
    )
    path = None if journal is None else Path(journal)
    book: Journal | None
    measured: Measured | None = None
    if resume and path is not None:
        book, measured = _reopen(path, subject)
        found = measured.header["found"]
    else:
        book, found = _begin(path, subject, meter, max_time_s, begin_s, force=force)
    session = Session(
        cells,
        _gauge(meter, found["probe"], device),
        Settings(
            seed, precision, found["window_s"], max_time_s, found["probe"].get("idle_power_w", 0.0)
        ),
        begin_s=begin_s,
        journal=book,
        measured=measured,
        report=progress,
    )
    try:
        with threads_for(parameters):
            session.run()
    except KeyboardInterrupt:
        if not session.blocks:
            raise SessionInterrupted(None) from None
        partial = subject.trace(session, found, max_time_s, "interrupted")
        raise SessionInterrupted(partial) from None
    except CwmpError:
        if path is not None and not session.found.sizing:
            path.unlink(missing_ok=True)  # nothing was measured
        raise
    finally:
        if book is not None:
            book.close()
    return subject.trace(session, found, max_time_s)


def _reopen(path: Path, subject: Subject) -> tuple[Journal, Measured]:
    """The journal of an earlier run of the same session, and what it holds."""
    book, measured = Journal.reopen(path)
    try:
        check_same(path, measured.header["identity"], subject.identity())
    except BaseException:
        book.close()
        raise
    return book, measured


def _begin(
    path: Path | None,
    subject: Subject,
    meter: EnergyMeter,
    max_time_s: float | None,
    begin_s: float,
    *,
    force: bool,
) -> tuple[Journal | None, dict[str, Any]]:
    """Probe, refuse what cannot be done in time, and only then take the place of a journal."""
    if path is not None:
        refuse_unfinished(path, force=force)
    steps = _probe(meter, max_time_s)
    pace, cells = Pace.of(_gauge(meter, steps, subject.asked["device"])), len(subject.cells)
    pilot = pilot_counts(subject.cells).tolist()
    if max_time_s is not None:
        spent_s = time.perf_counter() - begin_s
        pace.refuse_hopeless(cells, max_time_s, spent_s, meter.info.name)
    found = {
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "probe": steps,
        "window_s": pace.window_s(pilot, max_time_s),
    }
    if path is None:
        return None, found
    book = Journal.create(path, force=force)
    try:
        book.begin(subject.header(found, max_time_s))
    except BaseException:
        book.close()
        path.unlink(missing_ok=True)
        raise
    return book, found


def _probe(meter: EnergyMeter, max_time_s: float | None) -> dict[str, Any]:
    """What `probe` finds in a tenth of the time, or in longer where that showed no steps.

    Without its steps a slow counter would be taken for one that has none. Counters that step
    rarely are watched for longer, see `probe`, but for no more than that tenth.
    """
    from profiler.probe import probe

    allowed_s = _PROBE_S if max_time_s is None else min(_PROBE_S, max(0.1 * max_time_s, 0.2))
    most_s = None if max_time_s is None else max(allowed_s, min(0.1 * max_time_s, 2 * _PROBE_S))
    result = probe(meter, max_time_s=allowed_s, most_time_s=most_s)
    if result.period_s is None and allowed_s < _PROBE_S:
        result = probe(meter, max_time_s=_PROBE_S)
    return result.as_dict()


def _gauge(meter: EnergyMeter, steps: dict[str, Any], device: str) -> Gauge:
    from profiler.gpu_conditions import observer_of

    return Gauge(
        meter,
        steps.get("period_s"),
        steps.get("period_p99_s"),
        steps.get("quantum_j"),
        observer=observer_of(meter.info, device),
        edge_period_s=steps.get("edge_period_s"),
    )


def _own_operations(
    names: Sequence[str],
    model: nn.Module,
    layers: Sequence[LayerInfo],
    example_input: torch.Tensor | None,
    densities: Sequence[float],
    batch_sizes: Sequence[int],
    device: str,
) -> tuple[Operation, ...]:
    unknown = [name for name in names if name not in OPERATIONS]
    if unknown:
        raise InputError(
            f"unknown operation {unknown[0]!r}; profile_model knows {', '.join(OPERATIONS)}, "
            "others are passed in as extra_operations"
        )
    own: list[Operation] = []
    if "update" in names:
        own.append(UpdateOperation(layers, densities, device))
    if "train" in names:
        if example_input is None:
            raise InputError(
                "train needs an input for the model: give its shape with --input-shape C,H,W "
                "(example_input in Python), or leave train out of the operations"
            )
        from profiler.modules import TrainOperation

        own.append(TrainOperation(model, example_input, batch_sizes, device))
    return tuple(own)


def _check_covered(operations: Sequence[Operation], device: str, info: MeterInfo) -> None:
    """Refuse joules of one device for the work of another."""
    for operation in operations:
        place = place_of_work(operation)
        if place == info.covers:
            continue
        remedy = (
            "give --meter nvml, or --device cpu"
            if place == "gpu"
            else "profile it in a session of its own, with --device cpu and a meter of the CPU"
        )
        raise InputError(
            f"{operation.name} runs on the {place.upper()} (--device {device}), but the meter "
            f"{info.name} counts the joules of the {info.covers.upper()}, {info.device}: {remedy}"
        )


def _check_numbers(precision: float, max_time_s: float | None) -> None:
    if not 0 < precision < 1:
        raise InputError(f"the precision is {precision}; it must lie between 0 and 1 (5% is 0.05)")
    if max_time_s is not None and not 0 < max_time_s < float("inf"):
        raise InputError(f"the time limit is {max_time_s} s; it must be positive and finite")
