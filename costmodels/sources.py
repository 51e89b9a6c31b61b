"""What a cost file or cost model says of the traces that it was made from."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from costmodels.cells import UNSOUND, thermal_slopes, unsound_blocks
from costmodels.costfile import CostFile, Origin
from profiler.errors import InputError

if TYPE_CHECKING:
    from profiler.trace import Trace, TraceMetadata

_WEAKEST_FIRST: tuple[Origin, ...] = ("assumed", "modelled", "measured")


def assumptions_of(trace: Trace) -> tuple[str, ...]:
    """What a trace assumes, what its joules include, and what was remarked, as sentences."""
    meta = trace.metadata
    scope = (f"scope: {sentence}" for sentence in meta.scope)
    remarks = [f"profiling: {sentence}" for sentence in meta.remarks]
    if unsound := unsound_blocks(trace):
        causes = " or ".join(sorted(UNSOUND))
        count = f"{unsound} of {len(trace.blocks)}"
        remarks.append(f"profiling: blocks flagged {causes} are left out, {count}")
    for operation, slope in thermal_slopes(trace).items():
        remarks.append(
            f"profiling: {operation} cost {slope.watts_per_k:+.2g} W a kelvin, standard error "
            f"{slope.standard_error:.1g}; adjusted to {slope.mean_c:.0f} C"
        )
    gain = (f"systematic: {term.bound}, {term.cause}" for term in meta.systematic)
    return tuple(dict.fromkeys((*meta.assumptions, *scope, *gain, *remarks)))


def trace_hash(trace: Trace) -> str:
    """SHA-256 of a trace's content, the same for its Parquet and its CSV form.

    What the schema gained later and a trace does not hold does not count: the hash of an older
    trace stays what its cost files say.
    """
    from profiler.trace import COLUMNS

    terms = trace.metadata.systematic
    without_offset = {row: {"absolute_w"} for row, term in enumerate(terms) if not term.absolute_w}
    lacking: dict[str, Any] = {"systematic": without_offset if terms else True}
    if terms and not without_offset:
        lacking = {}
    digest = hashlib.sha256(trace.metadata.model_dump_json(exclude=lacking).encode())
    optional = [column.name for column in COLUMNS if column.optional]
    empty = [name for name in optional if trace.blocks[name].isna().all()]
    digest.update(trace.blocks.drop(columns=empty).to_csv(index=False).encode())
    return digest.hexdigest()


def utc_now() -> str:
    """The time as a label, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def basis_of(trace: Trace) -> str:
    """How many blocks of what serve, by which meter and when."""
    meta = trace.metadata
    sound = len(trace.blocks) - unsound_blocks(trace)
    return f"{sound} blocks of {meta.model}, {meta.origin} by {meta.meter} on {meta.created_utc}"


def provenance_of(trace: Trace) -> dict[str, Any]:
    """What a cost file keeps of the trace it was made from."""
    meta = trace.metadata
    return {
        "trace_sha256": trace_hash(trace),
        "blocks": len(trace.blocks),
        "unsound_blocks": unsound_blocks(trace),
        "seed": meta.seed,
        "remarks": list(meta.remarks),
        "dropped": dict(meta.dropped),
    }


def with_messages_of(file: CostFile, messages: Trace) -> CostFile:
    """*file* with the device, meter, origin and assumptions that its messages come from."""
    meta = messages.metadata
    parts = (
        f"layers and training are {file.origin} by {file.meter} on {file.device}; "
        f"encode, send and select are {meta.origin} by {meta.meter} on {meta.device}"
    )
    changes = {
        "device": _both(file.device, meta.device),
        "meter": _both(file.meter, meta.meter),
        "origin": min(file.origin, meta.origin, key=_WEAKEST_FIRST.index),
        "basis": f"{file.basis}; messages over {basis_of(messages)}",
        "assumptions": (
            parts,
            *file.assumptions,
            *(f"messages: {sentence}" for sentence in assumptions_of(messages)),
        ),
        "provenance": {
            **file.provenance,
            "messages": {**provenance_of(messages), "software": meta.software},
        },
    }
    return CostFile.model_validate({**dict(file), **changes})


def _both(first: str, messages: str) -> str:
    return first if first == messages else f"{first}; messages: {messages}"


def refuse_other_model(meta: TraceMetadata, messages: TraceMetadata) -> None:
    """Raise `InputError` unless both traces are of layers of the same names and shapes."""
    wanted = {record.name: record.shape for record in meta.layers}
    given = {record.name: record.shape for record in messages.layers}
    for name in (*wanted, *given):
        if wanted.get(name) != given.get(name):
            raise InputError(
                f"the messages are of another model: layer {name!r} of {meta.model} and of "
                f"{messages.model} differ; profile the messages of {meta.model}"
            )
