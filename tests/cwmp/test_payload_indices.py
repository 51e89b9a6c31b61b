"""The index code against a slow one that writes bits one by one, and against the entropy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwmp.codec import decode, encode
from cwmp.kernels import rice
from cwmp.payload import HEADER_BYTES, LAYER_HEADER_BYTES, PayloadLayout, index_bytes, layer_bytes
from cwmp.selection import LayerSelection
from cwmp.wire.indices import smallest_code

KEPT, MISSING, RUNS = 1, 2, 3


def _slow_code(positions: list[int], b: int) -> str:
    """The Rice code of the gaps as a string of bits: all fields, then all quotients in unary."""
    gaps = [after - before - 1 for before, after in zip([-1, *positions], positions, strict=False)]
    fields = "".join(format(gap % 2**b, f"0{b}b")[::-1] if b else "" for gap in gaps)
    return fields + "".join("0" * (gap >> b) + "1" for gap in gaps)


def _slow_best(positions: list[int]) -> tuple[int, bytes]:
    """The first b of those with the shortest code, and the code's bytes."""
    codes = [_slow_code(positions, b) for b in range(32)]
    b = min(range(32), key=lambda b: len(codes[b]))
    return b, _as_bytes(codes[b])


def _slow_smallest(positions: list[int], n: int) -> tuple[int, tuple[int, int], bytes]:
    """The best of every code there is, in the stated order."""
    k, kept = len(positions), set(positions)
    b, written = _slow_best(positions)
    codes = [(KEPT, (b, 0), written)]
    if 2 * k > n:
        b, written = _slow_best([x for x in range(n) if x not in kept])
        codes.append((MISSING, (b, 0), written))
    first = [i for i, x in enumerate(positions) if x - 1 not in kept]
    if 4 * len(first) <= k:
        b, places = _slow_best([positions[i] - i for i in first])
        b_lengths, lengths = _slow_best([i - 1 for i in first[1:]] + [k - 1])
        count = len(first).to_bytes(4, "little")
        codes.append((RUNS, (b, b_lengths), count + places + lengths))
    return min(codes, key=lambda code: len(code[2]))


def _as_bytes(bits: str) -> bytes:
    padded = bits + "0" * (-len(bits) % 8)
    return bytes(int(padded[at : at + 8][::-1], 2) for at in range(0, len(padded), 8))


@st.composite
def positions_below(draw: st.DrawFn):
    """Sparse, clustered, dense and full sets, of sizes around every word boundary."""
    n = draw(st.integers(1, 300) | st.sampled_from([1000, 4096, 70_000]))
    numbers = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["random", "run", "steps"]))
    k = draw(st.integers(1, min(n, 400)) | st.just(n) if n <= 4096 else st.integers(1, 400))
    if kind == "random":
        positions = np.sort(numbers.permutation(n)[:k])
    elif kind == "run":
        positions = numbers.integers(0, n - k + 1) + np.arange(k)
    else:
        positions = np.arange(numbers.integers(0, max(n // k, 1)), n, max(n // k, 1))[:k]
    return positions.astype(draw(st.sampled_from(["int32", "int64"]))), n


@given(positions_below())
@settings(max_examples=200, deadline=None)
def test_the_code_is_the_smallest_there_is_bit_for_bit(case) -> None:
    positions, n = case
    chosen = smallest_code(positions, n)
    code, parameters, written = _slow_smallest(positions.tolist(), n)
    assert chosen.header(5, 6) == (5, 6, code, *parameters)
    assert chosen.size == len(written)
    assert chosen.to_bytes() == written
    assert len(written) <= index_bytes(n, positions.size)


def test_every_code_is_chosen_somewhere() -> None:
    n = 1000
    numbers = np.random.default_rng(0)
    gaps = np.delete(np.arange(n), [5, 300, 301, 888])
    cases = {KEPT: np.sort(numbers.permutation(n)[:50]), MISSING: gaps, RUNS: np.arange(400, 640)}
    assert {code: smallest_code(x, n).code for code, x in cases.items()} == {1: 1, 2: 2, 3: 3}


@given(positions_below(), st.integers(0, 31))
@settings(max_examples=200, deadline=None)
def test_every_parameter_reads_back_or_is_refused_when_cut(case, b: int) -> None:
    positions, n = case
    bits = len(_slow_code(positions.tolist(), b)) if b else int(positions[-1]) + 1
    words = np.zeros(bits // 64 + 2, dtype=np.uint64)
    rice.pack(positions, b, words)
    back = np.full(positions.size, -7, dtype=np.int32)
    assert rice.unpack(words, bits, b, n, back) == bits
    np.testing.assert_array_equal(back, positions)
    assert rice.unpack(words, bits - 1, b, n, back) == -1
    assert rice.unpack(words, bits, b, int(positions[-1]), back) == -1


@given(st.integers(0, 2**32), st.integers(0, 31), st.integers(1, 70), st.integers(0, 300))
@settings(max_examples=300, deadline=None)
def test_random_bits_are_positions_in_order_or_nothing(seed, b: int, k: int, bits: int) -> None:
    numbers = np.random.default_rng(seed)
    words = numbers.integers(0, 2**64, bits // 64 + 2, dtype=np.uint64)
    words[numbers.random(words.size) < 0.4] = 0
    guarded = np.full(k + 2, -7, dtype=np.int32)
    n = int(numbers.integers(1, 2**31)) if b > 8 else int(numbers.integers(1, 400))
    took = rice.unpack(words, min(bits, n), b, n, guarded[1:-1])
    assert (guarded[[0, -1]] == -7).all()
    if took < 0:
        return
    positions = guarded[1:-1]
    assert took <= bits
    assert rice.ascends(positions, n)
    again = np.zeros_like(words)
    rice.pack(positions, b, again)
    left = [int("".join(format(int(x), "064b") for x in w[::-1]), 2) for w in (words, again)]
    assert left[0] % 2**took == left[1]


@given(st.integers(1, 3000), st.data())
@settings(deadline=None)
def test_the_declared_bytes_are_the_least_over_every_parameter(n: int, data) -> None:
    k = data.draw(st.integers(0, n))
    bits = min(n, *(k * (b + 1) + ((n - k) >> b) for b in range(32)))
    assert int(index_bytes(n, k)) == (-(-bits // 8) if k else 0)
    sizes = layer_bytes(n, np.arange(n + 1), "sparse", data.draw(st.sampled_from([1, 2, 4, 8])))
    assert (np.diff(sizes) >= 0).all()


def test_declared_bytes_of_the_largest_layer() -> None:
    n = 2**31
    assert int(index_bytes(n, n)) == n // 8
    assert int(index_bytes(n, 1)) == -(-min(b + 1 + ((n - 1) >> b) for b in range(32)) // 8)
    layer = LayerSelection("w", (n,), np.array([n - 1]), np.ones(1, np.float32))
    layout = PayloadLayout({"w": (n,)})
    payload = encode([layer], layout)
    assert decode(payload, layout).layers[0].indices.tolist() == [n - 1]
    assert len(payload) == HEADER_BYTES + int(layer_bytes(n, 1, "sparse"))


@pytest.mark.parametrize("n", [200_000, 2_000_000])
@pytest.mark.parametrize(
    "density", [0.0005, 0.005, 0.01, 0.03, 0.1, 0.2, 0.3, 0.38, 0.45, 0.5, 0.62, 0.8, 0.99]
)
def test_random_indices_take_within_5_percent_of_the_entropy(n: int, density: float) -> None:
    k = max(1000, round(density * n))
    numbers = np.random.default_rng(round(1e4 * density) + n)
    kept = np.zeros(n, dtype=np.bool_)
    kept[numbers.choice(n, k, replace=False)] = True
    size = smallest_code(np.flatnonzero(kept), n).size
    share = k / n
    entropy_bits = -n * (share * np.log2(share) + (1 - share) * np.log2(1 - share))
    assert 8 * size <= min(1.05 * entropy_bits, n)
    real = LAYER_HEADER_BYTES + 4 * k + size
    assert real <= int(layer_bytes(n, k, "sparse")) <= 1.05 * real


def test_clustered_indices_take_less_than_random_ones() -> None:
    n, k = 1_000_000, 10_000
    runs = np.arange(0, n, n // 100)[:, None] + np.arange(100)
    numbers = np.random.default_rng(1)
    scattered = np.sort(numbers.permutation(n)[:k])
    clustered, random = (smallest_code(x, n).size for x in (runs.ravel(), scattered))
    assert clustered < random / 20


@pytest.mark.parametrize("n", [1, 8, 64, 65])
def test_a_layer_kept_whole_entry_by_entry_needs_no_index(n: int) -> None:
    layout = PayloadLayout({"w": (n,)})
    layer = LayerSelection("w", (n,), np.arange(n), np.ones(n, np.float32))
    payload = encode([layer], layout)
    assert len(payload) == HEADER_BYTES + LAYER_HEADER_BYTES + 4 * n
    got = decode(payload, layout).layers[0]
    assert (got.form, got.indices.tolist()) == ("sparse", list(range(n)))
