"""Which layer kinds get prices of their own, and what that is worth where it was not looked at.

A convolution and a linear layer may pay differently for the same entries. A kind's own
regression has fewer cells behind it than the pooled one, so it must earn its place: with at
least five signatures of the kind, its leave-one-signature-out error within the kind, the mean
absolute log residual of a signature's detected cells, is at least a tenth below the pooled
one's, and by more than chance (paired over signatures, one-sided t at 1 %).

Choosing by an error and then reporting the same error would flatter. The residuals that are
reported are nested: for each signature the choice is made again without it, and it is predicted
by whatever was chosen then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from costmodels.cells import CellMean
from costmodels.regression import Regression, arrays, detected_cells, fit_prices
from costmodels.validation import log_residuals
from profiler.statistics import t_quantile

Floats = NDArray[np.float64]
FEWEST_SIGNATURES = 5
BETTER_BY = 0.1
_LEVEL = 0.99
_INNER_FOLDS = 10


@dataclass(frozen=True)
class KindPrices:
    """A kind's own regression, and its cells as predicted by choices made without them."""

    kind: str
    regression: Regression
    predicted: Floats


def own_prices(pooled: Regression) -> list[KindPrices]:
    """The kinds that are better off with prices of their own, by name.

    Args:
        pooled: the regression over all kinds.
    """
    kinds = np.array([cell.kind for cell in pooled.cells])
    found = []
    for name in sorted(set(kinds.tolist())):
        contest = _Contest.of(pooled.cells, kinds == name)
        if not contest.own_wins(np.ones(kinds.size, dtype=bool), FEWEST_SIGNATURES, None):
            continue
        cells = tuple(cell for cell in pooled.cells if cell.kind == name)
        prices, design = contest.fit(contest.mine), contest.X[contest.mine]
        predicted = contest.nested()[contest.mine]
        found.append(KindPrices(name, Regression(pooled.group, prices, cells, design), predicted))
    return found


@dataclass(frozen=True)
class _Contest:
    """One kind's own regression against the pooled one; arrays over all cells, shape (m, ...)."""

    X: Floats
    y: Floats
    noise: Floats
    mine: NDArray[np.bool_]
    usable: NDArray[np.bool_]
    labels: NDArray[np.str_]

    @classmethod
    def of(cls, cells: Sequence[CellMean], mine: NDArray[np.bool_]) -> _Contest:
        X, y, noise = arrays(cells)
        labels = np.array([cell.group for cell in cells])
        return cls(X, y, noise, mine, detected_cells(cells) & (y > 0), labels)

    def fit(self, rows: NDArray[np.bool_]) -> Floats:
        return fit_prices(self.X[rows], self.y[rows], self.noise[rows])

    def own_wins(self, known: NDArray[np.bool_], fewest: int, folds: int | None) -> bool:
        """Whether the *known* cells speak clearly for the kind's own prices.

        Args:
            known: what may be looked at.
            fewest: signatures below which they do not.
            folds: how many parts the signatures are left out in; by default one by one.
        """
        names = list(dict.fromkeys(self.labels[known & self.mine & self.usable].tolist()))
        if len(names) < fewest:
            return False
        count = min(folds or len(names), len(names))
        parts = [names[start::count] for start in range(count)]
        own: list[float] = []
        pooled: list[float] = []
        for part in parts:
            rest = known & ~np.isin(self.labels, part)
            for errors, rows in ((own, rest & self.mine), (pooled, rest)):
                errors.extend(self._errors(self.fit(rows), known, part))
        gain = np.array(pooled) - np.array(own)
        mean, error = float(gain.mean()), float(gain.std(ddof=1) / np.sqrt(gain.size))
        clear = mean > t_quantile(_LEVEL, gain.size - 1) * error
        return clear and mean >= BETTER_BY * float(np.mean(pooled))

    def _errors(
        self, prices: Floats, known: NDArray[np.bool_], names: Sequence[str]
    ) -> list[float]:
        """Mean absolute log residual of each signature."""
        errors = []
        for name in names:
            rows = known & self.mine & self.usable & (self.labels == name)
            residual = log_residuals(self.y[rows], self.X[rows] @ prices)
            errors.append(float(np.mean(np.abs(residual))))
        return errors

    def nested(self) -> Floats:
        """Each of the kind's cells as predicted by a choice made without its signature."""
        predicted = np.full(self.y.size, np.nan)
        for name in dict.fromkeys(self.labels[self.mine].tolist()):
            out = self.labels == name
            own = self.own_wins(~out, FEWEST_SIGNATURES - 1, _INNER_FOLDS)
            rows = ~out & self.mine if own else ~out
            predicted[out] = self.X[out] @ self.fit(rows)
        return predicted
