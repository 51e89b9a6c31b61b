"""Labelled images: the digits that ship with scikit-learn, and CIFAR-10 from a local copy.

Pixels come out as float32, (n, channels, height, width), with mean 0 and variance 1 a
channel over the training images; labels as int64. Nothing is downloaded, nothing unpickled.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from profiler.errors import FileFormatError, InputError, InputFileError
from profiler.files import read_bytes

_CIFAR_SHAPE = (3, 32, 32)
_CIFAR_RECORD_BYTES = 1 + 3 * 32 * 32
_CIFAR_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_CIFAR_TEST = "test_batch.bin"
_NPZ_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
_DIGITS_TEST = 360
_DIGITS_SEED = 0


@dataclass(frozen=True, slots=True)
class Dataset:
    """Training and test images.

    Attributes:
        x_train, x_test: float32, shape (n, channels, height, width).
        y_train, y_test: int64 labels in [0, classes), shape (n,).
        classes: the number of labels.
    """

    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]
    classes: int

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(channels, height, width) of one example."""
        return tuple(self.x_train.shape[1:])


def input_spec(data: str) -> tuple[tuple[int, ...], int]:
    """(shape of one example, number of classes) of *data*, without reading it.

    Raises:
        InputError: *data* is neither ``digits`` nor ``cifar10:PATH``.
    """
    name, _ = _parse(data)
    return ((1, 8, 8), 10) if name == "digits" else (_CIFAR_SHAPE, 10)


def load_data(data: str) -> Dataset:
    """The images that *data* names.

    Args:
        data: ``digits`` (1 437 training and 360 test images of 8x8, a fixed split), or
            ``cifar10:PATH`` with the folder of CIFAR-10's binary or python version, or an
            ``.npz`` file with uint8 ``x_train`` and ``x_test`` of shape (n, 32, 32, 3) and
            ``y_train`` and ``y_test``.

    Raises:
        InputError: *data* is neither.
        InputFileError: the path does not exist or cannot be read.
        FileFormatError: the path holds something else.
    """
    name, path = _parse(data)
    if name == "digits":
        return _digits()
    if path.is_dir():
        return _cifar_folder(path)
    if not path.exists():
        raise InputFileError(
            f"no CIFAR-10 at {path}: give the folder of its binary version, or an .npz file"
        )
    return _cifar_npz(path)


def _parse(data: str) -> tuple[str, Path]:
    name, _, path = data.partition(":")
    if data == "digits" or (name == "cifar10" and path):
        return name, Path(path)
    raise InputError(f"unknown data {data!r}; choose digits or cifar10:PATH")


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = bunch.images[:, np.newaxis].astype(np.float32)
    labels = bunch.target.astype(np.int64)
    order = np.random.default_rng(_DIGITS_SEED).permutation(len(labels))
    train, test = order[_DIGITS_TEST:], order[:_DIGITS_TEST]
    return _normalised(images[train], labels[train], images[test], labels[test], 10)


def _cifar_folder(folder: Path) -> Dataset:
    missing = [name for name in (*_CIFAR_TRAIN, _CIFAR_TEST) if not (folder / name).is_file()]
    if missing and (folder / "data_batch_1").exists():
        return _cifar_python(folder)
    if missing:
        raise InputFileError(
            f"{folder} lacks {missing[0]}: give the folder of CIFAR-10's binary or python version"
        )
    train = np.concatenate([_cifar_records(folder / name) for name in _CIFAR_TRAIN])
    test = _cifar_records(folder / _CIFAR_TEST)
    images = [part[:, 1:].reshape(-1, *_CIFAR_SHAPE).astype(np.float32) for part in (train, test)]
    labels = [_labels(part[:, 0], folder) for part in (train, test)]
    return _normalised(images[0], labels[0], images[1], labels[1], 10)


def _cifar_python(folder: Path) -> Dataset:
    from cwmp.fl.cifar_python import read_folder

    x_train, y_train, x_test, y_test = read_folder(folder)
    images = [part.reshape(-1, *_CIFAR_SHAPE).astype(np.float32) for part in (x_train, x_test)]
    return _normalised(images[0], y_train, images[1], y_test, 10)


def _cifar_records(path: Path) -> NDArray[np.uint8]:
    raw = np.frombuffer(read_bytes(path), dtype=np.uint8)
    if raw.size == 0 or raw.size % _CIFAR_RECORD_BYTES:
        raise FileFormatError(
            f"{path} holds {raw.size} bytes, not a multiple of {_CIFAR_RECORD_BYTES}: "
            "it is truncated or not CIFAR-10's binary version"
        )
    return raw.reshape(-1, _CIFAR_RECORD_BYTES)


def _cifar_npz(path: Path) -> Dataset:
    content = read_bytes(path)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            parts = [np.asarray(archive[key]) for key in _NPZ_ARRAYS]
    except KeyError as error:
        raise FileFormatError(
            f"{path} lacks an array: it must hold {', '.join(_NPZ_ARRAYS)}"
        ) from error
    except Exception as error:  # zipfile, zlib, numpy and tokenize each say it their own way
        raise FileFormatError(f"{path} is not an .npz file of plain arrays") from error
    x_train, y_train, x_test, y_test = parts
    return _normalised(
        _npz_images(x_train, path),
        _npz_labels(y_train, x_train, path),
        _npz_images(x_test, path),
        _npz_labels(y_test, x_test, path),
        10,
    )


def _npz_images(images: NDArray[np.uint8], path: Path) -> NDArray[np.float32]:
    if images.dtype != np.uint8 or images.shape[1:] != (32, 32, 3) or not len(images):
        raise FileFormatError(
            f"{path} holds images of shape {images.shape} and type {images.dtype}; "
            "(n, 32, 32, 3) and uint8 are read"
        )
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)


def _npz_labels(
    labels: NDArray[np.generic], images: NDArray[np.uint8], path: Path
) -> NDArray[np.int64]:
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise FileFormatError(
            f"{path} holds labels of shape {labels.shape} and type {labels.dtype} for "
            f"{len(images)} images; one integer an image is read"
        )
    return _labels(labels, path)


def _labels(labels: NDArray[np.generic], path: Path) -> NDArray[np.int64]:
    whole = labels.astype(np.int64)
    if whole.min() < 0 or whole.max() > 9:
        raise FileFormatError(f"{path} holds labels outside 0..9: it is not CIFAR-10")
    return whole


def _normalised(
    x_train: NDArray[np.float32],
    y_train: NDArray[np.int64],
    x_test: NDArray[np.float32],
    y_test: NDArray[np.int64],
    classes: int,
) -> Dataset:
    """Centre and scale by the training images' channels; float64 sums, float32 results."""
    channels = (0, 2, 3)
    mean = x_train.mean(axis=channels, dtype=np.float64, keepdims=True).astype(np.float32)
    scale = x_train.std(axis=channels, dtype=np.float64, keepdims=True).astype(np.float32)
    scale[scale == 0] = 1.0
    return Dataset((x_train - mean) / scale, y_train, (x_test - mean) / scale, y_test, classes)
