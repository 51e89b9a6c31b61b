"""The python version of CIFAR-10 is parsed, never unpickled: tests write pickles, none is read."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwmp.fl.cifar_python import ROW, read_batch
from cwmp.fl.data import load_data
from profiler.errors import FileFormatError, InputFileError

NAMES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")


def _batch(n: int, seed: int = 0) -> dict[Any, Any]:
    numbers = np.random.default_rng(seed)
    return {
        "batch_label": "training batch 1 of 5",
        "labels": numbers.integers(0, 10, n).tolist(),
        "data": numbers.integers(0, 256, (n, ROW), dtype=np.uint8),
        "filenames": [f"image_{i}.png" for i in range(n)],
    }


def _by_python_2(data: np.ndarray, labels: list[int]) -> bytes:
    """The opcodes that Python 2's protocol 2 wrote: text and pixels as byte strings."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    raw = data.tobytes()
    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    shape = b"".join(b"M" + side.to_bytes(2, "little") for side in data.shape)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x04cnumpy\nndarray\nq\x05K\x00\x85"
        + text(b"b") + b"\x87R(K\x01(" + shape + b"tcnumpy\ndtype\n" + text(b"u1")
        + b"K\x00K\x01\x87R(K\x03" + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + b"T" + len(raw).to_bytes(4, "little") + raw + b"tb"
    )  # fmt: skip
    return b"\x80\x02}q\x01(" + text(b"data") + array + text(b"labels") + b"](" + numbers + b"eu."


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_batch_is_read_as_it_was_written(tmp_path: Path, protocol: int) -> None:
    batch = _batch(7)
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps(batch, protocol=protocol))
    images, labels = read_batch(path)
    np.testing.assert_array_equal(images, batch["data"])
    assert labels.tolist() == batch["labels"]


def test_byte_keys_and_python_2_strings_are_read(tmp_path: Path) -> None:
    batch = {key.encode(): value for key, value in _batch(3).items()}
    (tmp_path / "a").write_bytes(pickle.dumps(batch, protocol=2))
    np.testing.assert_array_equal(read_batch(tmp_path / "a")[0], batch[b"data"])
    old = _batch(4)
    (tmp_path / "b").write_bytes(_by_python_2(old["data"], old["labels"]))
    images, labels = read_batch(tmp_path / "b")
    np.testing.assert_array_equal(images, old["data"])
    assert labels.tolist() == old["labels"]


def test_a_folder_is_the_same_data_as_its_binary_version(tmp_path: Path) -> None:
    python, binary = tmp_path / "python", tmp_path / "binary"
    python.mkdir()
    binary.mkdir()
    for seed, name in enumerate((*NAMES, "test_batch")):
        batch = _batch(5, seed)
        (python / name).write_bytes(pickle.dumps(batch, protocol=2))
        records = np.column_stack([np.array(batch["labels"], dtype=np.uint8), batch["data"]])
        (binary / f"{name}.bin").write_bytes(records.tobytes())
    one, other = load_data(f"cifar10:{python}"), load_data(f"cifar10:{binary}")
    for name in ("x_train", "y_train", "x_test", "y_test"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    (python / "data_batch_3").unlink()
    with pytest.raises(InputFileError, match="lacks data_batch"):
        load_data(f"cifar10:{python}")


class _Calls:
    """Unpickled, it would make a file; parsed, it is refused."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_a_hostile_batch_is_refused_and_does_nothing(tmp_path: Path, protocol: int) -> None:
    made = tmp_path / "made"
    for value in (_Calls(made), {**_batch(2), "more": _Calls(made)}, {"data": _Calls(made)}):
        path = tmp_path / "batch"
        path.write_bytes(pickle.dumps(value, protocol=protocol))
        with pytest.raises(FileFormatError, match="not a batch of CIFAR-10"):
            read_batch(path)
    assert not made.exists()


@pytest.mark.parametrize(
    "stream",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        b"\x80\x02}\x81.",
        b"\x80\x02P1\n.",
        b"\x80\x02cnumpy\nndarray\n)R.",
        b"\x80\x02\x82\x01.",
        b"",
        b".",
        b"\x80\x02}.trailing",
        b"\x80\x02]}u.",
    ],
)
def test_streams_of_other_opcodes_are_refused(tmp_path: Path, stream: bytes) -> None:
    path = tmp_path / "batch"
    path.write_bytes(stream)
    with pytest.raises(FileFormatError, match="not a batch of CIFAR-10"):
        read_batch(path)


@pytest.mark.parametrize(
    "change",
    [
        {"data": np.zeros((2, ROW), dtype=np.float32)},
        {"data": np.zeros((2, 5), dtype=np.uint8)},
        {"data": [1, 2]},
        {"labels": [1, 11]},
        {"labels": [1]},
        {"labels": [True, 1]},
        {"labels": "ab"},
    ],
)
def test_batches_of_another_shape_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps({**_batch(2), **change}, protocol=2))
    with pytest.raises(FileFormatError, match="not a batch of CIFAR-10"):
        read_batch(path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_batches_give_an_error_or_a_batch(tmp_path_factory: Any, data: Any) -> None:
    content = bytearray(pickle.dumps(_batch(1), protocol=2))
    head = [i for i in range(len(content)) if i < 250 or i > len(content) - 250]
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.sampled_from(head))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "batch"
    path.write_bytes(bytes(content[: data.draw(st.integers(1, len(content)))]))
    try:
        images, labels = read_batch(path)
    except FileFormatError:
        return
    assert images.shape == (len(labels), ROW)
