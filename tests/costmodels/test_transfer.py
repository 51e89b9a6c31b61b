"""The correction of one device's prices for another: against a slow reference and known truth."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import logsumexp
from scipy.stats import binom, multivariate_normal

from costmodels.transfer.core import Correction, Rows, correct, verdict
from costmodels.transfer.grid import LogRows, posterior
from profiler.errors import InputError

SPREAD = 0.08


def device(
    seed: int, rows: int = 20, spread: float = SPREAD, noise: float = 0.05
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Parts on A, joules and their variances on B, and B's scales: fixed and per entry."""
    generator = np.random.default_rng(seed)
    parts = np.column_stack([np.full(rows, 2e-6), 5e-9 * 10.0 ** generator.uniform(0, 6, rows)])
    scales = np.exp(generator.uniform(-1.5, 1.5) + 0.2 * generator.normal(size=2))
    truth = parts @ scales * np.exp(spread * generator.normal(size=rows))
    error = noise * truth
    return parts, truth + error * generator.normal(size=rows), error**2, scales


def corrected(seed: int, **settings: float) -> Correction:
    parts, y, variance, _ = device(seed, **settings)  # type: ignore[arg-type]
    return correct(Rows.of(parts, y, variance_j2=variance, spread_log=SPREAD), spread_degrees=60)


def within(count: int, runs: int, share: float) -> bool:
    """Whether *count* of *runs* is in the central 99.9 % of the binomial."""
    low, high = binom.interval(0.999, runs, share)
    return bool(low <= count <= high)


# --- the slow obvious reference -------------------------------------------------------------


def covariances(
    rows: LogRows, groups: np.ndarray, kappa: float, distinct: float, between: float
) -> tuple[np.ndarray, np.ndarray]:
    """Of the rows and of theta, written out."""
    misfit = (kappa * rows.spread) ** 2
    same_layer = rows.layers[:, None] == rows.layers[None, :]
    own = np.diag((1 - rows.shared) * misfit + rows.noise + 1e-12)
    prior = distinct**2 * np.eye(groups.size)
    if len(set(groups.tolist())) > 1:
        prior = prior + between**2 * (groups[:, None] == groups[None, :])
    # the common scale is free: a prior so wide that it says nothing
    return own + rows.shared * np.sqrt(np.outer(misfit, misfit)) * same_layer, prior + 1e6


def reference_objective(
    rows: LogRows, groups: np.ndarray, kappa: float, distinct: float, between: float
) -> Callable[[np.ndarray], float]:
    """-log posterior of theta with the whole covariance matrices."""
    V, prior = covariances(rows, groups, kappa, distinct, between)

    def objective(theta: np.ndarray) -> float:
        misfit = rows.z - np.log(rows.parts @ np.exp(theta))
        return float(
            0.5 * misfit @ np.linalg.solve(V, misfit) + 0.5 * theta @ np.linalg.solve(prior, theta)
        )

    return objective


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    shared=st.sampled_from([0.0, 0.6]),
    kappa=st.floats(0.5, 4.0),
    distinct=st.floats(0.05, 1.0),
    two_groups=st.booleans(),
)
def test_the_peak_is_that_of_the_written_out_posterior(
    seed: int, shared: float, kappa: float, distinct: float, two_groups: bool
) -> None:
    generator = np.random.default_rng(seed)
    parts = generator.uniform(0.05, 1, (12, 3))
    rows = LogRows(
        parts=parts,
        z=np.log(parts @ [0.5, 1.0, 2.0]) + 0.1 * generator.normal(size=12),
        noise=np.full(12, 0.01),
        spread=np.full(12, 0.1),
        layers=np.repeat(np.arange(4), 3),
        shared=shared,
    )
    groups = np.array([0, 0, 1]) if two_groups else np.zeros(3, int)
    one = np.array([1.0])
    theta, covariance, _, _ = posterior(rows, groups, kappa * one, distinct * one, 0.5 * one)
    objective = reference_objective(rows, groups, kappa, distinct, 0.5)
    best = minimize(objective, np.zeros(3), method="BFGS", options={"gtol": 1e-8})
    assert objective(theta[0]) <= best.fun + 1e-4
    np.testing.assert_allclose(theta[0], best.x, atol=0.02)
    assert (np.linalg.eigvalsh(covariance[0]) > 0).all()


def test_nodes_are_weighed_like_the_written_out_evidence() -> None:
    parts, y, _, _ = device(0)
    rows = LogRows(parts, np.log(y), np.full(20, 1e-3), np.full(20, 0.1), np.arange(20) // 2, 0.5)
    groups = np.zeros(2, int)
    kappas, distinct = np.array([0.5, 1.0, 2.0, 2.0]), np.array([0.05, 0.2, 0.2, 0.8])
    _, _, evidence, _ = posterior(rows, groups, kappas, distinct, np.ones(4))

    def slow(kappa: float, tau: float) -> float:
        """log of the integral over theta, on a lattice."""
        centre = minimize(reference_objective(rows, groups, kappa, tau, 1.0), np.zeros(2)).x
        steps = np.linspace(-1.5, 1.5, 301)
        theta = centre + np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
        V, prior = covariances(rows, groups, kappa, tau, 1.0)
        misfit = rows.z - np.log(np.exp(theta) @ rows.parts.T)
        values = multivariate_normal.logpdf(misfit, np.zeros(20), V)
        return float(logsumexp(values + multivariate_normal.logpdf(theta, np.zeros(2), prior)))

    wanted = [slow(kappa, tau) for kappa, tau in zip(kappas, distinct, strict=True)]
    np.testing.assert_allclose(np.diff(evidence), np.diff(wanted), atol=0.05)


# --- known truth ------------------------------------------------------------------------------


def test_known_scales_come_back_from_clean_rows() -> None:
    parts, _, _, _ = device(3)
    found = correct(Rows.of(parts, parts @ [3.0, 0.4], spread_log=0.005))
    np.testing.assert_allclose(found.scales, [3.0, 0.4], rtol=0.02)
    np.testing.assert_allclose(found.predict(parts), parts @ [3.0, 0.4], rtol=0.01)


def test_the_device_itself_is_scaled_by_one() -> None:
    parts, _, _, _ = device(4)
    found = correct(Rows.of(parts, parts.sum(axis=1), spread_log=SPREAD), spread_degrees=60)
    np.testing.assert_allclose(found.scales, 1.0, rtol=1e-3)
    assert found.p_value is not None and found.p_value > 0.5


def test_a_part_without_evidence_takes_the_common_scale_and_stays_wide() -> None:
    parts, y, variance, _ = device(5)
    wide = np.column_stack([parts, np.zeros(20)])
    rows = Rows.of(wide, y, variance_j2=variance, spread_log=SPREAD, groups=["a", "a", "b"])
    found = correct(rows)
    errors = np.sqrt(np.diag(found.scales_covariance))
    assert found.scales[:2].min() * 0.9 <= found.scales[2] <= found.scales[:2].max() * 1.1
    assert errors[2] > 3 * errors[:2].max()
    low, high = found.interval(np.array([[0.0, 0.0, 1e-3]]), SPREAD)
    assert high[0] / low[0] > 4


@pytest.mark.parametrize("noise", [0.02, 0.05, 0.15])
def test_one_family_is_priced_within_ten_percent(noise: float) -> None:
    mean = []
    for seed in range(60):
        parts, y, variance, scales = device(seed, noise=noise, spread=0.05)
        found = correct(Rows.of(parts, y, variance_j2=variance, spread_log=0.05))
        new = device(10_000 + seed)[0]
        mean.append(np.mean(np.abs(found.predict(new) / (new @ scales) - 1)))
    assert np.mean(mean) < 0.10
    assert np.median(mean) < 0.10


@pytest.mark.parametrize("level", [0.90, 0.95])
def test_intervals_hold_new_layers_as_often_as_they_say(level: float) -> None:
    runs, held = 400, 0
    for seed in range(runs):
        parts, _, _, scales = device(seed)
        generator = np.random.default_rng([1, seed])
        new = parts[:1] * 10.0 ** generator.uniform(0, 3)
        truth = float((new @ scales)[0] * np.exp(SPREAD * generator.normal()))
        low, high = corrected(seed).interval(new, SPREAD, level=level)
        held += bool(low[0] <= truth <= high[0])
    assert within(held, runs, level)


def test_one_family_is_suspected_as_often_as_the_level_says() -> None:
    runs = 300
    alarms = sum((corrected(seed).p_value or 1.0) < 0.05 for seed in range(runs))
    assert within(alarms, runs, 0.05)


def test_permuted_layers_are_of_another_family() -> None:
    """A's own a and c of each layer, known well; B has the same c but at other layers."""
    found = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        c = 5e-9 * np.exp(0.4 * generator.normal(size=10))
        k = np.tile([1e3, 1e5], 10)
        layer = np.repeat(np.arange(10), 2)
        parts = np.column_stack([np.full(20, 2e-6), c[layer] * k])
        other = np.column_stack([np.full(20, 2e-6), generator.permutation(c)[layer] * k])
        y = other @ [2.0, 0.5]
        y *= 1 + 0.05 * generator.normal(size=20)
        rows = Rows.of(
            parts, y, variance_j2=(0.05 * y) ** 2, spread_log=0.05, layers=layer, shared=0.5
        )
        found += (correct(rows, spread_degrees=18).p_value or 1.0) < 0.05
    assert found >= 54


def test_a_misfit_that_grew_widens_the_intervals() -> None:
    like, unlike = corrected(7), corrected(7, spread=0.6)
    new = np.array([[2e-6, 1e-4]])
    widths = [
        np.log(high / low)[0] for low, high in (f.interval(new, SPREAD) for f in (like, unlike))
    ]
    assert widths[1] > 3 * widths[0]
    assert "not of one family" in verdict(unlike)
    assert "nothing speaks against" in verdict(like)


def test_what_is_known_badly_is_not_made_worse_by_what_is_known_well() -> None:
    """A misfit of 2 % that became 20 % says nothing of an operation known to a factor of two."""
    parts, y, _, _ = device(6, spread=0.2, noise=0.01)
    found = correct(Rows.of(parts, y, spread_log=0.02))
    low, high = found.interval(parts[:1], np.log(2.0))
    assert np.log(2.0) * 1.96 < np.log(high / low)[0] / 2 < np.log(2.0) * 1.96 * 1.4


def test_noise_is_no_misfit() -> None:
    """Rows of 30 % noise that say so are of one family; the same rows, said exact, are not."""
    parts, y, variance, _ = device(8, noise=0.3)
    known = correct(Rows.of(parts, y, variance_j2=variance, spread_log=SPREAD), spread_degrees=60)
    taken = correct(Rows.of(parts, y, spread_log=SPREAD), spread_degrees=60)
    assert known.p_value is not None and known.p_value > 0.01
    assert taken.p_value is not None and taken.p_value < 0.001


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), factor=st.floats(1e-6, 1e6))
def test_the_unit_does_not_matter(seed: int, factor: float) -> None:
    parts, y, variance, _ = device(seed)
    first = correct(Rows.of(parts, y, variance_j2=variance, spread_log=SPREAD))
    second = correct(
        Rows.of(parts, factor * y, variance_j2=factor**2 * variance, spread_log=SPREAD)
    )
    np.testing.assert_allclose(second.scales, factor * first.scales, rtol=1e-5)


def test_shared_misfit_leaves_less_evidence_than_rows() -> None:
    parts, y, _, _ = device(9)
    layers = np.repeat(np.arange(4), 5)
    alone = correct(Rows.of(parts, y, spread_log=SPREAD, layers=layers, shared=0.0))
    shared = correct(Rows.of(parts, y, spread_log=SPREAD, layers=layers, shared=0.9))

    def error(found: Correction) -> float:
        return sqrt(float(np.ones(2) @ found.scales_covariance @ np.ones(2)))

    assert error(shared) > 1.2 * error(alone)


# --- what cannot be used ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"energy_j": [1.0, 2.0]}, "do not fit"),
        ({"energy_j": [1.0, np.nan, 1.0, 1.0]}, "NaN"),
        ({"contributions": [[1.0, -1.0]] * 4}, "negative"),
        ({"contributions": [[0.0, 0.0]] * 4}, "prices row 0 at nothing"),
        ({"contributions": [[1.0]] * 2, "energy_j": [1.0, 1.0]}, "too few"),
        ({"variance_j2": [1.0, 1.0]}, "one variance"),
        ({"variance_j2": -1.0}, "variance"),
        ({"spread_log": np.nan}, "spreads"),
        ({"shared": 2.0}, "shared"),
        ({"layers": [1, 2]}, "one layer"),
    ],
)
def test_unusable_rows_are_refused(change: dict[str, object], words: str) -> None:
    given_ = {"contributions": [[1.0, 1.0]] * 4, "energy_j": [1.0] * 4, **change}
    with pytest.raises(InputError, match=words):
        Rows.of(given_.pop("contributions"), given_.pop("energy_j"), **given_)  # type: ignore[arg-type]


def test_rows_at_or_below_zero_never_become_a_silent_zero() -> None:
    parts, y, variance, _ = device(1)
    with pytest.raises(InputError, match="at or below zero"):
        correct(Rows.of(parts, -y, variance_j2=variance))
    hole = np.where(np.arange(20) == 3, 0.0, y)
    with pytest.raises(InputError, match="row 3 came out at 0 J"):
        correct(Rows.of(parts, hole, variance_j2=variance))
    with pytest.raises(InputError, match="stand out of their noise"):
        correct(Rows.of(parts, y, variance_j2=(3 * y) ** 2))


def test_a_row_that_drowns_in_its_noise_does_not_count() -> None:
    parts, y, variance, _ = device(1)
    y[3], variance[3] = -y[3], (5 * y[3]) ** 2
    found = correct(Rows.of(parts, y, variance_j2=variance))
    assert (found.rows, found.informative) == (20, 19)
