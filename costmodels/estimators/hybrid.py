"""Prices, and where it is shown to help a learned factor on what they predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from costmodels.estimators.bykind import KindwiseNNLS, column_position
from costmodels.estimators.correction import Correction, LogColumns, fit_correction
from costmodels.estimators.folds import fold_numbers
from costmodels.estimators.leastsquares import prices_of, relative_scale
from profiler.statistics import t_quantile

Floats = NDArray[np.float64]
_FEWEST_GROUPS, _FEWEST_ROWS = 3, 60
_CLEARLY = 0.9
Form = Literal["trees", "smooth"]
FORMS: tuple[Form, ...] = ("trees", "smooth")
Correct = Mapping[float | None, Form] | None


@dataclass(frozen=True, slots=True)
class Gain:
    """What a correction does for groups that it was not fitted to.

    Attributes:
        without, corrected: mean over the groups of their mean \\|f / y - 1\\|.
        error: standard error of the difference over the groups.
        groups: how many.
    """

    without: float
    corrected: float
    error: float
    groups: int

    @property
    def helps(self) -> bool:
        """Better by more than chance: one-sided t over the groups at 5 %."""
        allowed = t_quantile(0.95, self.groups - 1) * self.error
        return self.corrected - self.without + allowed < 0


class HybridRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Non-negative prices for each kind, times a boosted factor where it is shown to help ::

        f(x) = x . b_kind   exp(r_kind(x))

    b is `KindwiseNNLS`'s, and r boosted trees on the log residuals, or a quadratic and trees on
    what it leaves (`costmodels.estimators.correction`), for a kind where
    leave-group-out says that they help, and only inside the box of that kind's training columns;
    elsewhere r is 0, and the prices extrapolate alone.

    Parameters
    ----------
    kind_column : int or str, default=None
        The column of ``X`` that holds the kind as a number. By default all are of one kind.
    unpriced : sequence of int or str, default=()
        Columns that have no price and serve r alone: a layer's channels, its stride.
    n_trees : int, default=100
        Trees of a kind.
    max_depth : int, default=4
        Of a tree.
    learning_rate : float, default=0.1
        What a tree adds of what it finds.
    min_samples_leaf : int, default=10
        The fewest rows of a leaf.
    l2_regularization : float, default=1.0
        Of the leaves.
    penalty : float, default=10.0
        Ridge penalty of the quadratic, in rows.
    max_rows : int, default=5000
        Rows that r is fitted to, drawn at random where a kind has more.
    folds : int, default=5
        Groups are left out in at most so many parts to see if r helps.
    correct : dict, default=None
        Kind -> ``"trees"`` or ``"smooth"`` (with the quadratic), for kinds that get a correction
        without a test; the others get none. The only kind is ``None``. By default each is tested.
    random_state : int, RandomState instance or None, default=0
        Of the parts and of the rows drawn.

    Attributes
    ----------
    base_ : KindwiseNNLS
        The prices.
    gains_ : dict
        Kind -> `Gain` of the better form, for each kind that was tried; the only kind is
        ``None``.
    corrections_ : dict
        Kind -> `Correction` where it helps.
    forms_ : dict
        Kind -> its form.
    n_features_in_ : int
        Columns seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when ``X`` had some.

    Notes
    -----
    r helps where the mean over the left-out groups of \\|f / y - 1\\|, the error that the prices
    minimise the square of, falls by more than chance: paired over groups, one-sided t at 5 %.
    Without *groups*, or with fewer than three of them or 60 rows of a kind, nothing can be shown
    and r is 0. Trees alone never fall with a priced feature at equal ratios of the priced features
    and equal unpriced ones, so that a layer that grows as a whole is not made cheaper; with the
    quadratic r may fall, and it is taken only where that error is a tenth lower than with trees
    alone. Rows that the prices say nothing of, x . b = 0, take no part in r.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).uniform(1, 100, (300, 2))
    >>> y = X[:, 0] * np.sqrt(X[:, 1])  # not a sum of prices times features
    >>> model = HybridRegressor().fit(X, y, groups=np.arange(300) % 10)
    >>> model.gains_[None].helps
    True
    """

    def __init__(
        self,
        kind_column: int | str | None = None,
        unpriced: Sequence[int | str] = (),
        n_trees: int = 100,
        max_depth: int = 4,
        learning_rate: float = 0.1,
        min_samples_leaf: int = 10,
        l2_regularization: float = 1.0,
        penalty: float = 10.0,
        max_rows: int = 5000,
        folds: int = 5,
        correct: Correct = None,
        random_state: Any = 0,
    ) -> None:
        self.kind_column = kind_column
        self.unpriced = unpriced
        self.n_trees = n_trees
        self.max_depth = max_depth
        self.learning_rate = learning_rate
        self.min_samples_leaf = min_samples_leaf
        self.l2_regularization = l2_regularization
        self.penalty = penalty
        self.max_rows = max_rows
        self.folds = folds
        self.correct = correct
        self.random_state = random_state

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Fit prices, and the correction of each kind where it helps.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features; physical ones are non-negative, which is not required.
        y : array-like of shape (n_samples,)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            At least zero.
        groups : array-like of shape (n_samples,), default=None
            What is left out together to see if a correction helps.

        Returns
        -------
        self : HybridRegressor
            The fitted estimator.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        design, kind = self._split(np.asarray(X, dtype=np.float64))
        y = np.asarray(y, dtype=np.float64)
        self.base_ = KindwiseNNLS(kind_column=None if kind is None else design.shape[1])
        self.base_.fit(self._for_base(design, kind), y, weight)
        self.gains_: dict[float | None, Gain] = {}
        self.corrections_: dict[float | None, Correction] = {}
        self.forms_: dict[float | None, Form] = dict(self.correct or {})
        if groups is None and not self.correct:
            return self
        labels = (
            np.zeros(len(y)) if groups is None else check_array(groups, ensure_2d=False, dtype=None)
        )
        check_consistent_length(X, labels)
        generator = check_random_state(self.random_state)
        seed = int(generator.randint(2**31 - 1))
        values = np.asarray(X, dtype=np.float64)
        kinds: list[float | None] = [None] if kind is None else [float(k) for k in np.unique(kind)]
        for code in kinds:
            rows = np.flatnonzero((weight > 0) & (y > 0) & (True if code is None else kind == code))
            if rows.size > self.max_rows:
                drawn = np.random.default_rng(seed).choice(rows.size, self.max_rows, replace=False)
                rows = rows[np.sort(drawn)]
            self._fit_kind(code, values[rows], y[rows], weight[rows], labels[rows], seed)
        return self

    def predict(self, X: ArrayLike) -> Floats:
        """Prices times features, times the correction where there is one.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Predictions; non-negative where X is.
        """
        check_is_fitted(self)
        X = np.asarray(validate_data(self, X, dtype=np.float64, reset=False))
        design, kind = self._split(X)
        predicted = self.base_.predict(self._for_base(design, kind))
        for code, correction in self.corrections_.items():
            rows = np.ones(len(X), bool) if code is None else np.asarray(kind == code)
            predicted[rows] *= np.exp(correction.log_factor(X[rows][:, self._kept()])[0])
        return np.asarray(predicted, dtype=np.float64)

    def _fit_kind(
        self, code: float | None, X: Floats, y: Floats, weight: Floats, labels: Any, seed: int
    ) -> None:
        if len(y) < _FEWEST_ROWS or (code is not None and code not in self.base_.kinds_):
            return
        if self.correct is not None:
            if code in self.correct:
                self.corrections_[code] = self._boost(X, y, weight, self.correct[code])[1]
            return
        if np.unique(labels).size < _FEWEST_GROUPS:
            return
        fold = fold_numbers(labels, self.folds, seed)
        parts = np.unique(fold)
        left_out = np.concatenate([np.flatnonzero(fold == part) for part in parts])
        gains = {}
        for form in FORMS:
            changes = [self._change(X, y, weight, fold == part, form) for part in parts]
            gains[form] = _gain(np.concatenate(changes, axis=1), np.asarray(labels)[left_out])
        clearly = gains["smooth"].corrected < _CLEARLY * gains["trees"].corrected
        best: Form = "smooth" if clearly else "trees"
        self.gains_[code] = gains[best]
        if gains[best].helps:
            self.forms_[code] = best
            self.corrections_[code] = self._boost(X, y, weight, best)[1]

    def _change(
        self, X: Floats, y: Floats, weight: Floats, out: NDArray[np.bool_], form: Form
    ) -> Floats:
        """\\|f / y - 1\\| of the rows *out*, without and with the correction, (2, rows)."""
        prices, correction = self._boost(X[~out], y[~out], weight[~out], form)
        alone = self._split(X[out])[0] @ prices
        factor, _ = correction.log_factor(X[out][:, self._kept()])
        return np.abs(np.stack([alone, alone * np.exp(factor)]) / y[out] - 1)

    def _boost(self, X: Floats, y: Floats, weight: Floats, form: Form) -> tuple[Floats, Correction]:
        """The prices of these rows alone, and the correction on them."""
        design, _ = self._split(X)
        prices = prices_of(design, y, weight / relative_scale(y, weight, 1e-6) ** 2)
        kept = self._kept()
        unpriced = {column_position(self, column, "unpriced") for column in self.unpriced}
        said = design @ prices > 0
        said = said if said.any() else np.ones_like(said)
        columns = X[said][:, kept]
        priced = tuple(
            place
            for place, j in enumerate(kept)
            if j not in unpriced and np.ptp(columns[:, place]) > 0
        )
        return prices, fit_correction(
            columns,
            _log_ratio(y[said], design[said] @ prices),
            LogColumns.of(columns, priced),
            max_iter=self.n_trees,
            max_depth=self.max_depth,
            learning_rate=self.learning_rate,
            min_samples_leaf=self.min_samples_leaf,
            l2_regularization=self.l2_regularization,
            penalty=self.penalty if form == "smooth" else None,
            weight=weight[said],
        )

    def _kept(self) -> list[int]:
        """The columns that a correction looks at: all but the kind, which is one within a kind."""
        at = None if self.kind_column is None else self._kind_at()
        return [j for j in range(self.n_features_in_) if j != at]

    def _kind_at(self) -> int:
        if self.kind_column is None:
            raise ValueError("there is no kind_column")
        return column_position(self, self.kind_column, "kind_column")

    def _split(self, X: Floats) -> tuple[Floats, Floats | None]:
        """*X* with zeros where a column has no price, and the kind."""
        unpriced = [column_position(self, column, "unpriced") for column in self.unpriced]
        design = X.copy()
        design[:, unpriced] = 0.0
        if self.kind_column is None:
            return design, None
        at = self._kind_at()
        design[:, at] = 0.0
        return design, X[:, at]

    @staticmethod
    def _for_base(design: Floats, kind: Floats | None) -> Floats:
        return design if kind is None else np.column_stack([design, kind])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True
        return tags


def _log_ratio(y: Floats, predicted: Floats) -> Floats:
    """log y - log f; a prediction of nothing counts as a thousandth of the truth."""
    return np.asarray(np.log(y) - np.log(np.maximum(predicted, 1e-3 * y)))


def _gain(sizes: Floats, labels: Any) -> Gain:
    """From errors without and with the correction, shape (2, m), to their mean over groups."""
    _, number = np.unique(labels, return_inverse=True)
    count = np.bincount(number)
    without, corrected = (np.bincount(number, weights=row) / count for row in sizes)
    change = corrected - without
    return Gain(
        without=float(without.mean()),
        corrected=float(corrected.mean()),
        error=float(change.std(ddof=1) / np.sqrt(count.size)),
        groups=int(count.size),
    )
