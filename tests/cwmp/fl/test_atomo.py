"""ATOMO: unbiased, of least variance, and the same update in every basis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stand_ins.given_updates import SHAPES, arrived, follow, linear, method_of, priced, updates

from cwmp.codec import encode
from cwmp.fl.algorithms.atomo_bases import Basis, HartleyBasis, SingularVectors
from cwmp.fl.algorithms.atomo_sampling import draw, probabilities, variance
from cwmp.selection import LayerSelection
from profiler.errors import BudgetError, InputError, PayloadError

COEFFICIENTS = st.lists(
    st.floats(-1e3, 1e3, allow_nan=False).filter(lambda s: s == 0 or abs(s) > 1e-6),
    min_size=1,
    max_size=40,
)
Z_BOUND = 4.5
"""Of some 4,000 means tested one is beyond it by chance in about 40 runs; the seeds are fixed."""


def _slow_probabilities(s: np.ndarray, r: int) -> np.ndarray:
    """Algorithm 1 as it is printed: clip what exceeds 1, share what is left, repeat."""
    size = np.abs(s)
    p = np.zeros(size.size)
    open_ = size > 0
    left = r
    while open_.any():
        share = left * size / size[open_].sum()
        clipped = open_ & (share > 1)
        if not clipped.any():
            p[open_] = np.minimum(share[open_], 1)
            return p
        if left - clipped.sum() <= 0:  # cannot be while atoms are left
            raise AssertionError
        p[clipped] = 1
        left -= int(clipped.sum())
        open_ &= ~clipped
    return p


@given(COEFFICIENTS, st.integers(1, 45))
@settings(max_examples=200, deadline=None)
def test_probabilities_add_up_and_are_those_of_the_paper(s: list[float], r: int) -> None:
    atoms = int(np.count_nonzero(s))
    p = probabilities(s, r)
    assert ((p >= 0) & (p <= 1)).all()
    assert p.sum() == pytest.approx(min(r, atoms), rel=1e-9)
    assert (p[np.asarray(s) == 0] == 0).all()
    if r < atoms:
        np.testing.assert_allclose(p, _slow_probabilities(np.asarray(s), r), rtol=1e-9)


@given(COEFFICIENTS, st.integers(1, 39), st.integers(0, 2**31))
@settings(max_examples=200, deadline=None)
def test_as_many_atoms_are_drawn_as_the_probabilities_add_up_to(
    s: list[float], r: int, seed: int
) -> None:
    p = probabilities(s, r)
    drawn = draw(p, np.random.default_rng(seed))
    assert drawn.size == min(r, np.count_nonzero(s))
    assert (np.diff(drawn) > 0).all()
    assert set(np.flatnonzero(p >= 1)) <= set(drawn.tolist())
    assert (p[drawn] > 0).all()


def test_atoms_are_drawn_as_often_as_they_should_be() -> None:
    s = np.array([5.0, 1.0, -0.5, 0.25, 0.0, 3.0, 0.1])
    p = probabilities(s, 3)
    generator = np.random.default_rng(0)
    runs = 20_000
    counts = np.zeros(s.size)
    for _ in range(runs):
        counts[draw(p, generator)] += 1
    spread = np.sqrt(np.maximum(p * (1 - p), 1e-300) / runs)
    assert (np.abs(counts / runs - p) <= Z_BOUND * spread + 1e-12).all()


@given(COEFFICIENTS, st.integers(1, 20), st.integers(0, 2**31))
@settings(max_examples=100, deadline=None)
def test_no_other_probabilities_of_the_same_sum_have_less_variance(
    s: list[float], r: int, seed: int
) -> None:
    """Against uniform ones, and against random ones of the same sum."""
    held = np.array([x for x in s if x])
    if held.size <= r:
        return
    best = variance(held, probabilities(held, r))
    uniform = np.full(held.size, r / held.size)
    assert best <= variance(held, uniform) * (1 + 1e-9)
    other = np.random.default_rng(seed).random(held.size) + 1e-3
    other = np.minimum(other * r / other.sum(), 1)  # a sum of r at most
    assert best <= variance(held, other) * (1 + 1e-9)


@pytest.mark.parametrize("atoms", ["entries", "svd", "fourier"])
def test_the_mean_of_many_draws_is_the_update(atoms: str) -> None:
    """z = (mean - g) / (deviation / sqrt(n)) within Z_BOUND for every entry, from real payloads."""
    runs = 600
    method = method_of(f"atomo:{atoms}", priced(), share=0.55)
    update = updates(1)
    seen = {layer: np.empty((runs, *shape)) for layer, shape in SHAPES.items()}
    for seed in range(runs):
        sent = arrived(method, follow(method, update, seed).uploads[0])
        for layer, values in sent.items():
            seen[layer][seed] = values
    varied = 0
    for layer, values in seen.items():
        deviation = values.std(axis=0, ddof=1)
        error = np.abs(values.mean(axis=0) - update[0][layer])
        assert (error <= Z_BOUND * deviation / runs**0.5 + 1e-8).all()
        varied += int((deviation > 1e-6).sum())
    assert varied > 50


@pytest.mark.parametrize("atoms", ["entries", "svd", "fourier"])
def test_the_error_of_a_draw_is_the_variance_that_the_formula_says(atoms: str) -> None:
    """Mean of |sent - g|^2 over draws, of one matrix, within 5 standard errors."""
    runs = 500
    costs = priced()
    method = method_of(f"atomo:{atoms}", costs, share=0.55)
    update = updates(1)
    errors = np.array(
        [
            np.sum((arrived(method, follow(method, update, seed).uploads[0])["a"] - g) ** 2)
            for seed in range(runs)
            for g in [update[0]["a"].astype(np.float64)]
        ]
    )
    if atoms == "entries":
        from cwmp.fl.algorithms.shares import common_counts

        s, k = update[0]["a"].reshape(-1), common_counts(costs, 0.55 * costs.dense_j)[0]
    else:
        basis: Basis = SingularVectors() if atoms == "svd" else HartleyBasis()
        s, k = basis.analyse(update[0]["a"]).coefficients, method.counts[0]
    assert 0 < k < s.size
    expected = variance(s, probabilities(s, k))
    assert abs(errors.mean() - expected) <= 5 * errors.std(ddof=1) / runs**0.5


@pytest.mark.parametrize("basis", [SingularVectors, HartleyBasis])
@pytest.mark.parametrize("shape", [(12, 10), (4, 3, 3, 3), (3, 50), (7, 2)])
def test_all_atoms_make_the_layer_again(basis: Callable[[], Basis], shape: tuple[int, ...]) -> None:
    layer = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    atoms = basis().analyse(layer)
    count, width = basis().size(shape)
    kept = np.arange(count)
    places, numbers = basis().rows(atoms, kept, np.ones(count))
    assert places.size == count * width
    np.testing.assert_allclose(basis().layer(places, numbers, shape), layer, atol=1e-6)
    energy = float(np.sum(np.square(layer, dtype=np.float64)))
    assert np.sum(np.square(atoms.coefficients)) == pytest.approx(energy, rel=1e-6)


@pytest.mark.parametrize("basis", [SingularVectors, HartleyBasis])
def test_atoms_are_orthonormal(basis: Callable[[], Basis]) -> None:
    shape = (6, 5)
    layer = np.random.default_rng(1).standard_normal(shape)
    atoms = basis().analyse(layer)
    count = basis().size(shape)[0]
    each = [
        basis()
        .layer(*basis().rows(atoms, np.array([i]), 1 / atoms.coefficients[[i]]), shape)
        .reshape(-1)
        for i in range(count)
    ]
    np.testing.assert_allclose(np.stack(each) @ np.stack(each).T, np.eye(count), atol=1e-9)


@pytest.mark.parametrize("atoms", ["svd", "fourier"])
@pytest.mark.parametrize("share", [0.5, 0.6, 0.9, 1.0])
def test_declared_joules_cover_the_payload_and_fit_the_budget(atoms: str, share: float) -> None:
    costs = priced()
    method = method_of(f"atomo:{atoms}", costs, share)
    (upload,) = follow(method, updates(1)).uploads
    sent_j = 1e-9 * (len(upload.payload) - 24)
    applied_j = sum(2e-8 + 1e-9 * int(np.prod(shape)) for shape in SHAPES.values())
    assert upload.selection.energy_j <= share * costs.dense_j * (1 + 1e-12)
    assert costs.message_j + sent_j + applied_j <= upload.selection.energy_j * (1 + 1e-9)


def test_the_whole_budget_sends_the_update_exactly() -> None:
    for atoms in ("entries", "svd", "fourier"):
        method = method_of(f"atomo:{atoms}", priced(), share=1.0)
        update = updates(1)
        sent = arrived(method, follow(method, update).uploads[0])
        for layer, values in sent.items():
            np.testing.assert_array_equal(values, update[0][layer])


def test_atoms_that_are_no_whole_rows_are_refused() -> None:
    method = method_of("atomo:svd", priced(), share=0.7)
    (upload,) = follow(method, updates(1)).uploads
    ones = np.ones(22, np.float32)
    size = method.wire.layers["svd:a"]

    def refused(*layers: LayerSelection) -> str:
        with pytest.raises(PayloadError) as caught:
            method.read(replace(upload, payload=encode(layers, method.wire)))
        return str(caught.value)

    assert "whole rows" in refused(LayerSelection("svd:a", size, np.arange(21), ones[:21]))
    assert "whole rows" in refused(LayerSelection("svd:a", size, np.arange(1, 23), ones))
    huge = np.full(22, 3e38, np.float32)
    assert "beyond float32" in refused(LayerSelection("svd:a", size, np.arange(22), huge))
    whole = LayerSelection("whole:a", (12, 10), np.arange(120), np.ones(120, np.float32), "dense")
    both = refused(whole, LayerSelection("svd:a", size, np.arange(22), ones))
    assert "both whole and as atoms" in both


def test_bases_do_not_read_each_other() -> None:
    svd, fourier = (method_of(f"atomo:{n}", priced(), share=0.7) for n in ("svd", "fourier"))
    (upload,) = follow(svd, updates(1)).uploads
    with pytest.raises(PayloadError):
        fourier.read(upload)


def test_a_budget_below_an_atom_of_each_layer_is_infeasible() -> None:
    with pytest.raises(BudgetError, match="does not open every layer"):
        follow(method_of("atomo:svd", priced(), share=0.1), updates(1))
    with pytest.raises(BudgetError, match="does not open every layer"):
        follow(method_of("atomo", linear(), share=0.005), updates(1))


def test_other_atoms_are_one_error() -> None:
    with pytest.raises(InputError, match=r"write atomo:entries, atomo:svd or atomo:fourier"):
        method_of("atomo:wavelets", priced())
