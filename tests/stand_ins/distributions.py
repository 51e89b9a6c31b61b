"""Updates that selection must get right: ties, zeros, extremes, tails and neighbours alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Draw = Callable[[np.random.Generator, int], np.ndarray]

TINY = np.float32(1e-45)  # the least subnormal
DISTRIBUTIONS: dict[str, Draw] = {
    "normal": lambda r, n: r.standard_normal(n),
    "laplace": lambda r, n: r.laplace(size=n),
    "heavy tailed": lambda r, n: r.standard_normal(n) ** 9,
    "log-normal": lambda r, n: np.exp(3 * r.standard_normal(n)),
    "mostly zero": lambda r, n: np.where(r.random(n) < 0.02, r.standard_normal(n), 0.0),
    "all zero": lambda r, n: np.zeros(n),
    "negative zeros": lambda r, n: np.where(r.random(n) < 0.5, -0.0, r.standard_normal(n)),
    "all equal": lambda r, n: np.full(n, 0.75),
    "equal but for the sign": lambda r, n: r.choice([-1.5, 1.5], n),
    "three values": lambda r, n: r.integers(0, 3, n),
    "a grid": lambda r, n: np.round(20 * r.standard_normal(n)),
    "one outlier": lambda r, n: np.where(np.arange(n) == n // 2, 1e6, 1.0),
    "subnormal": lambda r, n: r.integers(0, 5, n) * TINY,
    "tiny": lambda r, n: 1e-30 * r.standard_normal(n),
    "huge": lambda r, n: np.clip(1e37 * r.standard_normal(n), -3e38, 3e38),
    "rising": lambda r, n: np.arange(n),
    "clustered": lambda r, n: (
        r.standard_normal(n) * np.repeat(np.exp(r.normal(0, 2, n // 64 + 1)), 64)[:n]
    ),
    "blocks": lambda r, n: np.repeat(r.standard_normal(n // 64 + 1), 64)[:n],
}
