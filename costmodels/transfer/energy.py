"""An energy model of device A corrected for device B by a few rows of a table of B.

The parts of a row's price are those of its kind: price_j x feature_ij, times the learned factor
where there is one. They are scaled as `costmodels.transfer.core` does it, a group a kind; kinds
without calibration rows, and the pooled prices, take the scale that the others have in common.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from math import exp, sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from costmodels.energymodel import EnergyModel, GroupTest, KindModel
from costmodels.estimators.folds import fold_numbers
from costmodels.evaluation.conformal import Calibration, Width
from costmodels.evaluation.scores import score
from costmodels.records import Coefficient
from costmodels.samples import Samples
from costmodels.sources import utc_now
from costmodels.transfer.core import Correction, DeviceFamilyWarning, Rows, correct, verdict
from profiler.errors import InputError
from profiler.host import software_versions
from profiler.statistics import t_quantile

Floats = NDArray[np.float64]
_PARTS = 20
_Z_90 = 1.645
_LEVELS = (0.90, 0.95)


@dataclass(frozen=True)
class EnergyTransfer:
    """A corrected model, and what was learned.

    Attributes:
        model: for device B.
        rows: calibration rows.
        scales: (kind, feature) -> scale with its 95 % interval.
        p_value: of the family test.
        same_family: ``None`` where it could not be tested.
        verdict: the test in one sentence.
    """

    model: EnergyModel
    rows: int
    scales: dict[tuple[str, str], tuple[float, float, float]]
    p_value: float | None
    same_family: bool | None
    verdict: str


def transfer_energies(
    model: EnergyModel, samples: Samples, *, alpha: float = 0.05, seed: int = 0
) -> EnergyTransfer:
    """Correct *model* for the device that *samples* were measured on.

    The corrected model's test is by leaving calibration rows out, in at most 20 parts; its
    intervals hold what 20 rows cannot tell, and are called uncalibrated.

    Args:
        model: of device A.
        samples: rows of device B with the same features, at least 3, better 20; from
            `costmodels.tables.read_samples` with the model's spec.
        alpha: below which p-value the devices count as unlike.
        seed: of the parts.

    Raises:
        InputError: features or units that are not the model's, or too few rows.

    Warns:
        DeviceFamilyWarning: B differs from A by more than scales.
    """
    parts = _Parts.of(model)
    contributions = parts.contributions(model, samples)
    spread, degrees = _own_spread(model)

    def learn(rows: NDArray[np.bool_]) -> Correction:
        given = Rows.of(
            contributions[rows],
            samples.energy_j[rows],
            spread_log=spread,
            groups=parts.kinds,
        )
        return correct(given, spread_degrees=degrees)

    found = learn(np.ones(len(samples), dtype=bool))
    same = None if found.p_value is None else found.p_value >= alpha
    sentence = verdict(found, alpha)
    if same is False:
        warnings.warn(sentence, DeviceFamilyWarning, stacklevel=2)
    part = fold_numbers(np.arange(len(samples)), _PARTS, seed)
    left_out = np.empty(len(samples))
    for number in np.unique(part):
        out = part == number
        left_out[out] = learn(~out).predict(contributions[out])
    test = GroupTest(
        grouping="calibration rows",
        parts=int(part.max()) + 1,
        nested=False,
        scores=score(samples.energy_j, left_out, np.arange(len(samples)), seed),
        verdict=f"{len(samples)} calibration rows left out in turn; {sentence}",
    )
    wide = [_width(found, contributions, spread, level) for level in _LEVELS]
    error = np.sqrt(np.diag(found.scales_covariance))
    corrected = model.model_copy(
        update={
            "created_utc": utc_now(),
            "device": samples.device or "another device",
            "meter": samples.meter,
            "source": f"{model.source}; corrected by {samples.source}",
            "data_hash": samples.sha256,
            "pooled": parts.scaled(model.pooled, found.scales, error),
            "kinds": tuple(parts.scaled(kind, found.scales, error) for kind in model.kinds),
            "tests": (test, *model.tests),
            "calibrations": tuple(
                Calibration(level=level, pooled=width, by_kind={})
                for level, width in zip(_LEVELS, wide, strict=True)
            ),
            "outside": _wider(model.outside, wide[1]),
            "unseen": _wider(model.unseen, wide[1]),
            "residuals": (),
            "additivity": None,
            "lowest_j": float(samples.energy_j.min()),
            "assumptions": (
                *model.assumptions,
                f"corrected from {model.device or 'device A'} to {samples.device or 'device B'} by "
                f"{len(samples)} rows; all tests but the first are of the first device",
                sentence,
            ),
            "software": software_versions(),
        }
    )
    return EnergyTransfer(
        model=EnergyModel.model_validate(corrected.model_dump()),
        rows=len(samples),
        scales=parts.named(found.scales, error),
        p_value=found.p_value,
        same_family=same,
        verdict=sentence,
    )


@dataclass(frozen=True)
class _Parts:
    """The prices above zero of all kinds, one part each."""

    kinds: tuple[str, ...]
    features: tuple[str, ...]
    prices: Floats

    @classmethod
    def of(cls, model: EnergyModel) -> _Parts:
        found = [
            (kind.kind, price.feature, price.value)
            for kind in (*model.kinds, model.pooled)
            for price in kind.prices
            if price.value > 0
        ]
        kinds, features, prices = zip(*found, strict=True)
        return cls(kinds, features, np.array(prices))

    def contributions(self, model: EnergyModel, samples: Samples) -> Floats:
        """Joules on A of each row by part, shape (m, parts)."""
        frame = pd.concat([samples.features, samples.shape], axis=1)
        estimates = model.predict(frame, samples.kind.tolist())
        given = dict(samples.units)
        for name, unit in zip(model.features, model.units, strict=True):
            if given.get(name, unit) != unit:
                raise InputError(
                    f"feature {name!r} is priced in {given[name]} here and in {unit} in the model: "
                    "use the spec that the model was fitted with"
                )
        owner = np.array(self.kinds)
        values = np.column_stack([frame[name].to_numpy(np.float64) for name in self.features])
        mine = estimates.priced_as[:, None] == owner[None, :]
        parts = np.where(mine, values * self.prices, 0.0)
        said = parts.sum(axis=1)
        if not (said > 0).all():
            row = int(np.argmin(said > 0))
            raise InputError(
                f"the model of the first device prices calibration row {row} at nothing: leave "
                "such rows out"
            )
        return np.asarray(parts * (estimates.energy_j / said)[:, None])

    def scaled(self, kind: KindModel, scales: Floats, error: Floats) -> KindModel:
        """*kind* with the prices of device B; the intervals of A's prices and of the scales."""
        at = {
            feature: number
            for number, (owner, feature) in enumerate(zip(self.kinds, self.features, strict=True))
            if owner == kind.kind
        }

        # a price of zero has no scale of its own: its limit moves with the kind's others
        common = float(np.median(scales[list(at.values())])) if at else 1.0

        def moved(price: Coefficient) -> Coefficient:
            number = at.get(price.feature)
            scale = common if number is None else float(scales[number])
            reach = 0.0 if number is None else 1.96 * float(error[number])
            return price.model_copy(
                update={
                    "value": price.value * scale,
                    "low": price.low * scale * exp(-reach),
                    "high": price.high * scale * exp(reach),
                }
            )

        return kind.model_copy(update={"prices": tuple(map(moved, kind.prices))})

    def named(
        self, scales: Floats, error: Floats
    ) -> dict[tuple[str, str], tuple[float, float, float]]:
        return {
            (kind, feature): (float(s), float(s * exp(-1.96 * e)), float(s * exp(1.96 * e)))
            for kind, feature, s, e in zip(self.kinds, self.features, scales, error, strict=True)
        }


def _own_spread(model: EnergyModel) -> tuple[float, float | None]:
    """How far A's model is off on groups it did not see, on the log scale, and its degrees.

    What stands behind its 90 % intervals: with too few groups a multiple of that spread itself.
    """
    width = model.calibrations[0].pooled
    half = (width.below_log + width.above_log) / 2
    if width.groups < 2:
        return half / _Z_90, None
    degrees = float(width.groups - 1)
    student = t_quantile(0.95, degrees) * sqrt(1 + 1 / width.groups)
    return half / (_Z_90 if width.calibrated else student), degrees


def _width(found: Correction, parts: Floats, spread: float, level: float) -> Width:
    """The widest reach over the calibration rows: of one row's interval about its prediction."""
    low, high = found.interval(parts, spread, level=level)
    centre = np.log(found.predict(parts))
    return Width(
        below_log=max(float(np.max(centre - np.log(low))), 1e-6),
        above_log=max(float(np.max(np.log(high) - centre)), 1e-6),
        calibrated=False,
        groups=found.rows,
        rows=found.rows,
    )


def _wider(first: Width, second: Width) -> Width:
    return Width(
        below_log=max(first.below_log, second.below_log),
        above_log=max(first.above_log, second.above_log),
        calibrated=False,
        groups=second.groups,
        rows=second.rows,
    )
