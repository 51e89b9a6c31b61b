"""Boosted regression trees as plain arrays.

    f(x) = baseline + sum_t  value of the leaf of tree t that x falls into

Inputs and thresholds are compared in float64, as scikit-learn does, and the trees are summed in
its order, so that predictions are the same to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from profiler.errors import InputError

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
MOST_DEPTH, MOST_FEATURES = 64, 4096
_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True, eq=False)
class Trees:
    """Boosted regression trees; checked when made.

    The splits of all trees stand one tree after the other, a parent before its children; the
    first split of a tree is its root. x goes left where ``x[feature] <= threshold``. A child
    c >= 0 is split c, c < 0 is leaf -1 - c.

    Attributes:
        feature: column of each split, shape (s,).
        threshold: what it is compared with, finite, shape (s,).
        left, right: children of each split, shape (s,).
        value: what each leaf adds, finite, shape (l,).
        roots: the first split of each tree, increasing from 0, shape (t,); t may be 0.
        baseline: what is predicted before any tree.
        n_features: columns of X.

    Raises:
        InputError: arrays that are no such trees.
    """

    feature: Indices
    threshold: Floats
    left: Indices
    right: Indices
    value: Floats
    roots: Indices
    baseline: float
    n_features: int

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def of(cls, boosted: Any) -> Trees:
        """The trees of a fitted `sklearn.ensemble.HistGradientBoostingRegressor`.

        Raises:
            InputError: not such an estimator, or one with categorical splits, a loss whose
                prediction is not the plain sum, or splits at infinity (missing values).
        """
        from sklearn.ensemble import HistGradientBoostingRegressor
        from sklearn.utils.validation import check_is_fitted

        if not isinstance(boosted, HistGradientBoostingRegressor):
            raise InputError(f"{type(boosted).__name__} is not a HistGradientBoostingRegressor")
        check_is_fitted(boosted)
        if boosted.loss not in ("squared_error", "absolute_error", "quantile"):
            raise InputError(f"the loss {boosted.loss!r} does not predict the plain sum of trees")
        if boosted.is_categorical_ is not None and np.any(boosted.is_categorical_):
            raise InputError("categorical splits are not kept: encode categories as columns")
        tables = [predictor.nodes for (predictor,) in boosted._predictors]
        parts, splits, leaves = [], 0, 0
        for nodes in tables:
            parts.append(_split_nodes(nodes, splits, leaves))
            splits += parts[-1][0].size
            leaves += parts[-1][4].size
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        if not columns:
            columns = [np.zeros(0)] * 5
        feature, threshold, left, right, value = columns
        sizes = [part[0].size for part in parts]
        return cls(
            feature=feature.astype(np.int64),
            threshold=threshold.astype(np.float64),
            left=left.astype(np.int64),
            right=right.astype(np.int64),
            value=value.astype(np.float64),
            roots=np.cumsum([0, *sizes])[: len(sizes)].astype(np.int64),
            baseline=float(np.ravel(boosted._baseline_prediction)[0]),
            n_features=int(boosted.n_features_in_),
        )

    def predict(self, X: ArrayLike) -> Floats:
        """f of each row.

        Args:
            X: finite, shape (m, n_features).

        Returns:
            float64, shape (m,).

        Raises:
            InputError: another shape, NaN or infinity.
        """
        rows = np.asarray(X, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.n_features:
            raise InputError(f"these trees take {self.n_features} columns, not shape {rows.shape}")
        if not np.isfinite(rows).all():
            raise InputError("trees are not asked about NaN or infinite features: drop the rows")
        sums = np.full(rows.shape[0], self.baseline)
        for first in range(0, rows.shape[0], _ROWS_AT_ONCE):
            part = slice(first, first + _ROWS_AT_ONCE)
            self._add(rows[part], sums[part])
        return sums

    def _add(self, rows: Floats, sums: Floats) -> None:
        """Add every tree's leaves to *sums*, in place.

        Leaves are numbered after the splits and lead to themselves, so that all rows take the
        same steps: three times as fast as setting those aside that have arrived.
        """
        splits, leaves = self.feature.size, self.value.size
        ends = np.arange(splits, splits + leaves)
        feature = np.append(self.feature, np.zeros(leaves, dtype=np.int64))
        threshold = np.append(self.threshold, np.zeros(leaves))
        after = [
            np.append(np.where(c < 0, splits - 1 - c, c), ends) for c in (self.right, self.left)
        ]
        child = np.stack(after, axis=1).ravel()
        value = np.append(np.zeros(splits), self.value)
        flat, at = rows.ravel(), np.arange(rows.shape[0]) * rows.shape[1]
        for root in self.roots:
            node = np.full(at.size, root)
            while node.size and node.min() < splits:
                goes_left = flat.take(at + feature.take(node)) <= threshold.take(node)
                node = child.take(2 * node + goes_left)
            sums += value.take(node)


def _check(trees: Trees) -> None:
    """Raise unless the arrays are trees: then every walk ends, within `MOST_DEPTH` steps."""
    splits, leaves = trees.feature.size, trees.value.size
    for name in ("feature", "threshold", "left", "right"):
        if getattr(trees, name).shape != (splits,):
            raise InputError(f"{name} is not one number a split")
    if not 1 <= trees.n_features <= MOST_FEATURES:
        raise InputError(f"{trees.n_features} features; 1 to {MOST_FEATURES} are possible")
    if not all(np.isfinite(x).all() for x in (trees.threshold, trees.value, trees.baseline)):
        raise InputError("a threshold, leaf or baseline is not finite")
    if ((trees.feature < 0) | (trees.feature >= trees.n_features)).any():
        raise InputError(f"a split on a column beyond the {trees.n_features} features")
    roots = trees.roots
    if roots.size == 0 and splits + leaves == 0:
        return
    if roots.size == 0 or roots[0] != 0 or (np.diff(roots) <= 0).any() or roots[-1] >= splits:
        raise InputError("the roots are not increasing from the first split")
    # Each split but the roots, and each leaf, is the child of exactly one split that stands
    # before it: no cycle, nothing shared, nothing out of reach.
    children = np.concatenate([trees.left, trees.right])
    inner, ends = children[children >= 0], -1 - children[children < 0]
    others = np.setdiff1d(np.arange(splits), roots)
    if not np.array_equal(np.sort(inner), others) or not np.array_equal(
        np.sort(ends), np.arange(leaves)
    ):
        raise InputError("a child is missing, shared or out of range")
    parents = np.tile(np.arange(splits), 2)[children >= 0]
    tree = np.searchsorted(roots, np.arange(splits), side="right")
    if (inner <= parents).any() or (tree[inner] != tree[parents]).any():
        raise InputError("a child stands before its parent or in another tree")
    level, depth = roots, 0
    while level.size:
        depth += 1
        if depth > MOST_DEPTH:
            raise InputError(f"a tree is deeper than {MOST_DEPTH}")
        below = np.concatenate([trees.left[level], trees.right[level]])
        level = below[below >= 0]


def _split_nodes(nodes: Any, splits: int, leaves: int) -> tuple[NDArray[Any], ...]:
    """scikit-learn's nodes of one tree as (feature, threshold, left, right, value).

    A tree that is a leaf becomes a split with two equal leaves, which every reader of ONNX
    takes the same way.
    """
    leaf = nodes["is_leaf"].astype(bool)
    if leaf[0]:
        twice = np.repeat(nodes["value"][:1], 2)
        ends = np.array([-1 - leaves]), np.array([-2 - leaves])
        return np.zeros(1), np.zeros(1), *ends, twice
    number = np.where(leaf, -leaves - np.cumsum(leaf), splits + np.cumsum(~leaf) - 1)
    inner = nodes[~leaf]
    left, right = number[inner["left"]], number[inner["right"]]
    return inner["feature_idx"], inner["num_threshold"], left, right, nodes["value"][leaf]
