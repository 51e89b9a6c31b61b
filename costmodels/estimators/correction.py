"""What prices cannot follow, as a factor learned from residuals on the log scale.

Boosted trees follow what steps; a quadratic in the logarithms, where it is used, what bends
smoothly. The columns of the trees are logarithms: of the priced features and of the shape, and of
the ratios of each two priced features (MACs a byte, output over input), which say how well a layer
uses the machine and are the same for a layer twice as large. A feature of 0 has no logarithm and
takes a value just under the lowest one seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from costmodels.estimators.boosted import Trees
from costmodels.estimators.quadratic import Quadratic, fit_quadratic

Floats = NDArray[np.float64]
_SLACK = 1e-8
_BELOW = 1.0
_DECIMALS = 9


@dataclass(frozen=True, eq=False)
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
        ratios = []
        for i, j in self.pairs:  # a ratio with nothing stays the same, however large the other
            known = positive[:, i] & positive[:, j]
            ratio = np.where(known, logs[:, i] - logs[:, j], self.floors[i] - self.floors[j])
            ratios.append(ratio)
        # equal ratios of unequal features differ in their last bits, which must decide nothing
        return np.round(np.column_stack([logs, *ratios]), _DECIMALS)

    def names(self, features: tuple[str, ...]) -> tuple[str, ...]:
        """A name for each column."""
        ratios = (f"log {features[i]} / {features[j]}" for i, j in self.pairs)
        return (*(f"log {name}" for name in features), *ratios)

    @property
    def rising(self) -> list[int]:
        """1 for the columns in which trees alone may not fall, 0 for the others.

        Those of the priced features: of two layers with the same ratios and shape, the trees
        never lower the larger against the smaller.
        """
        p = self.floors.size
        return [int(j in self.priced) for j in range(p)] + [0] * len(self.pairs)


@dataclass(frozen=True, eq=False)
class Correction:
    """A factor exp(r(x)) on predictions, 1 outside the box of the training rows.

    r = clip(smooth(log x) + trees(columns), -most, most)

    Attributes:
        columns: how features become columns.
        smooth: a quadratic in the logarithms of the features themselves, not of ratios.
        trees: of all columns, on what the quadratic leaves; without one they never fall with a
            priced feature.
        low, high: the box of the features' logarithms, shape (p,).
        most: the largest residual that was seen, above zero.
    """

    columns: LogColumns
    smooth: Quadratic | None
    trees: Trees
    low: Floats
    high: Floats
    most: float

    def log_factor(self, X: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """r, shape (m,), 0 outside the box; and which rows lie inside."""
        Z = self.columns.transform(X)
        logs = Z[:, : self.low.size]
        within = (self.low - _SLACK <= logs) & (self.high + _SLACK >= logs)
        inside = np.asarray(within.all(axis=1))
        factor = np.zeros(len(Z))
        if inside.any():
            found = self.trees.predict(Z[inside])
            if self.smooth is not None:
                found = found + self.smooth.predict(logs[inside])
            factor[inside] = np.clip(found, -self.most, self.most)
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
    penalty: float | None,
    weight: Floats | None = None,
) -> Correction:
    """Boosted trees on log residuals, or a quadratic through them and trees on what it leaves.

    Args:
        X: features, shape (m, p).
        residual: log measured - log predicted, shape (m,).
        columns: how features become columns.
        max_iter, max_depth, learning_rate, min_samples_leaf, l2_regularization: as in
            scikit-learn's ``HistGradientBoostingRegressor``.
        penalty: of the quadratic, in rows; ``None`` for trees alone, which then never fall with
            a priced feature.
        weight: of the rows, shape (m,).
    """
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    Z = columns.transform(X)
    logs = Z[:, : X.shape[1]]
    smooth, left = None, residual
    if penalty is not None:
        counts = np.ones(len(X)) if weight is None else weight
        smooth = fit_quadratic(logs, residual, counts, penalty)
        left = residual - smooth.predict(logs)
    boosting = HistGradientBoostingRegressor(
        max_iter=max_iter,
        max_depth=max_depth,
        learning_rate=learning_rate,
        min_samples_leaf=min_samples_leaf,
        l2_regularization=l2_regularization,
        monotonic_cst=columns.rising if smooth is None else None,
        max_bins=63,
        early_stopping=False,
        random_state=0,
    )
    with threadpool_limits(1, user_api="openmp"):  # so few rows gain nothing by threads, and on
        # a busy host they wait for each other
        boosting.fit(Z, left, sample_weight=weight)
    counted = residual if weight is None else residual[weight > 0]
    most = float(np.abs(counted).max(initial=0.0))
    return Correction(
        columns, smooth, Trees.of(boosting), logs.min(axis=0), logs.max(axis=0), max(most, 1e-9)
    )
