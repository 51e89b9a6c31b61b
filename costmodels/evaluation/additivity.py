"""Whole models from their layers: a scaled sum, and what no layer was charged for.

::

    E_whole = s * sum of layers + h * layers + e_1 * extra_1 + ...,   s, h, e >= 0

fitted by least squares on relative error. h is an overhead a layer: launches, normalisation and
activations, whatever the summed prices leave out. Fitted to 17 networks, every further term may
fit by chance, so which terms are used is chosen by leaving one group of wholes out, and the
figures come from a second loop around that choice (Stone 1974, "Cross-validatory choice and
assessment of statistical predictions"): no whole had a say in the terms or prices that predict
it. Variants of one architecture belong in one group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

from costmodels.estimators.leastsquares import nonnegative_least_squares
from costmodels.evaluation.scores import Labels, Scores, group_index, score
from profiler.errors import InputError

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
LAYERS, COUNT = "layers", "count"
_RESAMPLES = 500
_MOST_EXTRAS = 4
LEAST_GROUPS = 3
_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Term(BaseModel):
    """A term of the sum with its 95 % interval over resampled groups.

    Attributes:
        name: ``layers`` (scale s of the summed layers), ``count`` (h, J a layer) or an extra
            (J a unit of it).
        value, low, high: at least zero.
    """

    model_config = _STRICT
    name: str
    value: Annotated[float, Field(ge=0)]
    low: Annotated[float, Field(ge=0)]
    high: Annotated[float, Field(ge=0)]


class Additivity(BaseModel):
    """How well wholes follow from their layers.

    Attributes:
        terms: fitted to all wholes.
        scores: of wholes whose group was left out, terms chosen without it.
        without_overhead: the same with a scale alone.
        unscaled: of the plain sum, nothing fitted to wholes.
        predicted_j: the left-out predictions behind *scores*, J, shape (n,).
        chosen: how many left-out groups chose which terms, joined by `` + ``.
        verdict: one sentence.
    """

    model_config = _STRICT
    terms: tuple[Term, ...]
    scores: Scores
    without_overhead: Scores
    unscaled: Scores
    predicted_j: tuple[float, ...]
    chosen: dict[str, int]
    verdict: str

    def predict(
        self,
        layer_sums_j: ArrayLike,
        counts: ArrayLike,
        extras: Mapping[str, ArrayLike] | None = None,
    ) -> Floats:
        """Joules of wholes, shape (n,); arguments as in `fit_additivity`.

        Raises:
            InputError: lengths differ, or a term that was fitted is not given.
        """
        columns = _columns(layer_sums_j, counts, extras or {})
        missing = [term.name for term in self.terms if term.name not in columns]
        if missing:
            raise InputError(f"the overhead was fitted with {missing[0]!r}, which is not given")
        total = np.zeros(columns[LAYERS].shape)
        for term in self.terms:
            total += term.value * columns[term.name]
        return total


def fit_additivity(
    layer_sums_j: ArrayLike,
    counts: ArrayLike,
    whole_j: ArrayLike,
    *,
    groups: Labels,
    extras: Mapping[str, ArrayLike] | None = None,
    seed: int = 0,
) -> Additivity:
    """Fit the scale and the overhead, and judge them on wholes that were left out.

    Args:
        layer_sums_j: J of each whole's layers as predicted one by one, shape (n,), or (n, p)
            for p parts of the sum, which are added.
        counts: layers of each whole that an overhead is charged for, shape (n,).
        whole_j: J of each whole as measured, shape (n,).
        groups: what is left out together, such as a network's family, shape (n,).
        extras: further non-negative quantities of a whole that may carry an overhead, each of
            shape (n,); at most 4.
        seed: of the intervals.

    Raises:
        InputError: lengths differ, values that are not finite, negative or, for joules, zero;
            fewer than 3 groups, so that nothing can be chosen and left out.
    """
    columns = _columns(layer_sums_j, counts, extras or {})
    y = np.asarray(whole_j, dtype=np.float64)
    if y.shape != columns[LAYERS].shape or len(groups) != y.size:
        raise InputError(f"{columns[LAYERS].size} sums, {y.size} wholes, {len(groups)} groups")
    if not (np.isfinite(y).all() and (y > 0).all() and (columns[LAYERS] > 0).all()):
        raise InputError("wholes and sums of layers need joules above zero")
    names, index = group_index(groups)
    if len(names) < LEAST_GROUPS:
        raise InputError(
            f"additivity needs wholes of {LEAST_GROUPS} groups, got {len(names)}: one is left "
            "out, another chooses the terms"
        )
    candidates = _candidates(list(columns))
    predicted = np.empty_like(y)
    chosen: dict[str, int] = {}
    for group in range(len(names)):
        out = index == group
        terms = _choose(columns, y, index, ~out, candidates)
        prices = _fit(columns, y, terms, ~out)
        predicted[out] = _matrix(columns, terms)[out] @ prices
        label = " + ".join(terms)
        chosen[label] = chosen.get(label, 0) + 1
    scaled = _left_out(columns, y, index, np.ones(y.size, dtype=bool), (LAYERS,))
    everything = np.ones(y.size, dtype=bool)
    terms = _choose(columns, y, index, everything, candidates)
    scores = score(y, predicted, groups, seed)
    without = score(y, scaled, groups, seed)
    unscaled = score(y, columns[LAYERS], groups, seed)
    return Additivity(
        terms=_terms(columns, y, index, terms, seed),
        scores=scores,
        without_overhead=without,
        unscaled=unscaled,
        predicted_j=tuple(predicted.tolist()),
        chosen=chosen,
        verdict=_verdict(scores, without, unscaled, chosen),
    )


def _columns(
    layer_sums_j: ArrayLike, counts: ArrayLike, extras: Mapping[str, ArrayLike]
) -> dict[str, Floats]:
    sums = np.asarray(layer_sums_j, dtype=np.float64)
    sums = sums.sum(axis=1) if sums.ndim == 2 else sums
    if len(extras) > _MOST_EXTRAS or {LAYERS, COUNT} & set(extras):
        raise InputError(f"at most {_MOST_EXTRAS} extras, none called {LAYERS!r} or {COUNT!r}")
    columns = {LAYERS: sums, COUNT: np.asarray(counts, dtype=np.float64)}
    columns |= {name: np.asarray(column, dtype=np.float64) for name, column in extras.items()}
    for name, column in columns.items():
        if column.ndim != 1 or column.shape != sums.shape:
            raise InputError(f"{name!r} has shape {column.shape} where the sums have {sums.shape}")
        if not (np.isfinite(column).all() and (column >= 0).all()):
            raise InputError(f"{name!r} needs finite values, none below zero")
    return columns


def _candidates(names: Sequence[str]) -> list[tuple[str, ...]]:
    """All sets of terms with the layers in, fewest first."""
    others = [name for name in names if name != LAYERS]
    sizes = range(len(others) + 1)
    return [(LAYERS, *some) for size in sizes for some in combinations(others, size)]


def _choose(
    columns: Mapping[str, Floats],
    y: Floats,
    index: Indices,
    rows: NDArray[np.bool_],
    candidates: Sequence[tuple[str, ...]],
) -> tuple[str, ...]:
    """The fewest terms whose left-out error is within a standard error of the best.

    The rule of Breiman et al. (1984): between sets that the groups cannot tell apart, the
    smaller one. Its standard error is that of the paired difference to the best set.
    """
    present = np.unique(index[rows])
    # a term with a price of nothing is no term
    candidates = [terms for terms in candidates if (_fit(columns, y, terms, rows) > 0).all()]
    errors = []
    for terms in candidates:
        guess = _left_out(columns, y, index, rows, terms)
        error = np.abs(guess / y - 1)
        errors.append([error[rows & (index == group)].mean() for group in present])
    table = np.array(errors)
    best = int(np.argmin(table.mean(axis=1)))
    for terms, row in zip(candidates, table, strict=True):
        worse = row - table[best]
        if worse.mean() <= worse.std(ddof=1) / np.sqrt(present.size):
            return terms
    return candidates[best]


def _left_out(
    columns: Mapping[str, Floats],
    y: Floats,
    index: Indices,
    rows: NDArray[np.bool_],
    terms: Sequence[str],
) -> Floats:
    """Predictions of *rows*, each by a fit to the other groups among them; 0 elsewhere."""
    matrix, guess = _matrix(columns, terms), np.zeros_like(y)
    for group in np.unique(index[rows]):
        out = rows & (index == group)
        guess[out] = matrix[out] @ _fit(columns, y, terms, rows & ~out)
    return guess


def _fit(
    columns: Mapping[str, Floats], y: Floats, terms: Sequence[str], rows: NDArray[np.bool_]
) -> Floats:
    return nonnegative_least_squares(_matrix(columns, terms)[rows], y[rows], 1 / y[rows] ** 2)


def _matrix(columns: Mapping[str, Floats], terms: Sequence[str]) -> Floats:
    return np.column_stack([columns[name] for name in terms])


def _terms(
    columns: Mapping[str, Floats], y: Floats, index: Indices, terms: Sequence[str], seed: int
) -> tuple[Term, ...]:
    matrix = _matrix(columns, terms)
    value = nonnegative_least_squares(matrix, y, 1 / y**2)
    generator = np.random.default_rng(seed)
    groups = int(index.max()) + 1
    draws = np.empty((_RESAMPLES, len(terms)))
    for draw in draws:
        counts = np.bincount(generator.integers(0, groups, groups), minlength=groups)
        draw[:] = nonnegative_least_squares(matrix, y, counts[index] / y**2)
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    ends = zip(terms, value, np.minimum(low, value), np.maximum(high, value), strict=True)
    return tuple(Term(name=n, value=v, low=a, high=b) for n, v, a, b in ends)


def _verdict(scores: Scores, without: Scores, unscaled: Scores, chosen: Mapping[str, int]) -> str:
    """What each way of adding up is off by; an overhead is named where a group chose one."""
    plain = f"plain sums by {_median(unscaled)}"
    where = "(median) on wholes of unseen groups"
    if set(chosen) == {LAYERS}:
        return f"scaled sums of layers are off by {_median(scores)} {where}; {plain}"
    return (
        f"scaled sums of layers with an overhead are off by {_median(scores)} {where}; "
        f"scaled sums alone by {_median(without)}, {plain}"
    )


def _median(scores: Scores) -> str:
    value = scores.median_ape.value
    return "an unknown error" if value is None else f"{100 * value:.1f} %"
