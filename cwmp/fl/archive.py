"""Arrays by name and a JSON text in one .npz: checkpoints, memories and messages between processes.

Read without pickle, and every array against what JSON says of it: a file that was cut short or
altered is one `FileFormatError`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwmp.fl.training import ModelState
from profiler.errors import FileFormatError

_META = "meta.json"


def to_bytes(meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """One archive of *meta* and *arrays*; what the arrays are called is free."""
    names = list(arrays)
    text = json.dumps({"meta": meta, "names": names}, allow_nan=False)
    content = {_META: np.frombuffer(text.encode(), dtype=np.uint8)}
    content |= {f"a{number}": arrays[name] for number, name in enumerate(names)}
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **content)
    return stream.getvalue()


def from_bytes(data: bytes, what: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What `to_bytes` wrote; *what* names it in errors.

    Raises:
        FileFormatError: not such an archive, damaged, or with arrays of objects.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            head = json.loads(bytes(archive[_META]).decode())
            names = head["names"]
            arrays = {name: archive[f"a{number}"] for number, name in enumerate(names)}
            meta = dict(head["meta"])
    except Exception as error:  # zipfile, zlib, json and numpy each say it their own way
        raise FileFormatError(f"{what} is damaged or not an archive of this project") from error
    return meta, arrays


def state_arrays(state: ModelState) -> dict[str, NDArray[Any]]:
    """The arrays of a model's state, each under its part and its name."""
    parts = {"parameters": state.parameters, "buffers": state.buffers, "counters": state.counters}
    return {f"{part}/{name}": array for part, held in parts.items() for name, array in held.items()}


def state_from(arrays: Mapping[str, NDArray[Any]], like: ModelState, what: str) -> ModelState:
    """The state that `state_arrays` took apart, which must be of the same model as *like*.

    Raises:
        FileFormatError: an array is missing, or of another shape or type.
    """
    wanted = state_arrays(like)
    for name, array in wanted.items():
        found = arrays.get(name)
        if found is None or found.shape != array.shape or found.dtype != array.dtype:
            raise FileFormatError(f"{what} is of another model: {name!r} is not as it should be")

    def part(of: str, names: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        return {name: arrays[f"{of}/{name}"] for name in names}

    return ModelState(
        part("parameters", like.parameters),
        part("buffers", like.buffers),
        part("counters", like.counters),
    )
