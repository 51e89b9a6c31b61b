"""`DeviceTransfer`: a fitted estimator of device A corrected for device B, scikit-learn's API."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted, validate_data

from costmodels.estimators.relative import RelativeNNLS
from costmodels.transfer.core import DeviceFamilyWarning, Rows, correct, verdict
from profiler.errors import InputError

Floats = NDArray[np.float64]
_GUESSED_SPREAD_LOG = 0.2


@dataclass(frozen=True, slots=True)
class OwnScatter:
    """How far a model is off on groups that it did not see, on its own device.

    Attributes:
        spread_log: root mean square of log y - log f over the rows of left-out groups.
        degrees: degrees of freedom behind it.
        shared: part of its square that the rows of one group have in common.
    """

    spread_log: float
    degrees: float
    shared: float


def own_scatter(base: Any, X: ArrayLike, y: ArrayLike, groups: ArrayLike) -> OwnScatter:
    """Leave each of *groups* out in turn and see how far the others' fit is off.

    With an analysis of variance of the log residuals r_gi: the mean square between groups less
    that within, over the rows a group, is what the rows of a group share. The degrees are
    Satterthwaite's for rows that share so much: m / (1 + (n - 1) shared^2), less one.

    Args:
        base: an estimator, fitted or not; clones of it are fitted.
        X, y: device A's rows, shapes (m, p) and (m,); y positive.
        groups: shape (m,); rows of one layer, or of one size, are left out together.

    Raises:
        InputError: one group only, or an energy that is not positive.
    """
    X, energy, labels = np.asarray(X), np.asarray(y, dtype=np.float64), np.asarray(groups)
    names = np.unique(labels)
    if names.size < 2:
        raise InputError("the first device's scatter needs at least two groups to leave out")
    if not (np.isfinite(energy) & (energy > 0)).all():
        raise InputError("the first device's energies must be positive and finite; drop the others")
    residual = np.empty_like(energy)
    for name in names:
        out = labels == name
        predicted = clone(base).fit(X[~out], energy[~out]).predict(X[out])
        residual[out] = np.log(energy[out]) - np.log(np.maximum(predicted, 1e-3 * energy[out]))
    total = float(np.mean(residual**2))
    m, count = energy.size, names.size
    size = m / count
    means = np.array([residual[labels == name].mean() for name in names])
    inside = float(np.mean((residual - means[np.searchsorted(names, labels)]) ** 2))
    shared = 0.0
    if size > 1 and total > 0:
        within = inside * m / max(m - count, 1)
        shared = float(np.clip((np.mean(means**2) - within / size) / total, 0.0, 1.0))
    degrees = m / (1.0 + (size - 1.0) * shared**2) - 1.0
    return OwnScatter(float(np.sqrt(total)), max(float(degrees), 1.0), shared)


class DeviceTransfer(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A model of device A corrected for device B from about 20 rows of B.

    Where A's model is a sum of prices, its parts are scaled one by one, shrunk to a common
    scale (`costmodels.transfer.core`); else its prediction is scaled as a whole ::

        f_B(x) = sum_j  s_j b_j x_j,   s_j > 0

    Parameters
    ----------
    base : fitted estimator, default=None
        Of device A, positive where fitted. It is never fitted again, and ``clone`` keeps it as
        it is. One with ``contributions(X)``, or with non-negative ``coef_`` and no intercept, is
        scaled part by part. ``None`` is for no device A at all: a `RelativeNNLS` of the rows.
    scatter : OwnScatter, default=None
        How far *base* is off on A itself, from `own_scatter`. Without it 20 % are guessed and
        there is no family test.
    alpha : float, default=0.05
        Below this p-value of the family test B is said to be of another family.

    Attributes
    ----------
    scale_ : float
        What B pays over what A would, the geometric mean over the calibration rows.
    scales_ : ndarray of shape (n_parts,)
        s, one a part.
    scales_covariance_ : ndarray of shape (n_parts, n_parts)
        Of log s.
    family_p_ : float or None
        Chance of residuals this large if B differed from A in scales alone.
    same_family_ : bool or None
        Whether that is at least *alpha*; ``None`` without a test.
    interval_factor_ : float
        Median over the calibration rows of the factor either way that holds 95 % of B's new
        layers; it is a posterior's, not calibrated on left-out layers of B.
    base_ : estimator
        What predicts for A.
    assumptions_ : tuple of str
        What the correction rests on, as sentences.
    n_features_in_ : int
        Columns seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when ``X`` had some.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.column_stack([np.ones(40), np.geomspace(10, 1e6, 40)])
    >>> device_a = RelativeNNLS().fit(X, X @ [2e-6, 5e-9])
    >>> few = slice(None, None, 4)
    >>> moved = DeviceTransfer(device_a).fit(X[few], X[few] @ [6e-6, 1e-8])
    >>> bool(np.abs(moved.predict(X) / (X @ [6e-6, 1e-8]) - 1).max() < 0.02)
    True
    """

    def __init__(
        self, base: Any = None, scatter: OwnScatter | None = None, alpha: float = 0.05
    ) -> None:
        self.base = base
        self.scatter = scatter
        self.alpha = alpha

    def __sklearn_clone__(self) -> Self:
        # a clone of a fitted base would be unfitted, and what A taught would be lost in silence
        return type(self)(base=self.base, scatter=self.scatter, alpha=self.alpha)

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        variance: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Learn B's correction.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The features that *base* was fitted on.
        y : array-like of shape (n_samples,)
            Joules of a call on B.
        variance : array-like of shape (n_samples,), default=None
            Squared standard errors of y. By default zero.
        groups : array-like of shape (n_samples,), default=None
            Layer of each row; rows of one share a misfit. By default each row is its own.

        Returns
        -------
        self : DeviceTransfer
            The corrected estimator.
        """
        design, energy = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        self.correction_ = None
        if self.base is None:
            self._no_first_device(X, energy)
            return self
        self.base_ = self.base
        self._check_base(X)
        self._by_price = self._is_sum_of_prices(design)
        rows = Rows.of(
            self._parts(X, design),
            energy,
            variance_j2=0.0 if variance is None else variance,
            spread_log=self._spread(),
            layers=groups,
            shared=self.scatter.shared if self.scatter else 0.0,
        )
        found = correct(rows, spread_degrees=self.scatter.degrees if self.scatter else None)
        self.correction_ = found
        self.scales_ = found.scales
        self.scales_covariance_ = found.scales_covariance
        first, second = rows.contributions.sum(axis=1), found.predict(rows.contributions)
        self.scale_ = float(np.exp(np.mean(np.log(second / first))))
        low, high = found.interval(rows.contributions, self._spread())
        self.interval_factor_ = float(np.median(np.sqrt(high / low)))
        self.family_p_ = found.p_value
        self.same_family_ = None if found.p_value is None else bool(found.p_value >= self.alpha)
        self.assumptions_ = (verdict(found, self.alpha),)
        if self.same_family_ is False:
            warnings.warn(self.assumptions_[0], DeviceFamilyWarning, stacklevel=2)
        return self

    def predict(self, X: ArrayLike) -> Floats:
        """Joules of a call on B.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Predictions.
        """
        check_is_fitted(self)
        design = validate_data(self, X, dtype=np.float64, reset=False)
        if self.correction_ is None:
            return np.asarray(self.base_.predict(X), dtype=np.float64)
        return self.correction_.predict(self._parts(X, design))

    def predict_interval(self, X: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
        """Interval of the joules of layers of B that were not calibrated, shapes (n_samples,).

        Raises:
            InputError: there is no device A behind the prediction.
        """
        check_is_fitted(self)
        design = validate_data(self, X, dtype=np.float64, reset=False)
        if self.correction_ is None:
            raise InputError("without a model of a first device there is no interval; give base")
        return self.correction_.interval(self._parts(X, design), self._spread(), level=level)

    def _spread(self) -> float:
        return self.scatter.spread_log if self.scatter else _GUESSED_SPREAD_LOG

    def _check_base(self, X: ArrayLike) -> None:
        try:
            check_is_fitted(self.base_)
        except NotFittedError as error:
            raise InputError(
                "the base estimator is not fitted: fit it to the first device's rows before its "
                "transfer"
            ) from error
        known = getattr(self.base_, "n_features_in_", self.n_features_in_)
        names = getattr(self.base_, "feature_names_in_", None)
        given = getattr(self, "feature_names_in_", None)
        if known != self.n_features_in_:
            raise InputError(
                f"the calibration has {self.n_features_in_} features where the model of the first "
                f"device has {known}"
            )
        if names is not None and given is not None and list(names) != list(given):
            raise InputError(
                f"the calibration's features are {list(given)} where the model of the first device "
                f"has {list(names)}"
            )

    def _parts(self, X: ArrayLike, design: Floats) -> Floats:
        """A's joules by part, shape (m, parts); one part where the base is no sum of prices."""
        if hasattr(self.base_, "contributions"):
            return np.asarray(self.base_.contributions(X), dtype=np.float64)
        if self._by_price:
            return np.asarray(design * np.asarray(self.base_.coef_, dtype=np.float64))
        return np.asarray(self.base_.predict(X), dtype=np.float64).reshape(-1, 1)

    def _is_sum_of_prices(self, design: Floats) -> bool:
        prices = np.asarray(getattr(self.base_, "coef_", np.empty(0)), dtype=np.float64)
        return bool(
            prices.shape == (design.shape[1],)
            and not np.any(getattr(self.base_, "intercept_", 0.0))
            and (prices >= 0).all()
            and (design >= 0).all()
        )

    def _no_first_device(self, X: ArrayLike, energy: Floats) -> None:
        self.base_ = RelativeNNLS().fit(X, energy)
        self.scale_, self.scales_ = 1.0, np.ones(1)
        self.scales_covariance_ = np.zeros((1, 1))
        self.family_p_ = self.same_family_ = None
        self.interval_factor_ = np.inf
        self.assumptions_ = ("no first device was given: the rows alone are fitted",)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # prices are not negative and there is no intercept: see RelativeNNLS
        tags.regressor_tags.poor_score = True
        return tags
