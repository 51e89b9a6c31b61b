"""A table's rows to an energy model: prices by kind, a correction where it helps, and the tests."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from costmodels.energymodel import EnergyModel, KindModel, QuadraticPart, TreeCorrection
from costmodels.estimators.correction import Correction
from costmodels.estimators.hybrid import Correct, Gain, HybridRegressor
from costmodels.estimators.quadratic import Quadratic
from costmodels.evaluation.additivity import LEAST_GROUPS, Additivity, fit_additivity
from costmodels.evaluation.figures import log_residuals
from costmodels.priceintervals import price_intervals
from costmodels.records import Coefficient, GroupResiduals
from costmodels.samples import ANY_KIND, Samples
from costmodels.sources import utc_now
from costmodels.tabletests import Tested, inner_parts, test_model
from profiler.errors import InputError
from profiler.host import software_versions

Floats = NDArray[np.float64]
Estimator = Literal["auto", "nnls", "hybrid"]
_MOST_RESIDUALS = 1000
TREES = 100
"""Boosted trees of a correction."""
ESTIMATORS: tuple[Estimator, ...] = ("auto", "nnls", "hybrid")
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Design:
    """The rows of a table as an estimator takes them.

    Attributes:
        X: features, shape columns, and the number of the kind, shape (m, p + q + 1).
        kinds: the names behind the numbers.
        priced: p.
    """

    X: Floats
    kinds: tuple[str, ...]
    priced: int

    @classmethod
    def of(cls, samples: Samples) -> Design:
        names, number = np.unique(samples.kind, return_inverse=True)
        X = np.column_stack(
            [
                samples.features.to_numpy(np.float64),
                samples.shape.to_numpy(np.float64).reshape(len(samples), -1),
                number.reshape(-1),
            ]
        )
        return cls(X, tuple(map(str, names)), samples.features.shape[1])

    @property
    def kind_column(self) -> int:
        return int(self.X.shape[1]) - 1

    def estimator(self, correct: Correct, folds: int, seed: int) -> HybridRegressor:
        """A `HybridRegressor` for these columns."""
        return HybridRegressor(
            kind_column=self.kind_column,
            unpriced=list(range(self.priced, self.kind_column)),
            n_trees=TREES,
            folds=folds,
            correct=correct,
            random_state=seed,
        )


def fit_samples(
    samples: Samples,
    *,
    estimator: Estimator = "auto",
    seed: int = 0,
    progress: Progress | None = None,
) -> EnergyModel:
    """The model of `fit_and_test`."""
    return fit_and_test(samples, estimator=estimator, seed=seed, progress=progress)[0]


def fit_and_test(
    samples: Samples,
    *,
    estimator: Estimator = "auto",
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[EnergyModel, Tested]:
    """Fit an energy model, and test it by leaving out the groups of each grouping.

    Non-negative prices on relative error for each kind, with a pooled fit for kinds that nobody
    measured. With ``auto`` a boosted factor on them for each kind where leave-group-out shows
    that it helps; with ``nnls`` never, with ``hybrid`` always.

    Args:
        samples: the rows, from `costmodels.tables.read_samples` or `samples_of`.
        estimator: see above.
        seed: of resamples, parts and rows drawn.
        progress: called with a sentence before each part that takes time.

    Returns:
        The model, and the left-out predictions behind its tests.

    Raises:
        InputError: no feature explains any energy, or an unknown *estimator*.
    """
    if estimator not in ESTIMATORS:
        raise InputError(f"no estimator {estimator!r}; there are {', '.join(ESTIMATORS)}")
    say = progress or (lambda text: None)
    design = Design.of(samples)
    kinds = [float(number) for number in range(len(design.kinds))]
    always: dict[Estimator, Correct] = {
        "auto": None,
        "nnls": {},
        "hybrid": dict.fromkeys(kinds, "smooth"),
    }
    say("fitting")
    fitted = design.estimator(always[estimator], inner_parts(len(samples)), seed)
    fitted.fit(design.X, samples.energy_j, groups=samples.group)
    if not (fitted.base_.coef_ > 0).any():
        raise InputError(
            f"no feature of {samples.source} explains any energy: every price is zero; give other "
            "features"
        )
    tested = test_model(samples, design, fitted, always[estimator], seed, say)
    say("intervals of the prices")
    number = {float(code): at for at, code in enumerate(fitted.base_.kinds_)}
    own = tuple(
        _kind_model(samples, design, name, fitted.base_.kind_coef_[number[code]], fitted, seed)
        for code, name in zip(kinds, design.kinds, strict=True)
        if code in number and name != ANY_KIND
    )
    model = EnergyModel(
        created_utc=utc_now(),
        device=samples.device,
        meter=samples.meter,
        source=samples.source,
        data_hash=samples.sha256,
        seed=seed,
        features=tuple(samples.features.columns),
        units=tuple(samples.units.values()),
        shape=tuple(samples.shape.columns),
        ranges=dict(samples.ranges),
        rows=len(samples),
        groups=len(np.unique(samples.group)),
        pooled=_kind_model(samples, design, ANY_KIND, fitted.base_.coef_, fitted, seed),
        kinds=own,
        tests=tested.tests,
        calibrations=tested.calibrations,
        residuals=_residuals(samples, tested),
        additivity=_additivity(samples, tested, seed),
        outside=tested.outside,
        unseen=tested.unseen,
        lowest_j=float(samples.energy_j.min()),
        findings=tuple(map(str, samples.findings)),
        assumptions=(*samples.assumptions, *_assumptions(samples, design, own)),
        software=software_versions(),
    )
    return model, tested


def _residuals(samples: Samples, tested: Tested) -> tuple[GroupResiduals, ...]:
    """Quantiles of each left-out group's log residuals, the largest groups first chosen."""
    if np.isnan(tested.predicted_j).any():
        return ()
    residual = log_residuals(samples.energy_j, tested.predicted_j)
    names, number, count = np.unique(samples.group, return_inverse=True, return_counts=True)
    order = np.argsort(number.reshape(-1), kind="stable")
    ends = np.cumsum(count)
    chosen = np.sort(np.argsort(-count, kind="stable")[:_MOST_RESIDUALS])
    found = []
    for at in chosen.tolist():
        values = residual[order[ends[at] - count[at] : ends[at]]]
        low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
        found.append(
            GroupResiduals(
                group=str(names[at]),
                cells=int(count[at]),
                q05=float(low),
                median=float(middle),
                q95=float(high),
            )
        )
    return tuple(found)


def _additivity(samples: Samples, tested: Tested, seed: int) -> Additivity | None:
    """Left-out predictions of the layers, added up, against the whole models; three are needed."""
    wholes = samples.wholes
    if wholes is None or len(wholes.name) < LEAST_GROUPS or np.isnan(tested.predicted_j).any():
        return None
    place = {name: at for at, name in enumerate(wholes.name.tolist())}
    at = np.array([place.get(name, -1) for name in wholes.part_of.tolist()])
    sums = np.bincount(at[at >= 0], tested.predicted_j[at >= 0], len(wholes.name))
    counts = np.bincount(at[at >= 0], minlength=len(wholes.name))
    return fit_additivity(sums, counts, wholes.energy_j, groups=wholes.name, seed=seed)


def _kind_model(
    samples: Samples,
    design: Design,
    kind: str,
    prices: Floats,
    fitted: HybridRegressor,
    seed: int,
) -> KindModel:
    everywhere = kind == ANY_KIND
    rows = np.ones(len(samples), bool) if everywhere else samples.kind == kind
    X, p = design.X[rows], design.priced
    low, high = price_intervals(
        X[:, :p],
        samples.energy_j[rows],
        samples.group[rows],
        samples.kind[rows] if everywhere else None,
        seed,
    )
    # a table without kinds has one, and its correction stands beside the pooled prices
    code = float(design.kinds.index(kind)) if kind in design.kinds else None
    found = fitted.corrections_.get(code) if code is not None else None
    gain = fitted.gains_.get(code) if code is not None else None
    return KindModel(
        kind=kind,
        rows=int(rows.sum()),
        groups=len(np.unique(samples.group[rows])),
        prices=tuple(
            Coefficient(
                feature=name,
                unit=unit,
                value=float(prices[column]),
                low=float(min(low[column], prices[column])),
                high=float(max(high[column], prices[column])),
                feature_low=float(X[:, column].min()),
                feature_high=float(X[:, column].max()),
            )
            for column, (name, unit) in enumerate(samples.units.items())
        ),
        shape_low=tuple(X[:, p:-1].min(axis=0).tolist()),
        shape_high=tuple(X[:, p:-1].max(axis=0).tolist()),
        correction=None if found is None else _stored(found, gain, samples),
    )


def _stored(found: Correction, gain: Gain | None, samples: Samples) -> TreeCorrection:
    from costmodels.estimators.trees import to_onnx

    names = found.columns.names((*samples.features.columns, *samples.shape.columns))
    measured = gain or Gain(0.0, 0.0, 0.0, 0)
    return TreeCorrection(
        columns=names,
        priced=found.columns.priced,
        floors=tuple(found.columns.floors.tolist()),
        low=tuple(found.low.tolist()),
        high=tuple(found.high.tolist()),
        most=found.most,
        smooth=None if found.smooth is None else _quadratic(found.smooth),
        without=measured.without,
        corrected=measured.corrected,
        error=measured.error,
        groups=measured.groups,
        trees=base64.b64encode(to_onnx(found.trees, names)).decode(),
    )


def _quadratic(found: Quadratic) -> QuadraticPart:
    return QuadraticPart(
        centre=tuple(found.centre.tolist()),
        spread=tuple(found.spread.tolist()),
        intercept=found.intercept,
        coef=tuple(found.coef.tolist()),
    )


def _assumptions(samples: Samples, design: Design, own: Sequence[KindModel]) -> list[str]:
    sentences: list[str] = []
    priced = {ANY_KIND, *(model.kind for model in own)}
    without = [name for name in design.kinds if name not in priced]
    if without:
        sentences.append(
            "without prices of their own (too few rows, or no feature explains them), priced by "
            f"the pooled fit: {', '.join(without)}"
        )
    if not samples.sha256:
        sentences.append("the rows were given in memory: no hash of a file identifies them")
    return sentences
