"""Profile a model: one driver over probe, sizing, pilot and main stage.

::

    meter = find_meter("auto")
    trace = profile_model(model, model_name="net", meter=meter, example_input=images[:8])
    trace.save("net.parquet")
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.blocks import Gauge
from profiler.design import PILOT_BLOCKS, block_length_s
from profiler.errors import InputError
from profiler.journal import Journal, Measured, check_same
from profiler.layers import LayerInfo, layers_of
from profiler.meters.base import EnergyMeter
from profiler.operations import UpdateOperation, check_densities, check_device, shared_layers
from profiler.progress import Report
from profiler.records import block_table
from profiler.stages import Session, Settings
from profiler.threads import thread_count, threads_for
from profiler.trace import LayerRecord, Trace, TraceMetadata
from profiler.workloads import Cell, Operation

if TYPE_CHECKING:
    import torch
    from torch import nn

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
) -> Trace:
    """Measure what a model's operations cost, layer by layer.

    Every cell (operation, layer, k, pattern) is sized by one block that enters no estimate,
    then measured in blocks of operation, matched loop and sleep, next to each other and in
    random order: a pilot of `PILOT_BLOCKS` a cell, then as many as Stein's rule asks for the
    fitted a and c of E(k) = a + c k to reach *precision*. See `profiler.design`.

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
        max_time_s: cap; block counts are scaled down to it and flagged. Two pilot blocks a
            cell are measured even so, for without them there is no interval.
        seed: of orders, indices and values.
        journal: file to journal to while running; the caller deletes it once the trace is saved.
        resume: go on with *journal*.
        progress: called after each block, see `profiler.progress`.
        identify: keep host and user name in the trace.
        batch_sizes: examples a batch for ``train``.

    Raises:
        InputError: an argument that cannot be used.
        OutputExistsError: *journal* exists and *resume* is false.
        InputFileError: nothing to resume.
        FileFormatError: the journal is of another session; it says in what they differ.
        MeterReadError: several blocks in a row were lost.
        OutputError: the journal cannot be written, for example because the disk is full.
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
    asked = {
        "operations": [operation.name for operation in chosen],
        "densities": list(densities),
        "batch_sizes": list(batch_sizes),
        "precision": precision,
        "device": device,
        "threads": thread_count(parameters),
    }
    context = _Context(
        model_name, layers, chosen, [cell for _, cell in cells], meter, asked, seed, identify
    )
    book, measured, found = _open_journal(context, journal, resume, max_time_s)
    steps = found["probe"]
    gauge = Gauge(meter, steps.get("period_s"), steps.get("period_p99_s"), steps.get("quantum_j"))
    left_s = None
    if max_time_s is not None:
        left_s = max(max_time_s - (time.perf_counter() - begin_s), 1e-3)
    settings = Settings(seed, precision, found["window_s"], left_s)
    session = Session(cells, gauge, settings, journal=book, measured=measured, report=progress)
    try:
        with threads_for(parameters):
            session.run()
    except KeyboardInterrupt:
        if not session.blocks:
            raise SessionInterrupted(None) from None
        partial = context.trace(session, found, max_time_s, "interrupted")
        raise SessionInterrupted(partial) from None
    finally:
        if book is not None:
            book.close()
    return context.trace(session, found, max_time_s)


@dataclass(frozen=True)
class _Context:
    """What the whole session is about, for its journal's header and its trace's metadata."""

    model: str
    layers: Sequence[LayerInfo]
    operations: Sequence[Operation]
    cells: Sequence[Cell]
    meter: EnergyMeter
    asked: dict[str, Any]
    seed: int
    identify: bool

    def identity(self) -> dict[str, Any]:
        """What must be equal for a session to be resumed."""
        from profiler.host import describe_host, software_versions

        info = self.meter.info
        return {
            "model": self.model,
            "layers": [[layer.name, *layer.signature] for layer in self.layers],
            "meter": info.name,
            "metered": info.device,
            "rails": list(info.selected),
            **self.asked,
            "seed": self.seed,
            "governor": describe_host().get("governor"),
            "software": software_versions(),
            "design": [[c.operation, c.layer, c.k, c.pattern] for c in self.cells],
        }

    def trace(
        self, session: Session, found: dict[str, Any], max_time_s: float | None, *remarks: str
    ) -> Trace:
        """The trace of what *session* has measured so far."""
        from profiler.host import describe_host, git_revision, software_versions

        info = self.meter.info
        stands = shared_layers(self.layers)
        revision = git_revision()
        metadata = TraceMetadata(
            created_utc=found["created_utc"],
            model=self.model,
            layers=tuple(
                LayerRecord(
                    name=layer.name,
                    kind=layer.kind,
                    shape=layer.shape,
                    dtype=layer.dtype,
                    measured_as=stands[layer.name],
                )
                for layer in self.layers
            ),
            device=info.device,
            meter=info.name,
            origin=info.origin,
            assumptions=info.assumptions,
            scope=tuple(s for op in self.operations for s in getattr(op, "scope", ())),
            implementations={
                op.name: getattr(op, "implementation", type(op).__qualname__)
                for op in self.operations
            },
            host=describe_host(identify=self.identify),
            software=software_versions() | ({"revision": revision} if revision else {}),
            probe=found["probe"],
            settings={
                **self.asked,
                "max_time_s": max_time_s,
                "window_s": found["window_s"],
                "pilot_blocks": PILOT_BLOCKS,
                "window": "from a random phase of the counter's step to the end of a quiet tail",
            },
            seed=self.seed,
            dropped=dict(session.dropped),
            remarks=(*remarks, *session.remarks),
        )
        table = block_table(
            session.blocks,
            self.cells,
            info,
            model=self.model,
            period_s=found["probe"].get("period_s"),
            cell_flags=session.cell_flags,
        )
        return Trace(metadata, table)


def _open_journal(
    context: _Context, journal: str | Path | None, resume: bool, max_time_s: float | None
) -> tuple[Journal | None, Measured | None, dict[str, Any]]:
    """The journal, what it holds, and what was found when the session began."""
    identity = context.identity()
    path = None if journal is None else Path(journal)
    if resume and path is not None:
        book, measured = Journal.reopen(path)
        check_same(path, measured.header["identity"], identity)
        return book, measured, measured.header["found"]
    if path is None:
        return None, None, _probe(context, max_time_s)
    book = Journal.create(path)
    try:
        found = _probe(context, max_time_s)
        book.begin({"identity": identity, "found": found})
    except BaseException:
        book.close()
        path.unlink(missing_ok=True)
        raise
    return book, None, found


def _probe(context: _Context, max_time_s: float | None) -> dict[str, Any]:
    from profiler.probe import probe

    allowed_s = _PROBE_S if max_time_s is None else min(_PROBE_S, 0.1 * max_time_s)
    result = probe(context.meter, max_time_s=max(allowed_s, 0.2)).as_dict()
    return {
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "probe": result,
        "window_s": block_length_s(result.get("period_s"), len(context.cells), max_time_s),
    }


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


def _check_numbers(precision: float, max_time_s: float | None) -> None:
    if not 0 < precision < 1:
        raise InputError(f"the precision is {precision}; it must lie between 0 and 1 (5% is 0.05)")
    if max_time_s is not None and not 0 < max_time_s < float("inf"):
        raise InputError(f"the time limit is {max_time_s} s; it must be positive and finite")
