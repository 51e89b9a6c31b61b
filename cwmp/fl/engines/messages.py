"""What the parent and its workers say to each other: one archive a message, no pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwmp.fl.algorithms.base import ClientTask, SelectionReport, Upload
from cwmp.fl.archive import from_bytes, state_arrays, state_from, to_bytes
from cwmp.fl.engines.round import Missing, Result
from cwmp.fl.training import ModelState
from profiler.errors import BudgetError, CwmpError, InputError, UpdateError

_ERRORS: Mapping[str, type[CwmpError]] = {
    "BudgetError": BudgetError,
    "UpdateError": UpdateError,
    "InputError": InputError,
}
_WHAT = "a message of a worker"


def state_message(state: ModelState) -> bytes:
    """The shared model of a round."""
    return to_bytes({"kind": "state"}, state_arrays(state))


def task_message(task: ClientTask) -> bytes:
    """A client's task, but for the model and what follows from the seed."""
    arrays = {f"memory/{name}": array for name, array in task.memory.items()}
    arrays["message"] = np.frombuffer(task.message, dtype=np.uint8)
    return to_bytes({"kind": "task", "client": task.client, "round": task.round}, arrays)


def read_order(
    data: bytes, like: ModelState
) -> ModelState | tuple[int, int, dict[str, NDArray[Any]], bytes]:
    """What a worker is told: a state, or (round, client, memory, message)."""
    meta, arrays = from_bytes(data, _WHAT)
    if meta["kind"] == "state":
        return state_from(arrays, like, _WHAT)
    message = arrays.pop("message").tobytes()
    return meta["round"], meta["client"], _memory(arrays), message


def result_message(upload: Upload) -> bytes:
    """What came of a task."""
    arrays = {f"memory/{name}": array for name, array in upload.memory.items()}
    arrays["payload"] = np.frombuffer(upload.payload, dtype=np.uint8)
    meta = {
        "examples": upload.examples,
        "batches": list(upload.batches),
        "forwards": list(upload.forwards),
        "loss": upload.loss.hex(),  # JSON has no NaN
        "selection": None if upload.selection is None else asdict(upload.selection),
        "client": upload.client,
    }
    return to_bytes(meta, arrays)


def error_message(client: int, error: Exception) -> bytes:
    """Why nothing came of it."""
    lines = str(error).strip().splitlines()
    said = lines[0] if lines else type(error).__name__
    return to_bytes({"error": type(error).__name__, "said": said, "client": client}, {})


def read_result(data: bytes) -> Result:
    """An upload; or who is missing, where the client's own code failed.

    Raises:
        BudgetError, UpdateError, InputError: as the client raised it.
    """
    meta, arrays = from_bytes(data, _WHAT)
    if "error" in meta:
        known = _ERRORS.get(meta["error"])
        if known is not None:
            raise known(meta["said"])
        return Missing(meta["client"], f"died: {meta['error']}: {meta['said']}")
    payload = arrays.pop("payload").tobytes()
    selection = meta["selection"]
    return Upload(
        payload=payload,
        examples=meta["examples"],
        batches=tuple(meta["batches"]),
        loss=float.fromhex(meta["loss"]),
        selection=None if selection is None else SelectionReport(**selection),
        client=meta["client"],
        memory=_memory(arrays),
        forwards=tuple(meta["forwards"]),
    )


def _memory(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name.removeprefix("memory/"): array for name, array in arrays.items()}
