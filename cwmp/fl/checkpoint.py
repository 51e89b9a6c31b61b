"""A run between two rounds as a file: what an interrupted run goes on from, bit for bit.

One .npz without pickle: the shared model, what clients and server remember, messages on their
way, and the records so far. It belongs to one job, and another's is refused. Written whole or
not at all: a server killed while it writes finds the checkpoint before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwmp.fl.archive import from_bytes, state_arrays, state_from, to_bytes
from cwmp.fl.engines.base import Standing
from cwmp.fl.record_json import records_from_json, records_to_json
from cwmp.fl.rounds import RoundRecord
from cwmp.fl.training import ModelState
from profiler.errors import FileFormatError
from profiler.files import read_bytes, write_atomic

SCHEMA = "cwmp.checkpoint"
VERSION = 1

_Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a run keeps its checkpoint.

    Attributes:
        path: of the file.
        key: of the job it belongs to.
    """

    path: Path
    key: str

    def save(self, standing: Standing, records: Sequence[RoundRecord]) -> None:
        """Replace the checkpoint by this one.

        Raises:
            OutputError: it cannot be written; the one before is still there.
        """
        arrays = state_arrays(standing.state)
        arrays |= {f"server/{name}": array for name, array in standing.server.items()}
        for client, memory in standing.memories.items():
            arrays |= {f"client/{client}/{name}": array for name, array in memory.items()}
        for client, message in standing.messages.items():
            arrays[f"message/{client}"] = np.frombuffer(message, dtype=np.uint8)
        meta = {
            "schema_name": SCHEMA,
            "version": VERSION,
            "job": self.key,
            "round": standing.round,
            "norm": standing.norm,
            "clients": sorted(standing.memories),
            "records": json.dumps(records_to_json(records)),
        }
        write_atomic(self.path, to_bytes(meta, arrays), force=True)

    def load(self, like: ModelState) -> tuple[Standing, tuple[RoundRecord, ...]] | None:
        """The last checkpoint, or ``None`` where there is none.

        Args:
            like: the job's initial state, which says how the arrays must look.

        Raises:
            FileFormatError: not a checkpoint, damaged, of another version, job or model.
            InputFileError: it cannot be read.
        """
        if not self.path.exists():
            return None
        what = f"checkpoint {self.path}"
        meta, arrays = from_bytes(read_bytes(self.path), what)
        if meta.get("schema_name") != SCHEMA or meta.get("version") != VERSION:
            raise FileFormatError(
                f"{what} is of another schema or version: delete it to start anew"
            )
        if meta.get("job") != self.key:
            raise FileFormatError(f"{what} is of another run: delete it to start anew")
        standing = Standing(
            round=meta["round"],
            state=state_from(arrays, like, what),
            memories={client: _under(arrays, f"client/{client}/") for client in meta["clients"]},
            messages={
                int(name): array.tobytes() for name, array in _under(arrays, "message/").items()
            },
            server=_under(arrays, "server/"),
            norm=meta["norm"],
        )
        return standing, records_from_json(json.loads(meta["records"]), what)


def _under(arrays: _Arrays, prefix: str) -> dict[str, NDArray[Any]]:
    return {n.removeprefix(prefix): array for n, array in arrays.items() if n.startswith(prefix)}
