"""Estimators with physics built in, in scikit-learn's API."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data


class RelativeNNLS(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Non-negative least squares on relative error, without intercept.

    Minimises over b >= 0 ::

        sum_i  w_i ((y_i - x_i . b) / max(|y_i|, floor))^2

    so that a microjoule and a joule count alike, and every price is at least zero. A constant
    cost is a column of ones.

    Parameters
    ----------
    relative_floor : float, default=1e-6
        *floor* as a share of the weighted mean of |y|: keeps a target near zero from taking
        all the weight. At 0 the floor is the smallest |y| that is not zero.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features_in_,)
        b, in units of y over units of the column.
    n_features_in_ : int
        Columns seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when ``X`` had some.

    Notes
    -----
    Rows are scaled by the square root of their weight, columns to norm one; a QR factorisation
    leaves p + 1 rows for the active-set solver, so that a million rows cost one pass. Source:
    Lawson and Hanson (1974), chapter 23.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 1.0], [1.0, 10.0], [1.0, 1000.0]])
    >>> RelativeNNLS().fit(X, X @ [3.0, 0.5]).coef_.round(6).tolist()
    [3.0, 0.5]
    """

    def __init__(self, relative_floor: float = 1e-6) -> None:
        self.relative_floor = relative_floor

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the coefficients.

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
        self : RelativeNNLS
            The fitted estimator.
        """
        from scipy.optimize import nnls

        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        y = np.asarray(y, dtype=np.float64)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        size = np.abs(y)
        floor = self.relative_floor * float(weight @ size) / max(float(weight.sum()), 1e-300)
        if floor == 0:
            counted = size[(weight > 0) & (size > 0)]
            floor = float(counted.min()) if counted.size else 1.0
        row = np.sqrt(weight) / np.maximum(size, floor)
        design, target = X * row[:, None], y * row
        norm = np.linalg.norm(design, axis=0)
        norm[norm == 0] = 1.0
        augmented = np.column_stack([design / norm, target])
        reduced = np.asarray(np.linalg.qr(augmented, mode="r"))
        solution, _ = nnls(reduced[:, :-1], reduced[:, -1])
        self.coef_ = solution / norm
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """X @ coef_.

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
        return np.asarray(X @ self.coef_, dtype=np.float64)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # without intercept and with b >= 0, centred or falling targets cannot be followed
        tags.regressor_tags.poor_score = True
        return tags
