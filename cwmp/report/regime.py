"""The regime map: where weighing entries by cost pays, and where a device stands on it.

Two panels over Top-K's density: left what a spread of marginal costs gives, right what fixed
costs give on the layers of the model. Colours go from white (nothing to win) to dark, told
apart without hue; contours carry their numbers.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from cwmp.gain.regime import DevicePoint, fixed_map, spread_map
from cwmp.gain.tails import Floats
from profiler.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVELS = (1.01, 1.05, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0)
_INK, _POINT = "#222222", "#D55E00"
_RATIOS = np.geomspace(1, 100, 97)
_FIXED = np.geomspace(1, 1e5, 26)
_LOWEST_DENSITY = 1e-3
_BEYOND = 1e9
_LABELS_AT = (0.93, 0.83)
_DENSITIES = 25


def draw_map(sizes: Sequence[int], points: Sequence[DevicePoint], caption: str) -> bytes:
    """The map as a PNG.

    Args:
        sizes: entries of the model's layers, for the right panel.
        points: where a device stands, one point a budget.
        caption: of the device and the distribution, below the panels.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("the map needs matplotlib: pip install 'cwmp[report]'") from error
    lowest = min([_LOWEST_DENSITY, *(point.density / 2 for point in points)])
    densities = np.geomspace(lowest, 1, _DENSITIES)
    figure = Figure(figsize=(11, 5.4), dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    _panel(left, _RATIOS, densities, spread_map(_RATIOS, densities))
    filled = _panel(right, _FIXED, densities, fixed_map(sizes, _FIXED, densities))
    left.set_title("What a spread of marginal costs gives", loc="left", fontsize=10.5, color=_INK)
    left.set_xlabel("cost ratio r: half of the entries cost 1, half r", color=_INK)
    left.set_ylabel("density: entries that Top-K keeps at the budget (%)", color=_INK)
    right.set_title("What fixed costs give", loc="left", fontsize=10.5, color=_INK)
    right.set_xlabel("fixed cost of opening a layer (entries of equal cost)", color=_INK)
    for point in points:
        _mark(left, max(point.spread, 1.0), point, point.marginal, _RATIOS)
        _mark(right, point.fixed_entries, point, point.fixed, _FIXED)
    bar = figure.colorbar(filled, ax=[left, right], ticks=LEVELS, pad=0.015, aspect=30)
    bar.ax.set_yticklabels([_times(level) for level in LEVELS])
    bar.set_label("captured sum of $g^2$, CWMP over Top-K, equal joules", color=_INK)
    figure.suptitle("Where weighing entries by cost pays", x=0.01, ha="left", fontsize=12.5)
    figure.supxlabel(fill(caption, 150), x=0.01, ha="left", fontsize=8.5, color="#555555")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _panel(axes: Axes, x: Floats, densities: Floats, gain: Floats) -> Any:
    """Filled contours of *gain*, shape (x, densities), with labelled lines."""
    from matplotlib import colormaps
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.ticker import FuncFormatter, NullFormatter

    edges = [1.0, *LEVELS, _BEYOND]
    shades = colormaps["GnBu"](np.linspace(0, 0.8, len(edges) - 1))
    shades[0] = 1.0  # nothing to win is white
    norm, colours = BoundaryNorm(edges, len(shades)), ListedColormap(shades)
    axes.set_xscale("log")
    axes.set_yscale("log")
    height = 100 * densities
    filled = axes.contourf(x, height, gain.T, levels=edges, cmap=colours, norm=norm)
    lines = axes.contour(x, height, gain.T, levels=LEVELS, colors=_INK, linewidths=0.7)
    places = _label_places(x, height, gain)
    for label in axes.clabel(lines, fmt=_times, fontsize=8, inline=False, manual=places):
        label.set(rotation=0, bbox={"fc": "white", "ec": "none", "pad": 0.6, "alpha": 0.9})
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.tick_params(colors=_INK, labelsize=9)
    return filled


def _label_places(x: Floats, height: Floats, gain: Floats) -> list[tuple[float, float]]:
    """Where the contours cross two columns near the right, in turn: none hides another."""
    places = []
    for number, level in enumerate(LEVELS):
        column = round(_LABELS_AT[number % 2] * (x.size - 1))
        falling = gain[column]  # the more is sent, the less there is to win
        if falling.min() < level < falling.max():
            where = np.interp(-np.log(level), -np.log(falling), np.log(height))
            places.append((float(x[column]), float(np.exp(where))))
    return places


def _mark(axes: Axes, x: float, point: DevicePoint, gain: float, shown: Floats) -> None:
    inside = float(np.clip(x, shown[0], shown[-1]))
    axes.plot(
        inside, 100 * point.density, "o", ms=7, color=_POINT, mec="white", mew=1.2, clip_on=False
    )
    axes.annotate(
        f"{point.budget}: {gain:.{2 if gain < 9.995 else 0}f}×",
        (inside, 100 * point.density),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
        fontweight="bold",
        color=_INK,
        bbox={"boxstyle": "round,pad=0.2", "fc": "white", "ec": _POINT, "lw": 0.8, "alpha": 0.92},
        zorder=7,
    )


def _times(gain: float) -> str:
    return f"{gain:.3g}×"
