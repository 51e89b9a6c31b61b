"""One option of each layer: the relaxation against the slow dual, the choice against every one."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwmp.kernels.choice import choose
from cwmp.kernels.dual import Curve, minimise_dual
from cwmp.kernels.menus import Menus, edges_of, relaxed

steps = st.lists(
    st.tuples(st.floats(0.01, 5), st.just(0.0) | st.floats(0, 5)), min_size=0, max_size=5
)


@st.composite
def menus(draw: st.DrawFn) -> Menus:
    joules, gains, sizes = [], [], [0]
    for _ in range(draw(st.integers(1, 4))):
        layer = draw(steps)
        joules += np.cumsum([0.0, *(cost for cost, _ in layer)]).tolist()
        gains += np.cumsum([0.0, *(gain for _, gain in layer)]).tolist()
        sizes.append(len(layer) + 1)
    return Menus(np.array(joules), np.array(gains), np.cumsum(sizes))


def _layers(given: Menus) -> list[range]:
    return [range(a, b) for a, b in zip(given.offsets, given.offsets[1:], strict=False)]


@given(menus(), st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_the_choice_fits_and_is_the_best_of_small_menus(given: Menus, share: float) -> None:
    spendable_j = share * sum(given.joules[options[-1]] for options in _layers(given))
    best = max(
        sum(given.gains[option] for option in options)
        for options in product(*_layers(given))
        if sum(given.joules[option] for option in options) <= spendable_j
    )
    chosen = choose(given, spendable_j)
    assert all(option in options for option, options in zip(chosen, _layers(given), strict=True))
    assert given.joules[chosen].sum() <= spendable_j * (1 + 1e-12)
    bound, _, exact = relaxed(edges_of(given, spendable_j, False), spendable_j)
    assert given.gains[chosen].sum() == pytest.approx(best, rel=1e-9, abs=1e-12)
    assert best <= bound * (1 + 1e-12)
    assert exact <= bound


@given(menus(), st.floats(0.01, 1))
@settings(max_examples=60, deadline=None)
def test_the_relaxation_is_the_minimum_of_the_dual(given: Menus, share: float) -> None:
    curves = []
    for options in _layers(given):
        part = slice(options[0], options[-1] + 1)
        curves.append(Curve(np.arange(len(options) - 1), given.gains[part], given.joules[part]))
    spendable_j = share * sum(curve.energy_j[-1] for curve in curves)
    if not any(curve.gain[-1] > 0 for curve in curves):
        return
    # The slow dual keeps options above the whole budget: give it none.
    curves = [
        Curve(np.arange(fits.sum() - 1), curve.gain[fits], curve.energy_j[fits])
        for curve in curves
        for fits in [curve.energy_j <= spendable_j]
    ]
    if not any(curve.gain[-1] > 0 for curve in curves):
        return
    bound, price, _ = relaxed(edges_of(given, spendable_j, False), spendable_j)
    slow = minimise_dual(curves, 0.0, spendable_j)
    assert bound == pytest.approx(slow.bound, rel=1e-9)
    assert price >= 0
