"""Prices for each kind of layer, and pooled ones for the kinds that nobody measured."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from costmodels.estimators.leastsquares import distinguishable, prices_of, relative_scale

Floats = NDArray[np.float64]


class KindwiseNNLS(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Non-negative least squares on relative error, with prices of their own for each kind.

    For the rows of one kind, and once more for all rows together, minimises over b >= 0 ::

        sum_i  w_i (1 - x_i . b / max(|y_i|, floor))^2

    In the pooled fit every kind counts alike, however many rows it has. A kind never seen is
    priced by the pooled fit, and so is one with fewer than *min_rows* rows, or whose own prices
    would all be zero.

    Parameters
    ----------
    kind_column : int or str, default=None
        The column of ``X`` that holds the kind as a number; it gets no price. By default all
        rows are of one kind.
    min_rows : int, default=12
        The fewest rows for prices of its own; three for each column that varies if that is more.
    relative_floor : float, default=1e-6
        *floor* as a share of the weighted mean of |y| of a kind.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features_in_,)
        The pooled prices, in units of y over units of the column; 0 for the kind.
    kinds_ : ndarray of shape (n_kinds,)
        The kinds that have prices of their own, sorted; empty without *kind_column*.
    kind_coef_ : ndarray of shape (n_kinds, n_features_in_)
        Their prices.
    n_features_in_ : int
        Columns seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when ``X`` had some.

    Notes
    -----
    Of columns that are proportional in the rows of a kind, the last carries the price.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[n, kind] for kind in (0.0, 1.0) for n in range(1, 13)])
    >>> y = np.where(X[:, 1] == 0, 2.0, 6.0) * X[:, 0]
    >>> model = KindwiseNNLS(kind_column=1).fit(X, y)
    >>> model.predict([[10.0, 0.0], [10.0, 1.0], [10.0, 7.0]]).round(6).tolist()
    [20.0, 60.0, 24.0]
    """

    def __init__(
        self,
        kind_column: int | str | None = None,
        min_rows: int = 12,
        relative_floor: float = 1e-6,
    ) -> None:
        self.kind_column = kind_column
        self.min_rows = min_rows
        self.relative_floor = relative_floor

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the prices.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features; physical ones are non-negative, which is not required.
        y : array-like of shape (n_samples,)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            w; at least zero.

        Returns
        -------
        self : KindwiseNNLS
            The fitted estimator.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        y = np.asarray(y, dtype=np.float64)
        design, kind = self._split(np.asarray(X, dtype=np.float64))
        relative = weight / relative_scale(y, weight, self.relative_floor, kind) ** 2
        counted = weight > 0
        self.kinds_, self.kind_coef_ = np.empty(0), np.empty((0, design.shape[1]))
        share = np.ones_like(weight)
        if kind is not None:
            found = [(code, (kind == code) & counted) for code in np.unique(kind[counted])]
            for _, rows in found:
                share[rows] = 1.0 / weight[rows].sum()
            fits = [
                (code, prices_of(design[rows], y[rows], relative[rows]))
                for code, rows in found
                if int(rows.sum()) >= max(self.min_rows, 3 * _varying(design[rows]))
            ]
            own = [(code, prices) for code, prices in fits if prices.any()]
            if own:
                self.kinds_ = np.array([code for code, _ in own])
                self.kind_coef_ = np.array([prices for _, prices in own])
        self.coef_ = prices_of(design, y, relative * share)
        return self

    def predict(self, X: ArrayLike) -> Floats:
        """The prices of a row's kind times its features.

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
        X = validate_data(self, X, dtype=np.float64, reset=False)
        design, kind = self._split(np.asarray(X))
        predicted = np.asarray(design @ self.coef_, dtype=np.float64)
        if kind is not None:
            for code, prices in zip(self.kinds_, self.kind_coef_, strict=True):
                rows = kind == code
                predicted[rows] = design[rows] @ prices
        return predicted

    def _split(self, X: Floats) -> tuple[Floats, Floats | None]:
        """*X* with nothing in the column of the kind, and the kind."""
        if self.kind_column is None:
            return X, None
        at = column_position(self, self.kind_column, "kind_column")
        design = X.copy()
        design[:, at] = 0.0
        return design, X[:, at]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # without intercept and with b >= 0, centred or falling targets cannot be followed
        tags.regressor_tags.poor_score = True
        return tags


def column_position(estimator: Any, column: int | str, parameter: str) -> int:
    """Where *column* stands among the features that *estimator* was fitted to.

    Raises:
        ValueError: there is no such column.
    """
    if isinstance(column, str):
        names = list(getattr(estimator, "feature_names_in_", ()))
        if column not in names:
            raise ValueError(f"{parameter} {column!r} is none of the columns {names}")
        return names.index(column)
    if not 0 <= column < estimator.n_features_in_:
        raise ValueError(
            f"{parameter} {column} is not one of {estimator.n_features_in_} columns, from 0"
        )
    return column


def _varying(design: Floats) -> int:
    return len(distinguishable(design))
