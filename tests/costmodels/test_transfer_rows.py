"""Which calibration rows speak: none is lost to a common scale, and none chosen by its luck."""

from __future__ import annotations

import numpy as np

from costmodels.transfer.core import correct
from costmodels.transfer.rows import Rows, informative_rows


def rows_of(scales: tuple[float, float], noise: float, seed: int) -> Rows:
    """Half the rows are all calls, half all entries; noise as a share of the truth."""
    generator = np.random.default_rng(seed)
    calls, entries = np.full(8, 2e-6), np.zeros(8)
    entries[4:] = 10.0 ** generator.uniform(-5, -3, 4)
    parts = np.column_stack([calls, entries])
    truth = parts @ np.array(scales)
    error = noise * truth
    return Rows.of(
        parts,
        truth + error * generator.normal(size=8),
        variance_j2=error**2,
        spread_log=0.05,
    )


def test_a_part_far_above_the_common_scale_keeps_its_rows() -> None:
    """The second device pays 4 times as much for a call and 0.4 times for an entry."""
    errors = []
    for seed in range(20):
        rows = rows_of((4.0, 0.4), 0.12, seed)
        kept, z, noise = informative_rows(rows)
        assert kept[:4].all() and kept.sum() == 8 == z.size
        assert noise.max() < 0.12  # as a share of what is expected, not of a tenth of it
        errors.append(np.log(correct(rows).scales / np.array([4.0, 0.4])))
    assert np.mean(np.abs(errors), axis=0).max() < 0.15
    assert np.abs(np.mean(errors, axis=0)).max() < 0.1


def test_rows_that_drown_are_not_let_in_by_their_luck() -> None:
    """Rows as large as their noise stay out, so that the scale is not raised by the lucky ones."""
    let_in, scales = 0, []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        parts = np.full((12, 1), 1e-6)
        error = np.where(np.arange(12) < 6, 1e-6, 2e-8)
        energy = 1e-6 + error * generator.normal(size=12)
        rows = Rows.of(parts, energy, variance_j2=error**2, spread_log=0.02)
        kept, z, _ = informative_rows(rows)
        assert kept[6:].all()
        let_in += int(kept[:6].sum())
        scales.append(np.mean(z))
    assert let_in <= 6  # of 1200
    assert abs(np.mean(scales) - np.log(1e-6)) < 5e-3
