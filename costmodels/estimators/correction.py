"""What prices cannot follow, as a factor learned from residuals: boosted trees on the log scale.

The columns of the trees are logarithms: of the priced features and of the shape, and of the
ratios of each two priced features (MACs a byte, output over input), which say how well a layer
uses the machine and are the same for a layer twice as large. A feature of 0 has no logarithm and
takes a value just under the lowest one seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from costmodels.estimators.boosted import Trees

Floats = NDArray[np.float64]
_SLACK = 1e-9
_BELOW = 1.0


@dataclass(frozen=True)
class LogColumns:
    """How features become the columns of the trees.

    Attributes:
        floors: what stands for log 0, by feature, shape (p,).
        priced: which of the p features have a price; these enter ratios.
    """

    floors: Floats
    priced: tuple[int, ...]

    @classmethod
    def of(cls, X: Floats, priced: tuple[int, ...]) -> LogColumns:
        """With floors below the smallest positive value of each column of *X*, shape (m, p)."""
        smallest = np.where(X > 0, X, np.inf).min(axis=0)
        floors = np.where(np.isfinite(smallest), np.log(np.where(smallest > 0, smallest, 1)), 0.0)
        return cls(floors - _BELOW, priced)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        return tuple(combinations(self.priced, 2))

    def transform(self, X: Floats) -> Floats:
        """The columns, shape (m, p + number of pairs)."""
        positive = X > 0
        logs = np.where(positive, np.log(np.where(positive, X, 1.0)), self.floors)
        ratios = [logs[:, i] - logs[:, j] for i, j in self.pairs]
        return np.column_stack([logs, *ratios])

    def names(self, features: tuple[str, ...]) -> tuple[str, ...]:
        """A name for each column."""
        ratios = (f"log {features[i]} / {features[j]}" for i, j in self.pairs)
        return (*(f"log {name}" for name in features), *ratios)

    @property
    def rising(self) -> list[int]:
        """1 for the columns in which the correction may not fall, 0 for the others.

        Those of the priced features: a layer that is larger in all of them at the same ratios
        and shape is never corrected downwards against the smaller.
        """
        p = self.floors.size
        return [int(j in self.priced) for j in range(p)] + [0] * len(self.pairs)


@dataclass(frozen=True)
class Correction:
    """A factor exp(r(x)) on predictions, 1 outside the box of the training columns.

    Attributes:
        columns: how features become columns.
        trees: r, of the columns.
        low, high: the box, shape (columns,).
    """

    columns: LogColumns
    trees: Trees
    low: Floats
    high: Floats

    def log_factor(self, X: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """r, shape (m,), 0 outside the box; and which rows lie inside."""
        Z = self.columns.transform(X)
        within = (self.low - _SLACK <= Z) & (self.high + _SLACK >= Z)
        inside = np.asarray(within.all(axis=1))
        factor = np.zeros(len(Z))
        if inside.any():
            factor[inside] = self.trees.predict(Z[inside])
        return factor, inside


def fit_correction(
    X: Floats,
    residual: Floats,
    columns: LogColumns,
    *,
    max_iter: int,
    max_depth: int,
    learning_rate: float,
    min_samples_leaf: int,
    l2_regularization: float,
    weight: Floats | None = None,
) -> Correction:
    """Boost trees on log residuals.

    Args:
        X: features, shape (m, p).
        residual: log measured - log predicted, shape (m,).
        columns: how features become columns.
        max_iter, max_depth, learning_rate, min_samples_leaf, l2_regularization: as in
            scikit-learn's ``HistGradientBoostingRegressor``.
        weight: of the rows, shape (m,).
    """
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    Z = columns.transform(X)
    boosting = HistGradientBoostingRegressor(
        max_iter=max_iter,
        max_depth=max_depth,
        learning_rate=learning_rate,
        min_samples_leaf=min_samples_leaf,
        l2_regularization=l2_regularization,
        monotonic_cst=columns.rising,
        max_bins=63,
        early_stopping=False,
        random_state=0,
    )
    with threadpool_limits(1, user_api="openmp"):  # so few rows gain nothing by threads, and on
        boosting.fit(Z, residual, sample_weight=weight)  # a busy host they wait for each other
    return Correction(columns, Trees.of(boosting), Z.min(axis=0), Z.max(axis=0))
