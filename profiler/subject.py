"""What a session is about: what must be equal to resume it, and what its trace says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from profiler.design import PILOT_BLOCKS
from profiler.layers import LayerInfo
from profiler.meters.base import MeterInfo
from profiler.operations import shared_layers
from profiler.records import block_table
from profiler.stages import Session
from profiler.trace import LayerRecord, Trace, TraceMetadata
from profiler.workloads import Cell, Operation


@dataclass(frozen=True)
class Subject:
    """What the whole session is about, for its journal's header and its trace's metadata.

    Attributes:
        model: the model's name.
        layers: all of the model's.
        operations: in the order in which they are sized.
        cells: the design.
        info: the meter.
        asked: the arguments that decide what is measured.
        seed: of orders, indices and values.
        host, software: what it runs on, read before anything is measured: what fails there
            loses nothing.
    """

    model: str
    layers: Sequence[LayerInfo]
    operations: Sequence[Operation]
    cells: Sequence[Cell]
    info: MeterInfo
    asked: dict[str, Any]
    seed: int
    host: dict[str, Any]
    software: dict[str, str]

    def identity(self) -> dict[str, Any]:
        """What must be equal for a session to be resumed."""
        return {
            "model": self.model,
            "layers": [[layer.name, *layer.signature] for layer in self.layers],
            "meter": self.info.name,
            "metered": self.info.device,
            "rails": list(self.info.selected),
            **self.asked,
            "seed": self.seed,
            "governor": self.host.get("governor"),
            "software": {k: v for k, v in self.software.items() if k != "revision"},
            "design": [[c.operation, c.layer, c.k, c.pattern] for c in self.cells],
        }

    def trace(
        self, session: Session, found: dict[str, Any], max_time_s: float | None, *remarks: str
    ) -> Trace:
        """The trace of what *session* has measured so far."""
        info = self.info
        stands = shared_layers(self.layers)
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
            host=self.host,
            software=self.software,
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
