"""Price mode: what is worth its joules at a given price of energy, without a search.

At a price of lambda g^2 per joule every layer keeps its own best count::

    k_l = argmax over k of  w^2 G_l(k) - lambda E_l(k)

G_l(k) is the sum of the layer's k largest g^2, E_l(k) its joules for k entries and w the weight
of the client; a layer stays closed where no k makes that positive. With linear costs this is one
comparison an entry: keep i iff w^2 g_i^2 > lambda c_l, made as |g_i| > sqrt(lambda c_l) / w
because g^2 underflows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from math import isfinite

import numpy as np

from costmodels.costfile import CostFile
from cwmp.kernels.dual import Curve, curves_of
from cwmp.kernels.reference import Floats, Integers, score_order
from cwmp.selection import Selection
from cwmp.selectors.cost_weighted import CostWeighted
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.fit import prepared, selection_of
from cwmp.selectors.price_pass import PricePass, unweighted
from cwmp.selectors.reading import read_in_place
from cwmp.selectors.search import Search
from cwmp.selectors.updates import AnyUpdate, FlatUpdate, read_update
from profiler.errors import BudgetError, InputError


class PriceSelector:
    """Keep what captures more than it costs at a price of energy; zeros are not sent.

    What maximises captured - lambda * joules is the best there is for the joules it spends,
    whatever the shape of the costs (Everett 1963, Generalized Lagrange multiplier method): had
    another selection captured more for no more joules, its Lagrangian would be larger. So
    `Selection.bound` equals what is captured.

    Args:
        costs: a cost file or prepared costs.

    Raises:
        InputError: the file holds no update or send costs.

    >>> import numpy as np
    >>> costs = SelectionCosts.linear({"a": (2,), "b": (2,)}, {"a": 1.0, "b": 4.0})
    >>> update = {"a": np.array([0.5, 3.0]), "b": np.array([4.0, 0.1])}
    >>> selection = PriceSelector(costs).keep(update, price=2.0)
    >>> [(layer.name, layer.indices.tolist()) for layer in selection.layers]
    [('a', [1]), ('b', [0])]
    >>> selection.energy_j, selection.captured
    (5.0, 25.0)
    """

    name = "price"

    def __init__(self, costs: CostFile | SelectionCosts) -> None:
        self.costs = prepared(costs)
        self._is_linear = self.costs.is_linear

    def __repr__(self) -> str:
        return f"PriceSelector({len(self.costs.layers)} layers)"

    def keep(
        self, update: AnyUpdate, price: float, *, weight: float = 1.0, cap_j: float | None = None
    ) -> Selection:
        """Keep each layer's best count at *price*, or nothing where all of it is not worth A.

        A, the message's own charge, is paid once for whatever is sent: the kept entries go out
        only if w^2 captured > lambda (A + sum_l E_l). A price of 0 keeps all that is not zero.

        Where that would cost more than *cap_j*, the client's price rises until it fits: the
        cap's own multiplier mu, see `cwmp.controller`. The cap is then a budget like any other
        and `CostWeighted` spends it, filling up what the price alone would leave.

        Args:
            update: layer name -> array.
            price: lambda, weighted g^2 per joule.
            weight: w of this client in the sum over clients of w^2 g^2.
            cap_j: joules that this client may spend at most; ``None`` for no cap.

        Returns:
            A selection whose budget is what it spent and whose price is *price*; under a
            binding cap the budget is the cap, the price lambda + mu and the bound that of
            `CostWeighted`. ``price`` is ``None`` where the cap does not pay for one entry.

        Raises:
            InputError: a price or cap that is negative, NaN or infinite; a weight not positive.
            LayerMismatchError, UpdateError: as for every selector.
        """
        _check(price, weight)
        if cap_j is not None and not (isfinite(cap_j) and cap_j >= 0):
            raise InputError(f"the cap is {cap_j} J; it must be a number of joules, 0 or more")
        reading = read_in_place(update, self._search.names, self._search.shapes)
        if reading is None:
            flat = read_update(update, self.costs)
            kept = self._worth(flat, price, weight)
            selection = selection_of(kept, flat, self.costs, 0.0, price=price)
        else:
            selection = self._kernels.keep(reading, price, weight)
        if not self._pays(selection.captured, selection.energy_j, price, weight):
            selection = replace(selection, layers=(), energy_j=0.0, captured=0.0)
        if cap_j is not None and selection.energy_j > cap_j:
            return self._capped(update, selection, weight, cap_j)
        return replace(selection, budget_j=selection.energy_j, bound=selection.captured)

    def spend_j(
        self, update: AnyUpdate, prices: Sequence[float], *, weight: float = 1.0
    ) -> tuple[float, ...]:
        """J(lambda): the joules that `keep` would spend at each of *prices*, caps apart.

        Never rising in the price. It is what a client reports to `cwmp.controller`.

        Raises:
            InputError, LayerMismatchError, UpdateError: as for `keep`; no price at all.
        """
        if not len(prices):
            raise InputError("there are no prices to spend at: pass at least one")
        for price in prices:
            _check(price, weight)
        reading = read_in_place(update, self._search.names, self._search.shapes)
        if reading is not None:
            spent = self._kernels.spent(reading, prices, weight)
            return tuple(
                energy_j if self._pays(captured, energy_j, price, weight) else 0.0
                for (captured, energy_j), price in zip(spent, prices, strict=True)
            )
        flat = read_update(update, self.costs)
        curves = None if self._is_linear else self._curves(flat)
        return tuple(self._spent_at(price, weight, flat, curves) for price in prices)

    @cached_property
    def _search(self) -> Search:
        return Search(self.costs)

    @cached_property
    def _kernels(self) -> PricePass:
        return PricePass(self._search)

    def _worth(self, flat: FlatUpdate, price: float, weight: float) -> Integers:
        """The entries that are worth *price*, the message's charge apart."""
        if self._is_linear or price == 0:
            limits = self._thresholds(price, weight)
            return np.flatnonzero(flat.magnitudes > limits[flat.layer_of])
        curves = self._curves(flat)
        counts = _best_counts(curves, price, weight)
        return np.concatenate([c.ranked[:k] for c, k in zip(curves, counts, strict=True)])

    def _thresholds(self, price: float, weight: float) -> Floats:
        """sqrt(lambda c_l) / w, which |g| must exceed; shape (layers,). Linear costs only."""
        entry_j = np.array([layer.slope_j[0] for layer in self.costs.layers])
        with np.errstate(over="ignore", under="ignore"):
            limits: Floats = np.sqrt(price * entry_j) / weight
        return limits

    def _curves(self, flat: FlatUpdate) -> list[Curve]:
        by_size = score_order(flat.magnitudes, flat.layer_of, np.ones(len(self.costs.layers)))
        return curves_of(by_size, flat.magnitudes, flat.layer_of, self.costs)

    def _spent_at(
        self, price: float, weight: float, flat: FlatUpdate, curves: list[Curve] | None
    ) -> float:
        if curves is not None and price > 0:
            counts = _best_counts(curves, price, weight)
            captured = sum(float(c.gain[k]) for c, k in zip(curves, counts, strict=True))
        else:
            kept = self._worth(flat, price, weight)
            counts = np.bincount(flat.layer_of[kept], minlength=len(self.costs.layers))
            captured = float(np.sum(flat.magnitudes[kept] ** 2))
        energy_j = self.costs.energy_j(counts)
        return energy_j if self._pays(captured, energy_j, price, weight) else 0.0

    def _pays(self, captured: float, energy_j: float, price: float, weight: float) -> bool:
        """Whether the whole is worth its joules, A included; without A each entry already is."""
        if self.costs.message_j == 0 or price == 0:
            return True
        return captured > unweighted(price, weight) * energy_j

    def _capped(self, update: AnyUpdate, free: Selection, weight: float, cap_j: float) -> Selection:
        try:
            selection = CostWeighted(self.costs).select(update, cap_j)
        except BudgetError:  # the cap does not pay for one entry
            nothing = replace(free, layers=(), energy_j=0.0, captured=0.0)
            return replace(nothing, budget_j=cap_j, bound=0.0, price=None)
        # Entries dearer than the whole cap lower its price: the client acts on the higher one.
        own = (selection.price or 0.0) * weight**2
        return replace(selection, price=max(free.price or 0.0, own))


def _check(price: float, weight: float) -> None:
    if not (isfinite(price) and price >= 0):
        raise InputError(f"the price is {price} g^2 per joule; it must be a number, 0 or more")
    if not (isfinite(weight) and weight > 0):
        raise InputError(f"the client's weight is {weight}; it must be a positive number")


def _best_counts(curves: list[Curve], price: float, weight: float) -> Integers:
    """Each layer's smallest best count; all closed at a price beyond the floats."""
    own = unweighted(price, weight)
    if not isfinite(own):
        return np.zeros(len(curves), dtype=np.int64)
    best = [np.argmax(curve.gain - own * curve.energy_j) for curve in curves]
    return np.array(best, dtype=np.int64)
