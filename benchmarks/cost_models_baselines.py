"""What else one would fit to a table of energies, on the same parts and the same columns.

FLOPs alone     joules = b x MACs, the b of least relative squares; where a table has no MACs (an
                epoch is a fixed number of them), one number a kind
least squares   joules on the physical features, absolute error, coefficients of any sign
random forest   log joules on the logarithms of the columns, 300 trees
boosting        the same columns, 300 gradient-boosted trees of depth 4
Gaussian        log joules: a linear trend and a squared exponential with a length scale a column,
                white noise; hyperparameters from 400 rows drawn at random, conditioned on all rows
                up to 3,000

Learners on logarithms see the kind as indicator columns. Each is run on two sets of columns, the
physical features alone and all that the hybrid sees (physical features, shape, ratios of physical
features; without the ratios for the Gaussian process, to which they are linear combinations), and
the better of the two by the very error that is reported stands in the table: the choice favours
the baseline.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from costmodels.samples import Samples

Floats = NDArray[np.float64]
Predict = Callable[[Floats], Floats]
Progress = Callable[[str], None]
LEARNERS = ("random forest", "boosting", "Gaussian process")
_GAUSSIAN_ROWS, _CONDITIONED_ROWS = 400, 3000


@dataclass(frozen=True)
class Columns:
    """The columns of a table as learners take them, shape (m, ...)."""

    priced: Floats
    kind: NDArray[np.str_]
    physical: Floats
    wide: Floats
    widest: Floats

    @classmethod
    def of(cls, samples: Samples) -> Columns:
        """Logarithms; log 0 stands one under the lowest of its column."""
        features = samples.features.to_numpy(np.float64)
        shape = samples.shape.to_numpy(np.float64).reshape(len(samples), -1)
        kinds = np.unique(samples.kind)
        kind = (samples.kind[:, None] == kinds[None, :]).astype(np.float64)[:, : kinds.size - 1]
        logs, further = _varying(_logs(features)), _varying(_logs(shape))
        pairs = [logs[:, i] - logs[:, j] for i, j in combinations(range(logs.shape[1]), 2)]
        ratios = np.column_stack(pairs) if pairs else logs[:, :0]
        return cls(
            priced=features,
            kind=samples.kind,
            physical=np.column_stack([logs, kind]),
            wide=np.column_stack([logs, further, kind]),
            widest=np.column_stack([logs, further, ratios, kind]),
        )

    def choices(self, learner: str) -> dict[str, Floats]:
        """The sets of columns that *learner* is run on."""
        wide = self.wide if learner == "Gaussian process" else self.widest
        return {"physical": self.physical, "physical and shape": wide}


def flops_alone(samples: Samples, part: NDArray[np.int64]) -> Floats:
    """Left-out joules by MACs alone, shape (m,)."""
    known = "macs" in samples.features.columns
    x = samples.features["macs"].to_numpy(np.float64) if known else np.ones(len(samples))
    y, predicted = samples.energy_j, np.empty(len(samples))
    for out in _parts(part):
        for kind in np.unique(samples.kind[out]):
            mine = ~out if known else ~out & (samples.kind == kind)
            mine = mine if mine.any() else ~out
            share = x[mine] / y[mine]
            wanted = out & (samples.kind == kind)
            predicted[wanted] = x[wanted] * share.sum() / (share**2).sum()
    return predicted


def least_squares(samples: Samples, part: NDArray[np.int64]) -> Floats:
    """Left-out joules by ordinary least squares for each kind, pooled for a kind left out whole."""
    X = samples.features.to_numpy(np.float64)
    scale = np.maximum(np.abs(X).max(axis=0), 1e-300)
    design, y, predicted = X / scale, samples.energy_j, np.empty(len(samples))
    for out in _parts(part):
        for kind in np.unique(samples.kind[out]):
            mine = ~out & (samples.kind == kind)
            rows = mine if mine.sum() > X.shape[1] else ~out
            found = np.linalg.lstsq(design[rows], y[rows], rcond=None)[0]
            wanted = out & (samples.kind == kind)
            predicted[wanted] = design[wanted] @ found
    return predicted


def learned(
    learner: str, samples: Samples, part: NDArray[np.int64], seed: int, say: Progress
) -> dict[str, Floats]:
    """Left-out joules by *learner* on each set of columns."""
    columns = Columns.of(samples)
    target = np.log(samples.energy_j)
    fit = {
        "random forest": random_forest,
        "boosting": boosting,
        "Gaussian process": gaussian_process,
    }[learner]
    found = {}
    for name, Z in columns.choices(learner).items():
        say(f"{learner} on {name}")
        predicted = np.empty(len(samples))
        for out in _parts(part):
            predicted[out] = np.exp(fit(Z[~out], target[~out], seed)(Z[out]))
        found[name] = predicted
    return found


def random_forest(Z: Floats, target: Floats, seed: int) -> Predict:
    """300 trees, a third of the columns at each split."""
    from sklearn.ensemble import RandomForestRegressor

    model = RandomForestRegressor(300, max_features=1 / 3, n_jobs=1, random_state=seed)
    return _predict(model.fit(Z, target))


def boosting(Z: Floats, target: Floats, seed: int) -> Predict:
    """300 trees of depth 4 at a rate of 0.1."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(
        max_iter=300, max_depth=4, min_samples_leaf=10, early_stopping=False, random_state=seed
    )
    return _predict(model.fit(Z, target))


def gaussian_process(Z: Floats, target: Floats, seed: int) -> Predict:
    """A trend, a squared exponential with a length scale a column, and white noise."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

    centre, spread = Z.mean(axis=0), np.maximum(Z.std(axis=0), 1e-12)
    S = (Z - centre) / spread
    generator = np.random.default_rng(seed)
    few = generator.permutation(len(S))[:_GAUSSIAN_ROWS]
    many = generator.permutation(len(S))[:_CONDITIONED_ROWS]
    kernel = (
        ConstantKernel(1.0, (1e-3, 1e3)) * RBF(np.full(S.shape[1], 3.0), (0.1, 1e3))
        + ConstantKernel(0.1, (1e-4, 1e2)) * DotProduct(1.0, (1e-2, 1e2))
        + WhiteKernel(0.05, (1e-5, 1e1))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        first = GaussianProcessRegressor(kernel, normalize_y=True, optimizer=_few_steps)
        first.fit(S[few], target[few])
    model = GaussianProcessRegressor(first.kernel_, normalize_y=True, optimizer=None)
    model.fit(S[many], target[many])
    return lambda some: np.asarray(model.predict((some - centre) / spread))


def _few_steps(objective: Any, start: Floats, bounds: Any) -> tuple[Floats, float]:
    from scipy.optimize import minimize

    found = minimize(
        objective, start, jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": 40}
    )
    return found.x, float(found.fun)


def _predict(model: Any) -> Predict:
    return lambda some: np.asarray(model.predict(some), dtype=np.float64)


def _parts(part: NDArray[np.int64]) -> Iterator[NDArray[np.bool_]]:
    for number in range(int(part.max()) + 1):
        yield part == number


def _logs(X: Floats) -> Floats:
    positive = X > 0
    smallest = np.where(positive, X, np.inf).min(axis=0, initial=np.inf)
    floor = np.log(np.where(np.isfinite(smallest), smallest, 1.0)) - 1.0
    return np.where(positive, np.log(np.where(positive, X, 1.0)), floor)


def _varying(Z: Floats) -> Floats:
    return Z[:, np.ptp(Z, axis=0) > 0] if Z.shape[1] else Z
