"""Energies that cannot be what the spec says: running totals, and units that are mixed."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from costmodels.samples import ANY_KIND
from costmodels.tables.ledger import Ledger
from profiler.errors import InputError

Floats = NDArray[np.float64]
Labels = NDArray[np.str_]

_TOTAL_ROWS = 20
_FALLS = 0.01
_WRAPS = 0.1
_WRAP_FALL = 0.5  # of the column's range
_FOLLOWS = 0.5
_UNIT_ROWS = 20
_VALLEY = 0.5  # decades on either side of a cut that must be all but empty
_WARN_DECADES = 2.0
_UNIT_DECADES = (3.0, 3.556, 6.0, 6.556, 9.0)  # 1e3, 3600, 1e6, 3.6e6, 1e9
_NEAR = 0.3


def refuse_cumulative(
    values: Floats, device: Labels, features: pd.DataFrame, what: str, remedy: str
) -> None:
    """Refuse a column that only ever grows along the file while the layers do not.

    On a device with 20 rows or more, independent rows never fall with probability 1/20! < 1e-18.
    One fall in a hundred rows is allowed, for a counter that wraps, and up to one in ten where
    each is half of the column's range or more, as wraps are. A table that somebody sorted never
    falls either: there the values follow a feature (Spearman correlation of 0.5 or more), and
    more closely than their differences do.

    Raises:
        InputError: names the column and what to write.
    """
    codes, owners = pd.factorize(device)
    for owner in range(len(owners)):
        rows = codes == owner
        steps = np.diff(values[rows])
        if len(steps) + 1 < _TOTAL_ROWS or (steps > 0).sum() < _TOTAL_ROWS / 2:
            continue
        falls = steps < 0
        wraps = falls & (-steps >= _WRAP_FALL * np.ptp(values[rows]))
        if falls.mean() > _FALLS and ((falls & ~wraps).any() or wraps.mean() > _WRAPS):
            continue
        table = features[rows].iloc[1:]
        follows = _closest(values[rows][1:], table)
        if follows < _FOLLOWS or _closest(steps[~wraps], table[~wraps]) > follows:
            raise InputError(
                f"column {what} grows over {len(steps) + 1} rows{_falling(wraps)} while the "
                f"layers come in no order: {remedy}"
            )


def suspect_units(
    energy_j: Floats,
    features: pd.DataFrame,
    kind: Labels,
    device: Labels,
    ledger: Ledger,
    *,
    refuse: bool = True,
) -> None:
    """Report rows of one kind whose energies for their size fall into two far clusters.

    The residuals of a log-log least-squares fit on the features are cut where a band of one
    decade holds next to nothing and the medians of the two sides are two decades apart or more:
    conversions of units are a thousand or more, while the scatter of real layers of one kind is
    continuous. It is refused where, within one device and a kind that is named, each side has
    at least 10 rows and 1 % and the factor is within two of a conversion; else, where whole
    devices differ, and where *refuse* is false, it may be true and is reported as kept.

    Raises:
        InputError: the units are mixed beyond doubt.
    """
    alive = np.flatnonzero(ledger.alive)
    codes, names = pd.factorize(kind)
    for code in range(len(names)):
        rows = np.flatnonzero(codes == code)
        if len(rows) < _UNIT_ROWS:
            continue
        residual = _residual(np.log10(energy_j[rows]), features.iloc[rows])
        cut = _valley(residual)
        if cut is None:
            continue
        high = residual > cut
        few = high if 2 * high.sum() <= len(rows) else ~high
        factor = float(np.median(residual[high]) - np.median(residual[~high]))
        if factor < _WARN_DECADES:
            continue
        whole = pd.Series(few).groupby(device[rows]).nunique().max() == 1
        line = ledger.lines[alive[rows[int(np.argmax(few))]]]
        telling = min(abs(factor - unit) for unit in _UNIT_DECADES) <= _NEAR
        unmistakable = telling and not whole and names[code] != ANY_KIND
        if refuse and unmistakable and few.sum() >= max(10, 0.01 * len(rows)):
            raise InputError(
                f"{int(few.sum())} of {len(rows)} rows of kind {str(names[code])!r} have about "
                f"{10**factor:.2g} times more or less energy for their size than the others "
                f"(first on line {line}): units are mixed; bring the "
                'column to one unit, or write mixed_units = "keep" in [rows] if it is true'
            )
        mask = np.zeros(len(ledger.alive), dtype=bool)
        mask[alive[rows[few]]] = True
        where = "of whole devices " if whole else ""
        ledger.kept(
            mask,
            f"rows {where}whose energy for their size is about 10^{factor:.1f} away from the "
            "others' (mixed units?)",
        )


def _falling(wraps: NDArray[np.bool_]) -> str:
    count = int(wraps.sum())
    return f" (falling back {count} times, as a counter that wraps does)" if count else ""


def _closest(values: Floats, features: pd.DataFrame) -> float:
    """The largest Spearman correlation of *values* with a feature; 0 where none varies."""
    ranks = pd.Series(values).rank().to_numpy()
    best = 0.0
    for name in features.columns:
        other = features[name].rank().to_numpy()
        if np.ptp(other) > 0 and np.ptp(ranks) > 0:
            best = max(best, float(np.corrcoef(ranks, other)[0, 1]))
    return best


def _residual(target: Floats, features: pd.DataFrame) -> Floats:
    """*target* less its least-squares fit on the logarithms of the features that are positive."""
    values = features.to_numpy(dtype=np.float64)
    usable = (values > 0).all(axis=0) & (np.ptp(values, axis=0) > 0)
    design = np.column_stack([np.ones(len(target)), np.log10(values[:, usable])])
    coefficients = np.linalg.lstsq(design, target, rcond=None)[0]
    return np.asarray(target - design @ coefficients, dtype=np.float64)


def _valley(residual: Floats) -> float | None:
    """Where to cut: the cut with most rows on its smaller side around which there are none."""
    ordered = np.sort(residual)
    cuts = np.arange(ordered[0] + _VALLEY, ordered[-1] - _VALLEY, 0.05)
    below = np.searchsorted(ordered, cuts - _VALLEY)
    above = len(ordered) - np.searchsorted(ordered, cuts + _VALLEY)
    smaller = np.minimum(below, above)
    inside = len(ordered) - below - above
    good = (smaller >= 1) & (inside <= 0.02 * smaller)
    if not good.any():
        return None
    return float(cuts[int(np.argmax(np.where(good, smaller, 0)))])
