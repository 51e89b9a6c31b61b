"""CIFAR-10's python version, read without unpickling it.

The dataset's best-known form is pickled, and unpickling runs whatever the file says. This module
does not: it *parses* the opcodes that such a file consists of, by `pickletools.genops`, onto a
stack of plain values. No name is imported and nothing is called. Globals are compared with the
few names by which numpy writes an array and Python 2 or 3 writes bytes; they become marks, and
"calling" one of them is a function of this module that takes bytes, a shape and the type uint8.
Every other opcode, name or type is refused, and so is a file whose counts do not add up.

A batch is a dictionary with ``data``, uint8 of shape (n, 3072), and ``labels``, a list of n
integers (Krizhevsky 2009); other keys (file names, a batch label) are parsed and dropped.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiler.errors import FileFormatError, InputFileError
from profiler.files import read_bytes

ROW = 3 * 32 * 32
TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = "test_batch"
_MOST_BYTES = 100_000_000

_RECONSTRUCT = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
}
_ENCODE = {("_codecs", "encode")}
_KNOWN = _RECONSTRUCT | _ENCODE | {("numpy", "ndarray"), ("numpy", "dtype")}


class _RefusedError(ValueError):
    """What a batch file does not hold."""


@dataclass(frozen=True, slots=True)
class _Name:
    """A global as the file names it: two words, never looked up."""

    module: str
    name: str


@dataclass(slots=True)
class _Array:
    """An array before (``None``) and after its state was read."""

    values: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True)
class _ByteType:
    """numpy's dtype uint8, the only one there is."""


_MARK = object()


def read_batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images, shape (n, 3072), and labels, shape (n,), of one batch file.

    Raises:
        InputFileError: *path* is absent or unreadable.
        FileFormatError: it holds anything but a batch of CIFAR-10.
    """
    content = read_bytes(path)
    try:
        if len(content) > _MOST_BYTES:
            raise _RefusedError(f"{len(content)} bytes are too many")
        batch = _parse(content)
        return _images(batch), _labels(batch)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        said = str(error) if isinstance(error, _RefusedError) else "damaged"
        raise FileFormatError(
            f"{path} is not a batch of CIFAR-10's python version: {said}"
        ) from error


def read_folder(
    folder: Path,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    """Training images and labels of the five batches, then those of the test batch.

    Raises:
        InputFileError: a batch is missing.
        FileFormatError: a file holds something else.
    """
    for name in (*TRAIN, TEST):
        if not (folder / name).is_file():
            raise InputFileError(f"{folder} lacks {name} of CIFAR-10's python version")
    parts = [read_batch(folder / name) for name in TRAIN]
    test_x, test_y = read_batch(folder / TEST)
    return (
        np.concatenate([x for x, _ in parts]),
        np.concatenate([y for _, y in parts]),
        test_x,
        test_y,
    )


def _images(batch: dict[Any, Any]) -> NDArray[np.uint8]:
    found = batch.get("data")
    values = found.values if isinstance(found, _Array) else None
    if values is None or values.ndim != 2 or values.shape[1] != ROW or not len(values):
        raise _RefusedError("it has no 'data' of shape (n, 3072)")
    return values


def _labels(batch: dict[Any, Any]) -> NDArray[np.int64]:
    labels, images = batch.get("labels"), _images(batch)
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise _RefusedError("it has no 'labels', a list of integers")
    if len(labels) != len(images) or not all(0 <= label <= 9 for label in labels):
        raise _RefusedError(f"{len(labels)} labels for {len(images)} images, or outside 0..9")
    return np.array(labels, dtype=np.int64)


def _parse(content: bytes) -> dict[Any, Any]:
    """The value of the stream: a dictionary with text for keys."""
    machine = _Machine()
    end = 0
    for opcode, argument, position in pickletools.genops(content):
        end = position or 0
        if opcode.name == "STOP":
            break
        machine.step(opcode.name, argument)
    if end + 1 != len(content):
        raise _RefusedError("bytes follow its end")
    (value,) = machine.stack
    if not isinstance(value, dict):
        raise _RefusedError("it is not a dictionary")
    return {_text(key): item for key, item in value.items()}


class _Machine:
    """The stack and the memo of a stream; every operation makes plain values only."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _PUSHED:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE", "PUT"):
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            self.stack.append(self.memo[argument])
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name not in ("PROTO", "FRAME"):
            raise _RefusedError(f"it uses {name}, which no batch needs")

    def above_mark(self) -> list[Any]:
        place = max(i for i, value in enumerate(self.stack) if value is _MARK)
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def tuple_of(self, length: int) -> None:
        items = tuple(self.stack[len(self.stack) - length :])
        if len(items) != length:
            raise _RefusedError("its stack runs empty")
        del self.stack[len(self.stack) - length :]
        self.stack.append(items)

    def append(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise _RefusedError("it appends to what is no list")
        self.stack[-1].extend(items)

    def put(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise _RefusedError("it sets items of what is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_text(key)] = value

    def named(self, module: str, name: str) -> None:
        if (module, name) not in _KNOWN:
            raise _RefusedError(f"it names {module[:40]}.{name[:40]}, which no batch needs")
        self.stack.append(_Name(module, name))

    def reduce(self) -> None:
        """What REDUCE would call, of the few that are known, done here on plain values."""
        arguments, name = self.stack.pop(), self.stack.pop()
        if type(name) is not _Name or type(arguments) is not tuple:
            raise _RefusedError("it calls something")
        called = (name.module, name.name)
        if called in _RECONSTRUCT:
            if len(arguments) != 3 or arguments[0] != _Name("numpy", "ndarray"):
                raise _RefusedError("it makes an array of another kind")
            self.stack.append(_Array())
        elif called == ("numpy", "dtype"):
            if _text(arguments[0]) != "u1":
                raise _RefusedError("it holds an array that is not uint8")
            self.stack.append(_ByteType())
        elif called in _ENCODE and len(arguments) == 2 and arguments[1] == "latin1":
            self.stack.append(_text(arguments[0]).encode("latin-1"))
        else:
            raise _RefusedError("it calls something")

    def build(self) -> None:
        """The state of an array or of its type: version, shape, type, order, bytes."""
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) is _ByteType:
            return  # byte order and the like, which uint8 does not have
        if type(target) is not _Array or type(state) is not tuple or len(state) != 5:
            raise _RefusedError("it sets the state of something")
        _, shape, kind, fortran, raw = state
        if type(kind) is not _ByteType or type(shape) is not tuple:
            raise _RefusedError("it holds an array that is not uint8")
        if isinstance(raw, str):
            raw = raw.encode("latin-1")
        if not all(type(side) is int and side >= 0 for side in shape) or type(raw) is not bytes:
            raise _RefusedError("it holds an array without a shape or without bytes")
        values = np.frombuffer(raw, dtype=np.uint8)
        target.values = values.reshape(shape, order="F" if fortran else "C")


_PUSHED = frozenset(
    (
        "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1",
        "BINSTRING", "SHORT_BINSTRING", "STRING",
        "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
        "BINUNICODE", "SHORT_BINUNICODE", "UNICODE",
    )
)  # fmt: skip
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "MARK": lambda: _MARK,
}
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "TUPLE": lambda m, _: m.stack.append(tuple(m.above_mark())),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "APPEND": lambda m, _: m.append([m.stack.pop()]),
    "APPENDS": lambda m, _: m.append(m.above_mark()),
    "SETITEM": lambda m, _: m.put([m.stack.pop(-2), m.stack.pop()]),
    "SETITEMS": lambda m, _: m.put(m.above_mark()),
    "GLOBAL": lambda m, words: m.named(*words.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.named(str(m.stack.pop(-2)), str(m.stack.pop())),
    "REDUCE": lambda m, _: m.reduce(),
    "BUILD": lambda m, _: m.build(),
}


def _text(value: Any) -> str:
    """Text, or bytes as Python 2 wrote text."""
    if type(value) is bytes:
        return value.decode("latin-1")
    if type(value) is not str:
        raise _RefusedError("a name in it is not text")
    return value
