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
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from cwmp.fl.archive import from_bytes, state_arrays, state_from, to_bytes
from cwmp.fl.engines.base import Standing
from cwmp.fl.record_json import records_from_json, records_to_json
from cwmp.fl.rounds import RoundRecord
from cwmp.fl.training import ModelState
from profiler.errors import FileFormatError
from profiler.files import read_bytes, write_atomic

SCHEMA: Literal["cwmp.checkpoint"] = "cwmp.checkpoint"
VERSION: Literal[1] = 1

_Arrays = Mapping[str, NDArray[Any]]
_Count = Annotated[int, Field(ge=0)]
_Norm = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Head(BaseModel):
    """What a checkpoint says of itself; the arrays lie beside it, by name.

    ``parameters/``, ``buffers/`` and ``counters/`` are the shared model's, ``server/NAME`` and
    ``client/CLIENT/NAME`` what these remember, ``message/CLIENT`` bytes on their way.

    Attributes:
        job: key of the job it belongs to.
        round: the last one that ended.
        norm, buffer_norm: the largest median norm of a round's updates, and of the buffers
            sent, so far; null where it is not known.
        clients: who remembers something, if nothing but that.
        records: the records of the rounds so far, JSON.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_name: Literal["cwmp.checkpoint"]
    version: Literal[1]
    job: str
    round: _Count
    norm: _Norm | None
    buffer_norm: _Norm | None = None
    clients: tuple[_Count, ...]
    records: str


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
        head = Head(
            schema_name=SCHEMA,
            version=VERSION,
            job=self.key,
            round=standing.round,
            norm=standing.norm,
            buffer_norm=standing.buffer_norm,
            clients=tuple(sorted(standing.memories)),
            records=json.dumps(records_to_json(records)),
        )
        write_atomic(self.path, to_bytes(head.model_dump(mode="json"), arrays), force=True)

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
        try:
            head = Head.model_validate(meta)
            records = json.loads(head.records)
            messages = {int(n): a.tobytes() for n, a in _under(arrays, "message/").items()}
            memories: dict[int, dict[str, NDArray[Any]]] = {c: {} for c in head.clients}
            for path, array in _under(arrays, "client/").items():
                client, _, name = path.partition("/")
                memories[int(client)][name] = array
        except (ValueError, KeyError) as error:  # pydantic's, json's and int's; a client unnamed
            raise FileFormatError(f"{what} is damaged: delete it to start anew") from error
        if head.job != self.key:
            raise FileFormatError(f"{what} is of another run: delete it to start anew")
        standing = Standing(
            round=head.round,
            state=state_from(arrays, like, what),
            memories=memories,
            messages=messages,
            server=_under(arrays, "server/"),
            norm=head.norm,
            buffer_norm=head.buffer_norm,
        )
        return standing, records_from_json(records, what)


def _under(arrays: _Arrays, prefix: str) -> dict[str, NDArray[Any]]:
    return {n.removeprefix(prefix): array for n, array in arrays.items() if n.startswith(prefix)}
