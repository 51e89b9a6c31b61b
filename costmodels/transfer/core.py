"""A model of device A corrected for device B: what each of A's prices is to be multiplied by.

A prices row i at f_i = sum_j c_ij, c_ij = price_j x feature_ij >= 0. On B each part is scaled::

    log y_i = log sum_j exp(theta_j) c_ij + u_l(i) + e_i + noise_i
    theta_j = t + g_group(j) + d_j,   g ~ N(0, tau_g^2),   d ~ N(0, tau_d^2),   t free
    u ~ N(0, rho (kappa s_i)^2),   e ~ N(0, (1 - rho) (kappa s_i)^2)

s_i is how far A's own model is off on a layer that it did not see, rho the share of it that all
rows of one layer have in common, kappa how much further off it is on B. The scales thus differ
only as far as the rows show it: with few rows every part keeps the common scale exp(t), and the
prediction stays a positive combination of A's parts.

tau_d, tau_g and kappa are not chosen but averaged over a grid, each node weighing as much as its
marginal likelihood (Laplace's approximation; log normal priors, `log_priors`), so that a prediction
knows what 20 rows cannot tell. Nothing here knows of traces or tables: arrays in, arrays out.

Sources: Efron and Morris (1975) for shrinking many scales to a common one; Tierney and Kadane
(1986) for Laplace's approximation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from costmodels.transfer.grid import (
    BETWEEN,
    DISTINCT,
    FURTHER,
    LogRows,
    family_test,
    log_priors,
    misfit_variance,
    mixture_quantile,
    node_predictions,
    posterior,
    reference_spread,
)
from costmodels.transfer.rows import LEAST_SPREAD_LOG, informative_rows
from costmodels.transfer.rows import Rows as Rows

Floats = NDArray[np.float64]


class DeviceFamilyWarning(UserWarning):
    """The two devices differ by more than scales: the corrected model's form is in doubt."""


@dataclass(frozen=True)
class Correction:
    """What device B's prices are of device A's, as a weighted grid of normal posteriors.

    Attributes:
        log_scales: theta at its peak, node by node, shape (n, p).
        covariance: of theta, shape (n, p, p).
        further: kappa of each node, shape (n,).
        between: tau_g of each node, shape (n,).
        weights: of the nodes, sum 1, shape (n,).
        reference_log: the spread of A that kappa multiplies, of all rows together.
        groups: as given, shape (p,).
        rows, informative: rows given, and rows whose noise left something to learn.
        p_value: of the family test; ``None`` where nothing says how far A's own model is off.
        test_degrees: residual degrees of freedom of the test.
        misfit_ratio: root mean square of B's misfit over what A's would allow.
    """

    log_scales: Floats
    covariance: Floats
    further: Floats
    between: Floats
    weights: Floats
    reference_log: float
    groups: NDArray[np.intp]
    rows: int
    informative: int
    p_value: float | None
    test_degrees: float
    misfit_ratio: float

    @property
    def scales(self) -> Floats:
        """exp of the mean log scale of each part, shape (p,)."""
        return np.asarray(np.exp(self.weights @ self.log_scales))

    @property
    def scales_covariance(self) -> Floats:
        """Covariance of the log scales, within nodes and between them, shape (p, p)."""
        away = self.log_scales - self.weights @ self.log_scales
        inside = np.einsum("n,nij->ij", self.weights, self.covariance)
        return np.asarray(inside + np.einsum("n,ni,nj->ij", self.weights, away, away))

    def predict(self, contributions: ArrayLike) -> Floats:
        """Joules on B of rows with parts c, shape (m, p): sum_j scale_j c_ij, shape (m,)."""
        return np.asarray(np.asarray(contributions, dtype=np.float64) @ self.scales)

    def interval(
        self,
        contributions: ArrayLike,
        spread_log: ArrayLike,
        *,
        level: float = 0.95,
        variance_log: ArrayLike = 0.0,
    ) -> tuple[Floats, Floats]:
        """Equal-tailed prediction interval of the joules of new rows of layers not calibrated.

        Args:
            contributions: parts c, shape (m, p); a row of zeros costs nothing, surely.
            spread_log: s of each row, as in `Rows`.
            level: 0.95 for 95 %.
            variance_log: squared relative error of the measurement that the interval is for.

        Returns:
            low, high: J, shapes (m,).
        """
        parts = np.asarray(contributions, dtype=np.float64)
        s = np.maximum(
            np.broadcast_to(np.asarray(spread_log, float), parts.shape[:1]), LEAST_SPREAD_LOG
        )
        mean, variance = node_predictions(self.log_scales, self.covariance, parts)
        variance = variance + misfit_variance(self.further, s, self.reference_log)
        variance = variance + np.asarray(variance_log, float)
        tail = 0.5 - level / 2
        low, high = (
            mixture_quantile(self.weights, mean, np.sqrt(variance), q) for q in (tail, 1 - tail)
        )
        nothing = ~(parts.sum(axis=1) > 0)
        return np.where(nothing, 0.0, np.exp(low)), np.where(nothing, 0.0, np.exp(high))


def correct(rows: Rows, *, spread_degrees: float | None = None) -> Correction:
    """Learn B's scales from calibration rows.

    Args:
        rows: of device B.
        spread_degrees: degrees of freedom behind ``rows.spread_log``, about A's left-out layers
            less one; infinite where it is known; ``None`` where it is a guess, and then there is
            no family test.

    Raises:
        InputError: a row at or below zero although its noise is small, or all rows drown in
            their noise.
    """
    kept, z, noise = informative_rows(rows)
    data = LogRows(
        rows.contributions[kept], z, noise, rows.spread_log[kept], rows.layers[kept], rows.shared
    )
    single = np.unique(rows.groups).size == 1
    further, distinct, between = (
        values.ravel()
        for values in np.meshgrid(
            FURTHER, DISTINCT, BETWEEN[:1] if single else BETWEEN, indexing="ij"
        )
    )
    theta, covariance, evidence, _ = posterior(data, rows.groups, further, distinct, between)
    weight = evidence + log_priors(further, distinct, between, spread_degrees)
    weights = np.exp(weight - weight.max())
    weights /= weights.sum()
    p_value, degrees, ratio = family_test(data, rows.groups, between, spread_degrees)
    return Correction(
        log_scales=theta,
        covariance=covariance,
        further=further,
        between=between,
        weights=weights,
        reference_log=reference_spread(data.spread),
        groups=rows.groups,
        rows=rows.energy_j.size,
        informative=int(kept.sum()),
        p_value=p_value,
        test_degrees=degrees,
        misfit_ratio=ratio,
    )


def verdict(correction: Correction, alpha: float = 0.05) -> str:
    """The family test in one sentence; a p-value below *alpha* says another family."""
    off = (
        f"its residuals are {correction.misfit_ratio:.2g} times what the first device's own misfit "
        f"and the noise allow"
    )
    if correction.p_value is None:
        return (
            f"family not tested: nothing says how far the model is off on the first device; "
            f"{correction.informative} calibration rows"
        )
    figures = f"{off} (p = {correction.p_value:.2g}, {correction.informative} calibration rows)"
    if correction.p_value < alpha:
        return (
            f"the devices are not of one family: {figures}; calibrate with more blocks or fit a "
            "model to this device alone"
        )
    return f"nothing speaks against one family: {figures}"
