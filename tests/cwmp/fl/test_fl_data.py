from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from cwmp.fl.data import input_spec, load_data
from profiler.errors import CwmpError, FileFormatError, InputError, InputFileError

RECORD = 1 + 3072


def _arrays(n: int = 20) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "x_train": generator.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8),
        "y_train": generator.integers(0, 10, n, dtype=np.uint8),
        "x_test": generator.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8),
        "y_test": generator.integers(0, 10, n, dtype=np.uint8),
    }


def _write_binary(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    def records(images: np.ndarray, labels: np.ndarray) -> bytes:
        flat = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        return np.concatenate([labels[:, None], flat], axis=1).tobytes()

    for number in range(5):
        part = slice(4 * number, 4 * number + 4)
        content = records(arrays["x_train"][part], arrays["y_train"][part])
        (folder / f"data_batch_{number + 1}.bin").write_bytes(content)
    (folder / "test_batch.bin").write_bytes(records(arrays["x_test"], arrays["y_test"]))


def test_digits_are_normalised_and_split_once() -> None:
    data = load_data("digits")
    assert (data.input_shape, data.classes) == input_spec("digits")
    assert data.x_train.shape == (1437, 1, 8, 8)
    assert data.x_test.shape == (360, 1, 8, 8)
    assert data.x_train.dtype == np.float32
    assert data.y_train.dtype == np.int64
    assert abs(float(data.x_train.mean())) < 1e-5
    assert float(data.x_train.std()) == pytest.approx(1, abs=1e-4)
    assert set(data.y_test) == set(range(10))
    np.testing.assert_array_equal(data.x_test, load_data("digits").x_test)


def test_npz_and_binary_folder_agree(tmp_path: Path) -> None:
    arrays = _arrays()
    np.savez(tmp_path / "c.npz", **arrays)
    (tmp_path / "bin").mkdir()
    _write_binary(tmp_path / "bin", arrays)
    one = load_data(f"cifar10:{tmp_path / 'c.npz'}")
    other = load_data(f"cifar10:{tmp_path / 'bin'}")
    assert one.x_train.shape == (20, 3, 32, 32)
    assert input_spec(f"cifar10:{tmp_path}") == ((3, 32, 32), 10)
    np.testing.assert_array_equal(one.x_train, other.x_train)
    np.testing.assert_array_equal(one.y_test, other.y_test)


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar10:", "digits:", ""])
def test_unknown_data(name: str) -> None:
    with pytest.raises(InputError, match="choose digits or cifar10:PATH"):
        load_data(name)
    with pytest.raises(InputError, match="choose digits or cifar10:PATH"):
        input_spec(name)


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="nowhere"):
        load_data(f"cifar10:{tmp_path / 'nowhere'}")


def test_an_incomplete_python_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(InputFileError, match="lacks data_batch_2 of CIFAR-10's python version"):
        load_data(f"cifar10:{tmp_path}")


def test_a_folder_that_lacks_a_batch_is_named(tmp_path: Path) -> None:
    _write_binary(tmp_path, _arrays())
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(InputFileError, match=r"lacks data_batch_3\.bin"):
        load_data(f"cifar10:{tmp_path}")


@pytest.mark.parametrize("content", [b"", b"\0" * (RECORD - 1)])
def test_a_truncated_batch(tmp_path: Path, content: bytes) -> None:
    _write_binary(tmp_path, _arrays())
    (tmp_path / "data_batch_2.bin").write_bytes(content)
    with pytest.raises(FileFormatError, match="multiple of 3073"):
        load_data(f"cifar10:{tmp_path}")


def _spoil(arrays: dict[str, np.ndarray], how: str) -> dict[str, np.ndarray]:
    if how == "lacks":
        return {name: array for name, array in arrays.items() if name != "y_test"}
    changes = {
        "float": ("x_train", arrays["x_train"].astype(np.float32)),
        "channels first": ("x_train", arrays["x_train"].transpose(0, 3, 1, 2)),
        "empty": ("x_test", arrays["x_test"][:0]),
        "lengths": ("y_train", arrays["y_train"][:-1]),
        "labels": ("y_train", arrays["y_train"] + np.uint8(100)),
        "objects": ("y_train", arrays["y_train"].astype(object)),
    }
    name, value = changes[how]
    return {**arrays, name: value}


@pytest.mark.parametrize(
    "how", ["lacks", "float", "channels first", "empty", "lengths", "labels", "objects"]
)
def test_an_npz_of_something_else(tmp_path: Path, how: str) -> None:
    np.savez(tmp_path / "c.npz", **_spoil(_arrays(), how))
    with pytest.raises(FileFormatError, match=r"c\.npz"):
        load_data(f"cifar10:{tmp_path / 'c.npz'}")


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04truncated"])
def test_bytes_that_are_no_npz(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.npz").write_bytes(content)
    with pytest.raises(CwmpError, match=r"c\.npz"):
        load_data(f"cifar10:{tmp_path / 'c.npz'}")


def test_a_flipped_byte_is_a_clear_error_or_changes_nothing_that_is_read(tmp_path: Path) -> None:
    """Compressed archives fail in zlib, zipfile, numpy or tokenize, wherever the byte lies."""
    ramp = (np.arange(20 * 32 * 32 * 3) // 700 % 256).astype(np.uint8).reshape(20, 32, 32, 3)
    labels = np.arange(20) % 10
    path = tmp_path / "c.npz"
    np.savez_compressed(path, x_train=ramp, y_train=labels, x_test=ramp, y_test=labels)
    whole = path.read_bytes()
    sound = load_data(f"cifar10:{path}")
    generator = np.random.default_rng(0)
    refused = 0
    for position in generator.integers(0, len(whole), 300):
        damaged = bytearray(whole)
        damaged[position] ^= int(generator.integers(1, 256))
        path.write_bytes(damaged)
        try:
            read = load_data(f"cifar10:{path}")
        except FileFormatError as error:
            assert "c.npz" in str(error)
            assert "\n" not in str(error)
            refused += 1
        else:
            np.testing.assert_array_equal(read.x_train, sound.x_train)
            np.testing.assert_array_equal(read.y_test, sound.y_test)
    assert refused > 100


def test_a_member_that_is_no_array(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in _arrays():
            archive.writestr(f"{name}.npy", b"text")
    with pytest.raises(FileFormatError, match=r"c\.npz"):
        load_data(f"cifar10:{path}")
