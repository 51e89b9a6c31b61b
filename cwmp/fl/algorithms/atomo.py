"""ATOMO: unbiased sampling of atoms with the least variance (Wang et al. 2018, arXiv 1806.04090).

An update is a sum of atoms of norm 1 with coefficients s_i. Atom i is sent with probability p_i,
as s_i / p_i, so that the mean over draws is the update. Of all p with sum p_i = r and orthogonal
atoms the variance sum s_i^2 (1/p_i - 1) is least at::

    p_i = min(1, r' |s_i| / sum' |s|)

the primed sums over what is not clipped yet, repeated until none exceeds 1. Atoms are entries
(``atomo:entries``), singular vectors of each layer as a matrix of its first dimension by the rest
(``atomo:svd``), or a real Fourier basis of each flattened layer (``atomo:fourier``).

The budget decides r: layer by layer, r_l = ceil(s * atoms of l), the share s the largest that
the joules pay for (`cwmp.fl.algorithms.shares`); a budget below one atom of each layer is
infeasible, for a layer that is never sent would not be unbiased. The paper draws each atom by
itself; here the draw is systematic (Madow 1949): the same p_i, so the same mean and variance, and
exactly r_l atoms, so that the declared joules are a promise and not a mean. Nothing waits, and
feedback, which would make the bias it removes, is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from cwmp.fl.algorithms.arguments import at_most, averaging, refuse_feedback
from cwmp.fl.algorithms.atomo_bases import Basis, HartleyBasis, SingularVectors
from cwmp.fl.algorithms.atomo_payload import AtomAveraging
from cwmp.fl.algorithms.atomo_sampling import draw, probabilities
from cwmp.fl.algorithms.base import Algorithm
from cwmp.fl.algorithms.setting import MethodName, Setting
from cwmp.fl.algorithms.shares import common_counts
from cwmp.selection import LayerSelection, Selection
from cwmp.selectors.costs import LayerPrice, SelectionCosts
from cwmp.selectors.updates import AnyUpdate, as_joules, read_update
from profiler.errors import InputError

_BASES: Mapping[str, Callable[[], Basis]] = {"svd": SingularVectors, "fourier": HartleyBasis}


class SampledEntries:
    """ATOMO with entries as atoms: a selector whose values are s_i / p_i.

    Layers that are cheaper whole go out whole, with every p_i = 1.
    """

    name = "atomo:entries"

    def __init__(self, costs: SelectionCosts) -> None:
        self.costs = costs

    def __repr__(self) -> str:
        return f"SampledEntries({len(self.costs.layers)} layers)"

    def select(
        self, update: AnyUpdate, budget_j: float, *, generator: np.random.Generator | None = None
    ) -> Selection:
        """See `cwmp.selectors.base.Selector.select`; ``captured`` is of g, not of g / p.

        Raises:
            InputError: no *generator*, on top of what every selector raises.
            BudgetError: less than one entry of each layer, on top of the usual.
        """
        if generator is None:
            raise InputError(
                "atoms are drawn from a seeded generator: pass "
                "generator=numpy.random.default_rng(seed)"
            )
        budget_j = as_joules(budget_j)
        flat = read_update(update, self.costs)
        counts = common_counts(self.costs, budget_j)
        layers, kept, captured = [], [], 0.0
        for price, values, k in zip(self.costs.layers, flat.values, counts, strict=True):
            indices, factors = _drawn(price, values, k, generator)
            kept.append(indices.size)
            if not indices.size:
                continue
            held = values[indices].astype(np.float64)
            captured += float(np.sum(np.square(held)))
            scaled = (held * factors).astype(np.float32)
            form = price.form(indices.size)
            layers.append(LayerSelection(price.name, price.shape, indices, scaled, form))
        return Selection(tuple(layers), self.costs.energy_j(kept), budget_j, captured, flat.total)


def _drawn(
    price: LayerPrice, values: NDArray[np.floating], k: int, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The places of a layer that are sent, and 1 / p_i of each."""
    if price.form(k) == "dense":
        return np.arange(values.size), np.ones(values.size)
    p = probabilities(values, k)
    indices = draw(p, generator)
    return indices, 1 / p[indices]


def make(name: MethodName, setting: Setting) -> Algorithm:
    """``atomo`` (of entries), ``atomo:entries``, ``atomo:svd`` or ``atomo:fourier``.

    Raises:
        InputError: other atoms, or feedback.
    """
    usage = "atomo:entries, atomo:svd or atomo:fourier"
    refuse_feedback(name, "what it sends is unbiased already")
    (atoms,) = at_most(name, 1, usage) or ("entries",)
    if atoms == "entries":
        return averaging(SampledEntries(setting.costs), name, setting)
    if atoms not in _BASES:
        raise InputError(f"cannot read the method {str(name)!r}: write {usage}")
    return AtomAveraging(_BASES[atoms](), setting.budget_j, setting.costs, setting.layout)
