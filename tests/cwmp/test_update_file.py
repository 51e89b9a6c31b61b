from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cwmp.update_file import load_update
from profiler.errors import FileFormatError, InputFileError

NUMBERS = {"a": np.linspace(-1, 1, 6).reshape(2, 3), "b": np.array(2.5)}


def _safetensors(tensors: dict[str, tuple[str, tuple[int, ...], bytes]]) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, (dtype, shape, content) in tensors.items():
        offsets = [len(body), len(body) + len(content)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        body += content
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


GOOD = _safetensors({"a": ("F32", (2, 3), NUMBERS["a"].astype("<f4").tobytes())})


def test_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "u.npz", **NUMBERS)
    update = load_update(tmp_path / "u.npz")
    assert update.keys() == NUMBERS.keys()
    assert all((update[name] == NUMBERS[name]).all() for name in NUMBERS)


@pytest.mark.parametrize(("code", "kind"), [("F16", "<f2"), ("F32", "<f4"), ("F64", "<f8")])
def test_safetensors(code: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "u.safetensors"
    made = {name: (code, x.shape, x.astype(kind).tobytes()) for name, x in NUMBERS.items()}
    path.write_bytes(_safetensors(made))
    update = load_update(path)
    assert update["a"].shape == (2, 3) and update["b"].shape == ()
    assert (update["a"] == NUMBERS["a"].astype(kind)).all() and update["b"] == 2.5


def test_bfloat16_comes_as_float32(tmp_path: Path) -> None:
    tensor = torch.randn(7, generator=torch.Generator().manual_seed(0)).bfloat16()
    raw = tensor.view(torch.int16).numpy().tobytes()
    (tmp_path / "u.safetensors").write_bytes(_safetensors({"a": ("BF16", (7,), raw)}))
    assert load_update(tmp_path / "u.safetensors")["a"].tolist() == tensor.tolist()


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "u.npz", a=np.array([{}], dtype=object))
    with pytest.raises(FileFormatError, match="plain arrays"):
        load_update(tmp_path / "u.npz")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("u.pt", b"", "save it as .npz or .safetensors"),
        ("u.npz", b"PK not really", "not an .npz"),
        ("u.npz", b"", "not an .npz"),
        ("u.safetensors", b"", "not a safetensors"),
        ("u.safetensors", (2**63).to_bytes(8, "little"), "cut short"),
        ("u.safetensors", _safetensors({"a": ("I64", (1,), bytes(8))}), "I64"),
        ("u.safetensors", _safetensors({"a": ("F32", (3,), bytes(8))}), "fit its shape"),
        ("u.safetensors", _safetensors({"a": ("F32", (-2, -1), bytes(8))}), "whole number"),
        ("u.safetensors", (2).to_bytes(8, "little") + b"[]", "not a safetensors"),
    ],
)
def test_what_is_refused(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileFormatError, match=said):
        load_update(tmp_path / name)


def test_whole_numbers_are_not_an_update(tmp_path: Path) -> None:
    np.savez(tmp_path / "u.npz", a=np.arange(3))
    with pytest.raises(FileFormatError, match="int64 in 'a'"):
        load_update(tmp_path / "u.npz")
    with pytest.raises(InputFileError, match=r"none\.npz"):
        load_update(tmp_path / "none.npz")


def _npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **NUMBERS)
    return stream.getvalue()


@given(
    kind=st.sampled_from([".npz", ".safetensors"]),
    seed=st.integers(0, 2**32),
    faults=st.integers(1, 6),
)
@settings(max_examples=300, deadline=None)
def test_damaged_files_are_read_or_refused(
    kind: str, seed: int, faults: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(_npz() if kind == ".npz" else GOOD)
    numbers = np.random.default_rng(seed)
    for _ in range(faults):
        content[numbers.integers(len(content))] = numbers.integers(256)
    path = tmp_path_factory.getbasetemp() / f"damaged{kind}"
    path.write_bytes(content[: numbers.integers(len(content)) + 1] if seed % 3 == 0 else content)
    try:
        update = load_update(path)
    except FileFormatError:
        return
    assert all(array.dtype.kind == "f" for array in update.values())
