"""What a session is about: what must be equal to resume it, and what its trace says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from profiler.design import pilot_counts
from profiler.errors import MissingExtraError
from profiler.layers import LayerInfo
from profiler.meters.base import MeterInfo
from profiler.operations import shared_layers
from profiler.records import block_table
from profiler.stages import Session
from profiler.workloads import Cell, Operation

if TYPE_CHECKING:
    from profiler.trace import Trace

_NO_TRACE = (
    "a trace needs {}, which is not installed here; 'cwmp trace JOURNAL -o TRACE' makes one of "
    "the session's journal on a machine that has it"
)


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

    def header(self, found: dict[str, Any], max_time_s: float | None) -> dict[str, Any]:
        """The first line of the session's journal: enough to resume it, and to make its trace."""
        return {
            "identity": self.identity(),
            "found": found,
            "metadata": self.metadata(found, max_time_s),
            "cells": [asdict(cell) for cell in self.cells],
        }

    def metadata(self, found: dict[str, Any], max_time_s: float | None) -> dict[str, Any]:
        """What the trace's metadata says before anything is measured; see `TraceMetadata`."""
        info = self.info
        stands = shared_layers(self.layers)
        return {
            "created_utc": found["created_utc"],
            "model": self.model,
            "layers": [
                {
                    "name": layer.name,
                    "kind": layer.kind,
                    "shape": list(layer.shape),
                    "dtype": layer.dtype,
                    "measured_as": stands[layer.name],
                }
                for layer in self.layers
            ],
            "device": info.device,
            "meter": info.name,
            "origin": info.origin,
            "assumptions": list(info.assumptions),
            "scope": [
                *info.scope,
                *(s for op in self.operations for s in getattr(op, "scope", ())),
            ],
            "systematic": [asdict(term) for term in info.systematic],
            "implementations": {
                op.name: getattr(op, "implementation", type(op).__qualname__)
                for op in self.operations
            },
            "host": self.host,
            "software": self.software,
            "probe": found["probe"],
            "settings": {
                **self.asked,
                "max_time_s": max_time_s,
                "window_s": found["window_s"],
                "pilot_blocks": _pilot_blocks(self.cells),
                "window": "from a random phase of the counter's step to the end of a quiet tail",
            },
            "seed": self.seed,
        }

    def trace(
        self, session: Session, found: dict[str, Any], max_time_s: float | None, *remarks: str
    ) -> Trace:
        """The trace of what *session* has measured so far.

        Raises:
            MissingExtraError: pandas or pydantic is not installed.
        """
        try:
            from profiler.trace import Trace, TraceMetadata
        except ImportError as error:
            raise MissingExtraError(_NO_TRACE.format(error.name)) from error
        metadata = TraceMetadata.model_validate(
            {
                **self.metadata(found, max_time_s),
                "dropped": dict(session.dropped),
                "remarks": (*remarks, *session.remarks),
            }
        )
        try:
            table = block_table(
                session.blocks,
                self.cells,
                self.info,
                model=self.model,
                period_s=found["probe"].get("period_s"),
                cell_flags=session.cell_flags,
            )
        except ImportError as error:
            raise MissingExtraError(_NO_TRACE.format(error.name)) from error
        return Trace(metadata, table)


def _pilot_blocks(cells: Sequence[Cell]) -> dict[str, int]:
    """Operation -> pilot blocks a cell."""
    counts = pilot_counts(cells).tolist()
    return {cell.operation: count for cell, count in zip(cells, counts, strict=True)}
