"""Estimators with physics built in, in scikit-learn's API."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from costmodels.estimators.leastsquares import nonnegative_least_squares, relative_scale


class RelativeNNLS(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Non-negative least squares on relative error, without intercept.

    Minimises over b >= 0 ::

        sum_i  w_i (y_i - x_i . b)^2 / (max(|y_i|, floor)^2 + v_i)

    so that a microjoule and a joule count alike, and every price is at least zero. A constant
    cost is a column of ones. The denominators are those of a misfit as large as the target and
    of a known variance v beside it.

    Parameters
    ----------
    relative_floor : float, default=1e-6
        *floor* as a share of the weighted mean of |y|: keeps a target near zero from taking
        all the weight. At 0 the floor is the smallest |y| that is not zero.
    refits : int, default=0
        How often the fit is repeated with the last prediction x_i . b in the place of y_i in
        the denominator. Noise in y weights what came out low: without a refit, b is low by about
        the squared relative error of y. Four refits take that away at relative errors up to one.

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
    Refits are iteratively reweighted least squares for the quasi-likelihood of a variance
    that grows with the squared mean (Wedderburn 1974).

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 1.0], [1.0, 10.0], [1.0, 1000.0]])
    >>> RelativeNNLS().fit(X, X @ [3.0, 0.5]).coef_.round(6).tolist()
    [3.0, 0.5]
    """

    def __init__(self, relative_floor: float = 1e-6, refits: int = 0) -> None:
        self.relative_floor = relative_floor
        self.refits = refits

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        variance: ArrayLike | None = None,
    ) -> Self:
        """Fit the coefficients.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features; physical ones are non-negative, which is not required.
        y : array-like of shape (n_samples,)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            w; at least zero.
        variance : array-like of shape (n_samples,), default=None
            v, in units of y squared; at least zero. By default zero.

        Returns
        -------
        self : RelativeNNLS
            The fitted estimator.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        design, y = np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.float64)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        known = np.zeros_like(y)
        if variance is not None:
            known = check_array(
                variance, ensure_2d=False, dtype="float64", ensure_non_negative=True
            )
            check_consistent_length(X, known)
        size = np.abs(y)
        for _ in range(1 + self.refits):
            scale = relative_scale(size, weight, self.relative_floor)
            self.coef_ = nonnegative_least_squares(design, y, weight / (scale**2 + known))
            size = np.abs(design @ self.coef_)
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
        return np.asarray(np.asarray(X) @ self.coef_, dtype=np.float64)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # without intercept and with b >= 0, centred or falling targets cannot be followed
        tags.regressor_tags.poor_score = True
        return tags
