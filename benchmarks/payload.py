"""Payloads: entries a second, bits an entry, and what other ways to send them take.

    python benchmarks/payload.py [--quick] [--json FILE]

Peers, in the same run and alternating with it: indices and values copied together as they stand
(COO, 8 bytes an entry), and `zstd -1` of those bytes where zstandard is installed. Medians over
inputs that rotate, so that none is in a near cache. Sizes against the entropy n H(k / n), for
random indices, for runs, and for the largest entries of a gradient whose rows differ in scale.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _index_codes import CODES, Positions, roaring_bits

from cwmp.codec import decode, encode
from cwmp.kernels import rice
from cwmp.payload import VALUE_BYTES, PayloadLayout
from cwmp.selection import LayerSelection
from cwmp.wire.indices import smallest_code

try:
    import zstandard
except ImportError:
    zstandard = None  # type: ignore[assignment]

TARGET_MILLION = 50
TARGET_EXCESS = 0.05
POINTS = ((100_000_000, 1_000_000), (25_000_000, 250_000), (25_000_000, 2_500_000))
SMALL_MODEL = (432, 16, 4608, 32, 18432, 64, 36864, 64, 640, 10)
_SETS = 3

Rows = list[dict[str, Any]]
Timed = Callable[[int], Any]


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description="Measure the payload codec.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the entries")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    scale = 10 if arguments.quick else 1
    points = [(n // scale, k // scale) for n, k in POINTS]
    figures = {
        "speed": speed(points),
        "sizes": sizes(4_000_000 // scale),
        "codes": codes(points),
        "values": values(points[1]),
        "small": small_message(),
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def speed(points: list[tuple[int, int]]) -> Rows:
    """Whole messages, both ways, against the peers."""
    print(f"One core, float32 values, millions of entries a second; target {TARGET_MILLION}\n")
    print(f"{'n':>11} {'k':>9}{'cwmp':>14} {'target':>7} {'zstd -1':>14} {'COO copy':>14}  bytes")
    return [row for n, k in points for row in speed_at(n, k)]


def speed_at(n: int, k: int) -> Rows:
    """Both ways at one size."""
    layers = [one_layer(random_positions(n, k, seed), n, seed) for seed in range(_SETS)]
    layout = PayloadLayout({"w": (n,)})
    coo = [coo_bytes(layer) for layer in layers]
    messages = [encode([layer], layout) for layer in layers]
    ways: dict[str, list[Timed]] = {
        "encode": [lambda i: encode([layers[i]], layout), lambda i: coo_bytes(layers[i])],
        "decode": [lambda i: decode(messages[i], layout), lambda i: coo_back(coo[i])],
    }
    squeezed: list[bytes] = []
    if zstandard is not None:
        squeeze, expand = zstandard.ZstdCompressor(level=1), zstandard.ZstdDecompressor()
        squeezed = [squeeze.compress(content) for content in coo]
        ways["encode"].append(lambda i: squeeze.compress(coo_bytes(layers[i])))
        ways["decode"].append(lambda i: coo_back(expand.decompress(squeezed[i])))
    rows: Rows = []
    for way, functions in ways.items():
        rate, copied, *zstd = (k / seconds / 1e6 for seconds in medians(functions))
        size, zstd_size = len(messages[0]) / k, len(squeezed[0]) / k if squeezed else None
        row = {"n": n, "k": k, "way": way, "cwmp": rate, "coo": copied}
        rows.append(row | {"bytes_an_entry": size, "zstd_bytes_an_entry": zstd_size})
        rows[-1]["zstd"] = zstd[0] if zstd else None
        print(
            f"{n:>11,} {k:>9,} {way} {rate:>6.0f} {rate / TARGET_MILLION:>6.1f}x "
            f"{peer(rate, rows[-1]['zstd']):>14} {peer(rate, copied):>14}  "
            f"{size:.2f}, COO 8, zstd -1 {shown(zstd_size)}"
        )
    return rows


def sizes(n: int) -> Rows:
    """Bits an index against the entropy of random indices, for three ways that indices fall."""
    print("\nBits an index; target: at most 1.05 of the entropy for random indices\n")
    head = ("cwmp", "ratio", "bitmap", "Roaring")
    print(
        f"{'indices':<12}{'k / n':>7} {'entropy':>8}" + "".join(f"{x:>9}" for x in head) + "  code"
    )
    kinds = {
        "random": random_positions,
        "runs of 64": run_positions,
        "gradient": gradient_positions,
    }
    rows = [
        sizes_at(n, kind, draw(n, round(density * n), 7))
        for density in (0.001, 0.01, 0.1, 0.3, 0.382, 0.5, 0.8)
        for kind, draw in kinds.items()
    ]
    worst = max(r["bits"] / r["entropy_bits"] for r in rows if r["indices"] == "random")
    print(f"worst of random indices {worst:.4f}, target {1 + TARGET_EXCESS}")
    return rows


def sizes_at(n: int, kind: str, positions: Positions) -> dict[str, Any]:
    """One line of `sizes`."""
    code = smallest_code(positions, n)
    k, share = positions.size, positions.size / n
    bits, entropy = 8 * code.size / k, entropy_bits(share) / share
    other = roaring_bits(positions, n) / k
    print(
        f"{kind:<12}{share:>7.1%} {entropy:>8.3f}{bits:>9.3f}{bits / entropy:>9.3f}{n / k:>9.2f}"
        f"{other:>9.3f}  {('', 'kept', 'missing', 'runs')[code.code]}, b = {code.streams[0].b}"
    )
    return {
        "indices": kind,
        "density": share,
        "bits": bits,
        "entropy_bits": entropy,
        "roaring_bits": other,
    }


def codes(points: list[tuple[int, int]]) -> Rows:
    """The index code alone, beside others."""
    print("\nRandom indices alone, one core: bits an index, millions of indices a second\n")
    print(f"{'n':>11} {'k':>9}  {'code':<22}{'bits':>7} {'encode':>8} {'decode':>8}")
    rows: Rows = []
    for n, k in points:
        inputs = [random_positions(n, k, seed) for seed in range(_SETS)]
        rows.extend(code_at(name, inputs, n) for name in CODES)
    return rows


def code_at(name: str, inputs: list[Positions], n: int) -> dict[str, Any]:
    """One code at one size."""
    write, read = CODES[name]
    k = inputs[0].size
    b = [rice.parameter_of(positions, n)[0] for positions in inputs]
    written = [write(positions, n) for positions in inputs]
    if not np.array_equal(read(*written[0], k, n, b[0]), inputs[0]):
        raise ValueError(f"{name} does not read back")
    seconds = medians([lambda i: write(inputs[i], n), lambda i: read(*written[i], k, n, b[i])])
    encoded, decoded = (k / each / 1e6 for each in seconds)
    bits = written[0][1] / k
    print(f"{n:>11,} {k:>9,}  {name:<22}{bits:>7.3f} {encoded:>8.0f} {decoded:>8.0f}")
    return {"n": n, "k": k, "code": name, "bits": bits, "encode": encoded, "decode": decoded}


def values(point: tuple[int, int]) -> Rows:
    """Each value type."""
    n, k = point
    print(f"\nValue types, n = {n:,}, k = {k:,}: millions of entries a second, bytes an entry\n")
    print(f"{'':<9} {'encode':>7} {'decode':>7} {'bytes':>6}")
    layers = [one_layer(random_positions(n, k, seed), n, seed) for seed in range(_SETS)]
    return [value_at(layers, PayloadLayout({"w": (n,)}, value_type=x)) for x in VALUE_BYTES]


def value_at(layers: list[LayerSelection], layout: PayloadLayout) -> dict[str, Any]:
    """One value type."""
    k, messages = layers[0].indices.size, [encode([layer], layout) for layer in layers]
    ways: list[Timed] = [
        lambda i: encode([layers[i]], layout),
        lambda i: decode(messages[i], layout),
    ]
    encoded, decoded = (k / seconds / 1e6 for seconds in medians(ways))
    size = len(messages[0]) / k
    print(f"{layout.value_type:<9} {encoded:>7.0f} {decoded:>7.0f} {size:>6.2f}")
    return {
        "value_type": layout.value_type,
        "encode": encoded,
        "decode": decoded,
        "bytes_an_entry": size,
    }


def small_message() -> dict[str, float]:
    """A model of 61,162 parameters in 10 layers at 1 %: what a round pays for the call itself."""
    numbers = np.random.default_rng(0)
    shapes = {f"layer{i}": (size,) for i, size in enumerate(SMALL_MODEL)}
    layers = []
    for name, (size,) in shapes.items():
        positions = np.sort(numbers.permutation(size)[: max(1, round(size / 100))])
        kept = numbers.normal(size=positions.size).astype(np.float32)
        layers.append(LayerSelection(name, (size,), positions.astype(np.int32), kept))
    layout = PayloadLayout(shapes)
    message = encode(layers, layout)
    seconds = medians(
        [lambda i: encode(layers, layout), lambda i: decode(message, layout)], repeats=500
    )
    entries = sum(layer.indices.size for layer in layers)
    print(
        f"\n{sum(SMALL_MODEL):,} parameters in {len(layers)} layers, {entries} entries: "
        f"{len(message)} bytes, encode {1e6 * seconds[0]:.0f} us, decode {1e6 * seconds[1]:.0f} us"
    )
    return {"bytes": len(message), "encode_s": seconds[0], "decode_s": seconds[1]}


def medians(functions: list[Timed], repeats: int = 15) -> list[float]:
    """Median seconds of each, taken in turns over the inputs 0.._SETS - 1."""
    taken: list[list[float]] = [[] for _ in functions]
    for turn in range(repeats + 1):
        for function, seconds in zip(functions, taken, strict=True):
            started = time.perf_counter()
            function(turn % _SETS)
            seconds.append(time.perf_counter() - started)
    return [float(np.median(seconds[1:])) for seconds in taken]


def random_positions(n: int, k: int, seed: int) -> Positions:
    """Uniform and without repetition."""
    return np.sort(np.random.default_rng(seed).choice(n, k, replace=False)).astype(np.int32)


def run_positions(n: int, k: int, seed: int) -> Positions:
    """Runs of 64 at random multiples of 64."""
    starts = random_positions(n // 64, max(1, k // 64), seed) * 64
    return (starts[:, None] + np.arange(64)).ravel().astype(np.int32)


def gradient_positions(n: int, k: int, seed: int) -> Positions:
    """The largest of a Laplace gradient of rows of 1,000 whose scales spread log-normally."""
    numbers = np.random.default_rng(seed)
    scales = np.exp(numbers.normal(size=(n // 1000, 1)))
    magnitudes = (numbers.exponential(size=(n // 1000, 1000)) * scales).ravel()
    return np.sort(np.argpartition(-magnitudes, k - 1)[:k]).astype(np.int32)


def one_layer(positions: Positions, n: int, seed: int) -> LayerSelection:
    """Normal float32 values at *positions*."""
    kept = np.random.default_rng(seed).standard_normal(positions.size, dtype=np.float32)
    return LayerSelection("w", (n,), positions, kept)


def coo_bytes(layer: LayerSelection) -> bytes:
    """Indices and values as they stand."""
    return b"".join((layer.indices.data, layer.values.data))


def coo_back(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The arrays of `coo_bytes`, copied as a decoder must."""
    half = len(content) // 2
    return (
        np.frombuffer(content, np.int32, half // 4).copy(),
        np.frombuffer(content, np.float32, half // 4, half).copy(),
    )


def entropy_bits(share: float) -> float:
    """H(p) in bits."""
    return float(-share * np.log2(share) - (1 - share) * np.log2(1 - share))


def peer(rate: float, other: float | None) -> str:
    """A peer's rate and the ratio to it."""
    return "not installed" if other is None else f"{other:.0f} ({rate / other:.2f}x)"


def shown(number: float | None) -> str:
    """A figure that may be absent."""
    return "-" if number is None else f"{number:.2f}" if number < 10 else f"{number:.0f}"


if __name__ == "__main__":
    main()
