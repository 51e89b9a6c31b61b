"""An update read from a file: ``.npz`` or ``.safetensors``, one array a layer, nothing unpickled.

A safetensors file is a length (8 bytes, little-endian), that many bytes of JSON, name ->
{dtype, shape, data_offsets}, and the tensors' bytes.
"""

from __future__ import annotations

import io
import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiler.errors import FileFormatError
from profiler.files import read_bytes

_DTYPES = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}
_LENGTH_BYTES = 8


def load_update(path: str | Path) -> dict[str, NDArray[Any]]:
    """The arrays of *path* by name; bfloat16 as float32.

    Raises:
        InputFileError: *path* is absent or unreadable.
        FileFormatError: neither of the two formats, pickled objects, types that are not
            floats, or a header that does not fit the bytes.
    """
    path = Path(path)
    content = read_bytes(path)
    if path.suffix == ".safetensors":
        return _safetensors(content, path)
    if path.suffix == ".npz":
        return _npz(content, path)
    raise FileFormatError(f"{path} is no update: save it as .npz or .safetensors")


def _npz(content: bytes, path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: np.asarray(archive[name]) for name in archive.files}
    except Exception as error:  # zipfile, zlib and numpy each say it their own way
        raise FileFormatError(f"{path} is not an .npz file of plain arrays") from error
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            raise FileFormatError(f"{path} holds {array.dtype} in {name!r}; an update is floats")
    return arrays


def _safetensors(content: bytes, path: Path) -> dict[str, NDArray[Any]]:
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    start = _LENGTH_BYTES + length
    try:
        if start > len(content):
            raise ValueError("its header is cut short")
        header = json.loads(content[_LENGTH_BYTES:start])
        header.pop("__metadata__", None)
        body = memoryview(content)[start:]
        return {name: _tensor(entry, body) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FileFormatError(f"{path} is not a safetensors file of floats: {error}") from error


def _tensor(entry: dict[str, Any], body: memoryview) -> NDArray[Any]:
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    shape, (first, last) = tuple(entry["shape"]), entry["data_offsets"]
    if not all(isinstance(side, int) and side >= 0 for side in (*shape, first, last)):
        raise ValueError("a shape or an offset is not a whole number")
    if not first <= last <= len(body) or last - first != prod(shape) * dtype.itemsize:
        raise ValueError("a tensor's bytes do not fit its shape")
    array = np.frombuffer(body[first:last], dtype=dtype).reshape(shape)
    if entry["dtype"] == "BF16":  # the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array
