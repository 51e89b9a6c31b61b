from __future__ import annotations

import sys

import numpy as np
import pytest

from cwmp.gain.regime import DevicePoint, spread_map
from cwmp.report import regime
from profiler.errors import MissingExtraError

POINTS = [
    DevicePoint("5%", 0.02, 3.0, 400.0, 1.7, 1.2, 1.5),
    DevicePoint("2 mJ", 1e-5, 1e4, 1e-3, 40.0, 1.1, 30.0),
]


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regime, "_FIXED", np.geomspace(1, 1e5, 5))
    monkeypatch.setattr(regime, "_DENSITIES", 6)


def test_the_map_is_a_png_and_repeats() -> None:
    drawn = regime.draw_map([6, 450, 48_000], POINTS, "of a made-up device")
    assert drawn.startswith(b"\x89PNG\r\n\x1a\n")
    assert drawn == regime.draw_map([6, 450, 48_000], POINTS, "of a made-up device")
    assert drawn != regime.draw_map([6, 450, 48_000], POINTS[:1], "of a made-up device")


def test_a_panel_shows_what_it_was_given_and_labels_every_contour() -> None:
    axes = pytest.importorskip("matplotlib.figure").Figure().subplots()
    densities = np.geomspace(1e-3, 1, 30)
    gain = spread_map(regime._RATIOS, densities)
    regime._panel(axes, regime._RATIOS, densities, gain)
    crossed = [level for level in regime.LEVELS if level < gain[-8].max()]
    labels = {text.get_text() for text in axes.texts}
    assert {regime._times(level) for level in crossed} <= labels
    for x, height in regime._label_places(regime._RATIOS, 100 * densities, gain):
        there = spread_map([x], [height / 100])[0, 0]
        assert min(abs(there / level - 1) for level in regime.LEVELS) < 0.02


def test_a_point_beyond_the_axes_stands_at_their_edge() -> None:
    axes = pytest.importorskip("matplotlib.figure").Figure().subplots()
    regime._mark(axes, 1e4, POINTS[1], 1.1, regime._RATIOS)
    assert axes.lines[0].get_xdata()[0] == pytest.approx(100)
    assert axes.texts[0].get_text() == "2 mJ: 1.10×"


def test_without_matplotlib_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cwmp\[report\]'"):
        regime.draw_map([6], POINTS, "")
