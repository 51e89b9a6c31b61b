from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from cwmp.gain.tails import Gaussian, Laplace, PerLayer, Sample, Tail, tail_of
from cwmp.selectors.costs import SelectionCosts
from profiler.errors import InputError, LayerMismatchError, UpdateError

COSTS = SelectionCosts.linear({"a": (3,), "b": (2, 2)}, {"a": 1.0, "b": 2.0})


def _density(tail: Laplace | Gaussian, g: float) -> float:
    if isinstance(tail, Laplace):
        return float(np.exp(-abs(g) / tail.scale) / (2 * tail.scale))
    return float(np.exp(-((g / tail.scale) ** 2) / 2) / (tail.scale * np.sqrt(2 * np.pi)))


@given(st.sampled_from([Laplace, Gaussian]), st.floats(1e-3, 1e3), st.floats(0, 8))
@settings(max_examples=60, deadline=None)
def test_closed_forms_are_the_integrals_that_they_stand_for(kind, scale, z) -> None:
    tail, t = kind(scale), scale * z
    far = 60 * scale
    count = 2 * quad(lambda g: _density(tail, g), t, far, epsabs=0, epsrel=1e-10)[0]
    squares = 2 * quad(lambda g: g * g * _density(tail, g), t, far, epsabs=0, epsrel=1e-10)[0]
    assert float(tail.exceed(np.float64(t))) == pytest.approx(count, rel=1e-8)
    assert float(tail.moment(np.float64(t))) == pytest.approx(squares, rel=1e-8)


@given(st.sampled_from([Laplace(2.0), Gaussian(0.3)]), st.floats(1e-12, 1))
@settings(max_examples=60, deadline=None)
def test_a_quantile_is_exceeded_by_its_share(tail: Tail, share: float) -> None:
    assert float(tail.exceed(tail.quantile(np.float64(share)))) == pytest.approx(share, rel=1e-9)


@given(
    st.lists(st.sampled_from([0.0, -1.0, 1.0, 0.5, 3.0, 1e-20]), min_size=1, max_size=30),
    st.floats(0, 4),
)
def test_a_sample_is_counted(values: list[float], t: float) -> None:
    magnitudes = np.abs(values)
    sample = Sample("it", np.array(values))
    if np.abs(magnitudes - t).min() > 1e-6 or t == 0:  # ties are moved apart by a part in 1e9
        assert float(sample.exceed(np.float64(t))) == (magnitudes > t).mean()
    everything = (magnitudes**2).mean()
    assert float(sample.moment(np.float64(0))) == pytest.approx(everything, rel=1e-8)
    for kept in range(1, len(values)):
        top = np.sort(magnitudes)[::-1][:kept]
        at = sample.quantile(np.float64(kept / len(values)))
        expected = float((top**2).sum()) / len(values)
        assert float(sample.moment(at)) == pytest.approx(expected, rel=1e-8, abs=1e-30)


def test_each_layer_has_its_own_distribution() -> None:
    tail = PerLayer([Laplace(1.0), Gaussian(2.0)])
    t = np.array([[0.0, 1.0], [2.0, 3.0]])
    for method in ("exceed", "moment"):
        both = getattr(tail, method)(t)
        assert both[:, 0].tolist() == getattr(Laplace(1.0), method)(t[:, 0]).tolist()
        assert both[:, 1].tolist() == getattr(Gaussian(2.0), method)(t[:, 1]).tolist()


def test_what_a_distribution_may_be() -> None:
    assert tail_of("gaussian", COSTS)[0] == Gaussian()
    assert tail_of(Laplace(3.0), COSTS)[0] == Laplace(3.0)
    pooled, said = tail_of(np.array([1.0, 2.0]), COSTS)
    assert isinstance(pooled, Sample) and "one for all" in said
    # samples by layer in any order and of any size, as tensors too
    tail, said = tail_of({"b": torch.ones(5, dtype=torch.bfloat16), "a": np.zeros(2)}, COSTS)
    assert tail.exceed(np.zeros(2)).tolist() == [0, 1]
    assert "layer by layer" in said


@pytest.mark.parametrize(
    ("distribution", "error", "said"),
    [
        ("cauchy", InputError, "'cauchy'; choose laplace, gaussian"),
        ({"a": np.ones(3)}, LayerMismatchError, "'b'"),
        ({"a": np.ones(3), "b": np.ones(4), "c": np.ones(1)}, LayerMismatchError, "'c'"),
        ({"a": np.array([]), "b": np.ones(4)}, UpdateError, "'a' has no entries"),
        ({"a": np.array([np.nan]), "b": np.ones(4)}, UpdateError, "'a' holds NaN"),
        ({"a": np.zeros(3), "b": np.zeros(4)}, UpdateError, "zero everywhere"),
        ({"a": np.ones(3, int), "b": np.ones(4)}, UpdateError, "int64"),
        (np.zeros(7), UpdateError, "zero everywhere"),
        (np.array([np.inf]), UpdateError, "inf"),
    ],
)
def test_what_it_may_not_be(distribution, error, said) -> None:
    with pytest.raises(error, match=said):
        tail_of(distribution, COSTS)
