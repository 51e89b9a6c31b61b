"""What a fit looks like: predicted against measured joules, and what is left by feature.

Colours are Okabe and Ito's (2008), told apart by people with colour-blindness; kinds also differ
by marker. Needs matplotlib, the ``report`` extra, imported when a picture is asked for.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from costmodels.evaluation.figures import log_residuals
from costmodels.evaluation.scores import Coverage
from profiler.errors import InputError, MissingExtraError
from profiler.files import refuse_existing, write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
_INK, _FAINT = "#222222", "#8a8a8a"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_MOST_KINDS = 7
_MOST_FEATURES = 6
_MOST_POINTS = 20_000
_REST = "others"
FORMATS = (".png", ".svg")


def draw_fit(
    path: Path,
    truth: ArrayLike,
    predicted: ArrayLike,
    *,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
    kind: Sequence[str] | NDArray[np.str_] | None = None,
    features: Mapping[str, ArrayLike] | None = None,
    coverage: Coverage | None = None,
    title: str = "",
    unit: str = "J",
    force: bool = False,
) -> None:
    """Write the picture as PNG or SVG, by the ending of *path*; arguments as in `fit_figure`.

    Raises:
        InputError: another ending, or arguments that `fit_figure` refuses.
        OutputExistsError: *path* exists and *force* is false.
        MissingExtraError: matplotlib is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path} ends in {path.suffix!r}: pictures are .png or .svg")
    refuse_existing(path, force=force)
    figure = fit_figure(
        truth,
        predicted,
        low=low,
        high=high,
        kind=kind,
        features=features,
        coverage=coverage,
        title=title,
        unit=unit,
    )
    stream = io.BytesIO()
    # without a date and with fixed ids, so that the same fit gives the same bytes
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "fit"}):
        kind_of_file = path.suffix.lower()[1:]
        blank = {"Software": None} if kind_of_file == "png" else {"Date": None}
        figure.savefig(stream, format=kind_of_file, metadata=blank)
    write_atomic(path, stream.getvalue(), force=force)


def fit_figure(
    truth: ArrayLike,
    predicted: ArrayLike,
    *,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
    kind: Sequence[str] | NDArray[np.str_] | None = None,
    features: Mapping[str, ArrayLike] | None = None,
    coverage: Coverage | None = None,
    title: str = "",
    unit: str = "J",
) -> Figure:
    """Left, predicted against measured with intervals; right, log residuals by feature.

    Args:
        truth, predicted: measured and predicted energies, shape (n,); rows where either is not
            above zero have no place on log axes and are counted in the title.
        low, high: ends of the prediction intervals, both or neither, shape (n,).
        kind: label of each row; those beyond the seven largest are drawn as ``others``.
        features: up to six columns of shape (n,) that the residuals are drawn against; more
            are left out in order.
        coverage: of the intervals, told in the title.
        title: what was fitted, in a few words.
        unit: of the energies.

    At most 20,000 rows are drawn, evenly spaced; the title's figures are of all.

    Raises:
        InputError: no row to draw, or lengths that differ.
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "the picture needs matplotlib: pip install 'cwmp[report]'"
        ) from error
    columns = _columns(truth, predicted, low, high, features or {})
    y, f = columns["truth"], columns["predicted"]
    labels = np.full(y.shape, "") if kind is None else np.asarray(kind).astype(str)
    if labels.shape != y.shape:
        raise InputError(f"{labels.size} kinds for {y.size} rows")
    rows = np.flatnonzero((y > 0) & (f > 0) & np.isfinite(y) & np.isfinite(f))
    if rows.size == 0:
        raise InputError("no row has a measured and a predicted energy above zero")
    words = _title(title, y[rows], f[rows], y.size - rows.size, coverage)
    if rows.size > _MOST_POINTS:
        rows = rows[np.linspace(0, rows.size - 1, _MOST_POINTS).astype(int)]
    shown = {name: column[rows] for name, column in columns.items()}
    groups = _by_kind(labels[rows])
    names = list(features or {})[:_MOST_FEATURES]
    width = 8.0 if not names else 12.0
    figure = Figure(figsize=(width, 6.6), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    tall = len(names) <= 3
    grid = figure.add_gridspec(max(len(names) if tall else -(-len(names) // 2), 1), 4)
    main = figure.add_subplot(grid[:, :2] if names else grid[:, :])
    _against(main, shown, groups, unit)
    residual = log_residuals(shown["truth"], shown["predicted"])
    for number, name in enumerate(names):
        row, column = (number, slice(2, 4)) if tall else (number // 2, 2 + number % 2)
        panel = figure.add_subplot(grid[row, column])
        _residuals(panel, name, shown[f"feature {name}"], residual, groups)
    figure.suptitle(words, x=0.01, ha="left", fontsize=12, color=_INK)
    return figure


def _columns(
    truth: ArrayLike,
    predicted: ArrayLike,
    low: ArrayLike | None,
    high: ArrayLike | None,
    features: Mapping[str, ArrayLike],
) -> dict[str, Floats]:
    if (low is None) != (high is None):
        raise InputError("give both ends of the intervals, or neither")
    given: dict[str, Any] = {"truth": truth, "predicted": predicted}
    if low is not None:
        given |= {"low": low, "high": high}
    given |= {f"feature {name}": column for name, column in features.items()}
    columns = {name: np.asarray(column, dtype=np.float64) for name, column in given.items()}
    rows = columns["truth"].shape
    for name, column in columns.items():
        if column.ndim != 1 or column.shape != rows:
            raise InputError(f"{name} has shape {column.shape} where the truth has {rows}")
    return columns


def _by_kind(labels: NDArray[np.str_]) -> dict[str, NDArray[np.bool_]]:
    """Rows of each kind, the largest first, what is beyond seven in one."""
    names, sizes = np.unique(labels, return_counts=True)
    ordered = [str(name) for name in names[np.argsort(-sizes, kind="stable")]]
    if len(ordered) <= _MOST_KINDS:
        return {name: labels == name for name in ordered}
    own = ordered[: _MOST_KINDS - 1]
    return {name: labels == name for name in own} | {_REST: ~np.isin(labels, own)}


def _against(
    axes: Axes, shown: Mapping[str, Floats], groups: Mapping[str, NDArray[np.bool_]], unit: str
) -> None:
    y, f = shown["truth"], shown["predicted"]
    size, alpha = _ink(y.size)
    ends = np.array([min(y.min(), f.min()) / 1.5, max(y.max(), f.max()) * 1.5])
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    if ends[1] < 50 * ends[0]:
        _few_decades(axes)
    axes.plot(ends, ends, color=_INK, lw=1, zorder=1, label="_identity")
    for factor in (0.5, 2.0):
        axes.plot(ends, factor * ends, color=_FAINT, lw=0.9, ls="--", zorder=1, label="_factor 2")
    for (name, rows), colour, marker in zip(
        groups.items(), cycle(_COLOURS), cycle(_MARKERS), strict=False
    ):
        if "low" in shown:
            axes.vlines(
                y[rows],
                np.maximum(shown["low"][rows], ends[0]),
                np.minimum(shown["high"][rows], ends[1]),
                color=colour,
                lw=0.7 if y.size <= 200 else 0.4,
                alpha=0.35 * alpha,
                zorder=2,
                label="_interval",
            )
        axes.scatter(
            y[rows],
            f[rows],
            s=size,
            c=colour,
            marker=marker,
            alpha=alpha,
            lw=0,
            zorder=3,
            label=f"{name} ({int(rows.sum())})" if name else "_rows",
        )
    axes.set_xlabel(f"measured ({unit})", color=_INK)
    axes.set_ylabel(f"predicted ({unit})", color=_INK)
    axes.annotate(
        "factor 2", (ends[1] / 2.3, ends[1] / 1.12), ha="right", va="top", fontsize=8, color=_FAINT
    )
    if any(groups):
        axes.legend(loc="lower right", fontsize=9, frameon=False, markerscale=1.5)


def _residuals(
    axes: Axes,
    name: str,
    values: Floats,
    residual: Floats,
    groups: Mapping[str, NDArray[np.bool_]],
) -> None:
    size, alpha = _ink(values.size)
    axes.axhline(0, color=_INK, lw=1, zorder=1, label="_identity")
    for factor in (0.5, 2.0):
        axes.axhline(np.log(factor), color=_FAINT, lw=0.9, ls="--", zorder=1, label="_factor 2")
    positive = values[values > 0]
    if positive.size and values.min() >= 0 and positive.max() > 20 * positive.min():
        # zero has no logarithm: it stands at the left end of a scale linear up to the least value
        if positive.size < values.size:
            axes.set_xscale("symlog", linthresh=float(positive.min()))
        else:
            axes.set_xscale("log")
    for rows, colour, marker in zip(
        groups.values(), cycle(_COLOURS), cycle(_MARKERS), strict=False
    ):
        axes.scatter(
            values[rows], residual[rows], s=size / 2, c=colour, marker=marker, alpha=alpha, lw=0
        )
    reach = max(float(np.abs(residual).max()) * 1.1, 1.0)
    axes.set_ylim(-reach, reach)
    axes.set_title(name, fontsize=9, color=_INK, loc="left")
    axes.set_ylabel("ln(measured / predicted)", fontsize=7.5, color=_INK)
    axes.tick_params(labelsize=8)


def _few_decades(axes: Axes) -> None:
    """Ticks at 1, 2 and 5 in plain numbers, where powers of ten would be one or none."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_minor_formatter(NullFormatter())


def _title(title: str, y: Floats, f: Floats, hidden: int, coverage: Coverage | None) -> str:
    error = np.abs(f / y - 1)
    parts = [
        f"n = {y.size:,}",
        f"MAPE {100 * error.mean():.1f} %",
        f"median {100 * np.median(error):.1f} %",
    ]
    if coverage is not None:
        parts.append(
            f"{100 * coverage.level:g} % intervals hold {100 * coverage.value:.1f} % "
            f"[{100 * coverage.low:.1f}, {100 * coverage.high:.1f}]"
        )
    if hidden:
        parts.append(f"{hidden:,} not above zero")
    return (f"{title}\n" if title else "") + ", ".join(parts)


def _ink(points: int) -> tuple[float, float]:
    """Marker area and opacity that keep crowds legible."""
    return (26.0, 0.9) if points <= 200 else (14.0, 0.6) if points <= 3000 else (6.0, 0.35)
