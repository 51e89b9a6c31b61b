"""E(k) = a + c k as a scikit-learn estimator; the numbers are those of `costmodels.stretches`."""

from __future__ import annotations

from math import inf
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    check_non_negative,
    validate_data,
)

from costmodels.estimators.leastsquares import nonnegative_least_squares
from costmodels.stretches import (
    LACK_OF_FIT_LEVEL,
    Points,
    Quantity,
    Stretch,
    fit_stretches,
)
from profiler.errors import InputError
from profiler.statistics import t_quantile

Floats = NDArray[np.float64]
_MANY_DEGREES = 1e9
_ROUNDING = 1e-9


class PiecewiseLine(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """E(k) = a + c k with a, c >= 0, and a knee where the errors refuse one line.

    Weighted least squares of the means at each k. The lack-of-fit test of the line is F (or
    chi-square where errors are known), with m - 2 degrees over m distinct k. Below ``alpha``,
    with at least four distinct k, the best non-decreasing pair of lines takes its place, as where
    a tensor outgrows a cache.

    Parameters
    ----------
    max_pieces : {1, 2}, default=2
        Lines at most. With 1 the test is reported and nothing follows from it.
    alpha : float, default=0.01
        Level of the lack-of-fit test.
    error_degrees : float, default=inf
        Degrees of freedom behind the standard errors that ``sample_weight`` comes from.
    column : int or str, default=0
        The column of X that holds k, by position or by name, so that the estimator can stand
        behind a table of features. What else is in X does not matter, unless it is negative.

    Attributes
    ----------
    a_, c_ : ndarray of shape (n_pieces,)
        In the unit of y, and that over the unit of k.
    a_interval_, c_interval_ : ndarray of shape (n_pieces, 2)
        95 % intervals, cut at zero and wider by what the constraint moved the estimate.
        Infinite above where nothing says how large the errors are.
    breaks_ : ndarray of shape (n_pieces - 1,)
        Where each further line begins.
    lack_of_fit_p_ : float
        p-value of the one line; NaN where it cannot be tested.
    k_range_ : tuple of float
        Smallest and largest k of the fit; beyond it is extrapolation.
    n_features_in_, feature_names_in_
        As everywhere in scikit-learn.

    Notes
    -----
    ``sample_weight`` is 1 / s^2, with s the standard error of a row in the unit of y: errors,
    intervals and the test rest on it, and a row given twice is a row with twice the weight.
    Without ``sample_weight`` every row counts alike and s^2 is what rows of one k scatter; where
    no k repeats, it is the scatter about the line, which then cannot be tested.

    With one k alone, a and c cannot be told apart: all is c, and either's interval reaches from
    zero to the whole.

    Examples
    --------
    >>> import numpy as np
    >>> k = np.array([[1.0], [10.0], [100.0], [1000.0]])
    >>> line = PiecewiseLine().fit(k, 2.0 + 0.5 * k[:, 0], sample_weight=np.full(4, 100.0))
    >>> line.a_.round(6).tolist(), line.c_.round(6).tolist(), line.breaks_.tolist()
    ([2.0], [0.5], [])
    """

    def __init__(
        self,
        max_pieces: int = 2,
        alpha: float = LACK_OF_FIT_LEVEL,
        error_degrees: float = inf,
        column: int | str = 0,
    ) -> None:
        self.max_pieces = max_pieces
        self.alpha = alpha
        self.error_degrees = error_degrees
        self.column = column

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the line, or two.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            k in one of its columns, at least zero.
        y : array-like of shape (n_samples,)
            Energies; measured ones may be negative.
        sample_weight : array-like of shape (n_samples,), default=None
            1 / s^2; rows of weight zero are left out.

        Returns
        -------
        self : PiecewiseLine
            The fitted estimator.
        """
        if self.max_pieces not in (1, 2):
            raise InputError(f"max_pieces is 1 or 2, not {self.max_pieces!r}")
        if not 0 <= self.alpha <= 1 or not self.error_degrees > 0:
            raise InputError("alpha lies in 0 to 1 and error_degrees above 0")
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        k, y = self._k(X), np.asarray(y, dtype=np.float64)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        used = weight > 0
        if not used.any():
            raise InputError("every sample weight is zero: nothing to fit")
        points, self_scaled = self._points(k[used], y[used], weight[used], sample_weight is None)
        stretches: tuple[Stretch, ...]
        p: float | None
        if points.k.size == 1:
            stretches, p = (_one_k(points),), None
        else:
            # a scatter about the line itself cannot refuse it
            knee = self.max_pieces > 1 and not self_scaled
            stretches, p = fit_stretches(points, level=self.alpha, knee=knee)
            if len(stretches) == 1:
                stretches = (_constrained(stretches[0], points),)
        self.a_ = np.array([stretch.a.value for stretch in stretches])
        self.c_ = np.array([stretch.c.value for stretch in stretches])
        self.a_interval_ = np.array([_interval(stretch.a) for stretch in stretches])
        self.c_interval_ = np.array([_interval(stretch.c) for stretch in stretches])
        self.breaks_ = np.array([stretch.from_k for stretch in stretches[1:]], dtype=np.float64)
        self.lack_of_fit_p_ = float("nan") if p is None or self_scaled else p
        self.k_range_ = (float(points.k[0]), float(points.k[-1]))
        return self

    def predict(self, X: ArrayLike) -> Floats:
        """a + c k, of the line that k lies on.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            As in ``fit``.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Never negative.
        """
        check_is_fitted(self)
        k = self._k(validate_data(self, X, dtype=np.float64, reset=False))
        piece = np.searchsorted(self.breaks_, k, side="right")
        return np.asarray(self.a_[piece] + self.c_[piece] * k)

    def _k(self, X: Any) -> Floats:
        """The column that holds k, checked."""
        check_non_negative(X, "PiecewiseLine, whose k are counts")
        names = list(getattr(self, "feature_names_in_", []))
        if isinstance(self.column, str):
            if self.column not in names:
                raise InputError(f"X has no column named {self.column!r} to take k from")
            position = names.index(self.column)
        else:
            position = int(self.column)
            if not -X.shape[1] <= position < X.shape[1]:
                raise InputError(f"X has no column {position} to take k from")
        k = np.asarray(X, dtype=np.float64)[:, position]
        if (k < 0).any():
            raise InputError(
                f"k is {k.min():g} in column {self.column!r}: a count is never below 0"
            )
        return k

    def _points(self, k: Floats, y: Floats, weight: Floats, unknown: bool) -> tuple[Points, bool]:
        """Rows of one k as their mean, and whether their errors are the scatter about the line."""
        distinct, place = np.unique(k, return_inverse=True)
        total = np.asarray(np.bincount(place, weight), dtype=np.float64)
        mean = np.asarray(np.bincount(place, weight * y) / total)
        degrees, variance, self_scaled = min(self.error_degrees, _MANY_DEGREES), 1.0 / total, False
        if unknown:
            scatter = float(weight @ (y - mean[place]) ** 2)
            degrees = float(k.size - distinct.size)
            self_scaled = not scatter > _ROUNDING**2 * float(weight @ y**2)
            if self_scaled:
                scatter, degrees = _about_the_line(distinct, mean, total)
            least = max((_ROUNDING * float(np.abs(y).max())) ** 2, 1e-300)
            variance = variance * max(scatter / degrees if degrees else 0.0, least)
            degrees = degrees or np.nan  # nothing is known of the errors
        every = np.full(distinct.size, max(degrees, 1e-3) if degrees == degrees else degrees)
        return Points(distinct, mean, variance, every, 1.0 / variance, degrees), self_scaled

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.regressor_tags.poor_score = True  # one column, and no falling line
        return tags


def _about_the_line(k: Floats, mean: Floats, weight: Floats) -> tuple[float, float]:
    """Weighted squares about the best line, and the degrees of freedom left."""
    if k.size < 3:
        return 0.0, 0.0
    root = np.sqrt(weight)
    design = np.column_stack([root, root * k / k.max()])
    best, *_ = np.linalg.lstsq(design, root * mean, rcond=None)
    return float(np.sum((root * mean - design @ best) ** 2)), float(k.size - 2)


def _constrained(stretch: Stretch, points: Points) -> Stretch:
    """The line with a, c >= 0; each says how far that moved it."""
    design = np.column_stack([np.ones_like(points.k), points.k])
    a, c = nonnegative_least_squares(design, points.mean, points.weight)
    return Stretch(stretch.from_k, _moved(stretch.a, float(a)), _moved(stretch.c, float(c)))


def _moved(quantity: Quantity, value: float) -> Quantity:
    return Quantity(value, quantity.error, quantity.degrees, abs(value - quantity.value))


def _one_k(points: Points) -> Stretch:
    k, degrees = float(points.k[0]), float(points.degrees[0])
    whole = max(float(points.mean[0]), 0.0)
    error = float(np.sqrt(points.variance[0]))
    if k == 0:
        return Stretch(0.0, Quantity(whole, error, degrees), Quantity(0.0, 0.0, degrees, inf))
    a = Quantity(0.0, error, degrees, whole)
    return Stretch(1.0, a, Quantity(whole / k, error / k, degrees, whole / k))


def _interval(quantity: Quantity) -> tuple[float, float]:
    """95 %; from zero to infinity where the degrees of freedom are not known."""
    if np.isnan(quantity.degrees):
        return 0.0, inf
    half = t_quantile(0.975, quantity.degrees) * quantity.error + quantity.pulled
    return max(quantity.value - half, 0.0), quantity.value + half
