"""What a picture of a fit shows: its points, its words, and the file it becomes."""

from __future__ import annotations

import builtins
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from costmodels.evaluation.pictures import draw_fit, fit_figure
from costmodels.evaluation.scores import coverage_of
from profiler.errors import InputError, MissingExtraError, OutputExistsError


def _rows(n: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    truth = np.exp(generator.uniform(-6, 1, n))
    return (
        truth,
        truth * np.exp(generator.normal(0, 0.2, n)),
        generator.choice(["conv", "linear"], n),
    )


def _points(axes) -> int:  # type: ignore[no-untyped-def]
    from matplotlib.collections import PathCollection

    found = [c for c in axes.collections if isinstance(c, PathCollection)]
    return sum(len(c.get_offsets()) for c in found)


def test_every_row_is_drawn_once_in_each_panel() -> None:
    truth, predicted, kind = _rows()
    figure = fit_figure(
        truth,
        predicted,
        low=predicted / 2,
        high=predicted * 2,
        kind=kind,
        features={"MACs": truth * 1e9, "calls": np.ones(60)},
        unit="J",
    )
    assert [_points(axes) for axes in figure.axes] == [60, 60, 60]
    main, macs, calls = figure.axes
    assert (main.get_xscale(), main.get_yscale()) == ("log", "log")
    assert main.get_xlim() == main.get_ylim()
    assert (main.get_xlabel(), main.get_ylabel()) == ("measured (J)", "predicted (J)")
    assert macs.get_title(loc="left") == "MACs"
    assert (macs.get_xscale(), calls.get_xscale()) == ("log", "linear")
    labels = {text.get_text() for text in main.get_legend().get_texts()}
    assert labels == {f"{name} ({(kind == name).sum()})" for name in ("conv", "linear")}


def test_points_stand_where_the_numbers_are() -> None:
    figure = fit_figure(
        [1.0, 4.0], [2.0, 3.0], low=[1.5, 2.0], high=[2.5, 5.0], features={"x": [7.0, 8.0]}
    )
    main, panel = figure.axes
    points = [c for c in main.collections if hasattr(c, "get_sizes") and len(c.get_offsets()) == 2]
    np.testing.assert_allclose(points[-1].get_offsets(), [[1.0, 2.0], [4.0, 3.0]])
    intervals = next(c for c in main.collections if c.get_label() == "_interval")
    np.testing.assert_allclose(intervals.get_segments()[0], [[1.0, 1.5], [1.0, 2.5]])
    np.testing.assert_allclose(
        panel.collections[-1].get_offsets(), [[7.0, np.log(1 / 2)], [8.0, np.log(4 / 3)]]
    )
    lines = {line.get_label(): line.get_xydata() for line in main.lines}
    np.testing.assert_allclose(lines["_identity"][:, 0], lines["_identity"][:, 1])
    ratio = [line.get_xydata()[0, 1] / line.get_xydata()[0, 0] for line in main.lines]
    assert sorted(ratio) == pytest.approx([0.5, 1.0, 2.0])


def test_the_title_tells_the_figures() -> None:
    truth = np.array([1.0, 1.0, 1.0, 1.0, 0.0])
    predicted = np.array([1.1, 0.9, 1.0, 1.4, 1.0])
    hits = coverage_of(np.array([True] * 9 + [False]), list(range(10)), 0.9)
    figure = fit_figure(truth, predicted, title="A board", coverage=hits)
    words = figure.get_suptitle()
    assert words.startswith("A board\nn = 4, MAPE 15.0 %, median 10.0 %")
    assert "90 % intervals hold 90.0 % [" in words
    assert "1 not above zero" in words


def test_kinds_beyond_seven_share_a_colour_and_crowds_are_thinned() -> None:
    kind = np.array([f"kind {i % 9}" for i in range(90)])
    labels = fit_figure(np.ones(90), np.ones(90), kind=kind).axes[0].get_legend_handles_labels()[1]
    assert len(labels) == 7
    assert "others (30)" in labels
    crowd = fit_figure(np.full(50_000, 2.0), np.full(50_000, 3.0))
    assert _points(crowd.axes[0]) == 20_000
    assert "n = 50,000" in crowd.get_suptitle()


def test_a_feature_with_zeros_keeps_them_on_its_axis() -> None:
    figure = fit_figure(np.ones(4), np.ones(4), features={"bytes": [0.0, 1.0, 10.0, 1000.0]})
    assert figure.axes[1].get_xscale() == "symlog"
    assert _points(figure.axes[1]) == 4


@pytest.mark.parametrize("features", range(8))
def test_at_most_six_features_have_a_panel(features: int) -> None:
    truth, predicted, _ = _rows()
    given = {f"f{i}": truth for i in range(features)}
    assert len(fit_figure(truth, predicted, features=given).axes) == 1 + min(features, 6)


@pytest.mark.parametrize(("ending", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_the_file_is_whole_repeatable_and_never_replaced_unasked(
    tmp_path: Path, ending: str, start: bytes
) -> None:
    truth, predicted, kind = _rows()
    path = tmp_path / f"fit{ending}"
    draw_fit(path, truth, predicted, kind=kind)
    first = path.read_bytes()
    assert first.startswith(start)
    with pytest.raises(OutputExistsError):
        draw_fit(path, truth, predicted)
    draw_fit(path, truth, predicted, kind=kind, force=True)
    assert path.read_bytes() == first
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.png or \.svg"):
        draw_fit(tmp_path / "fit.jpg", [1.0], [1.0])
    with pytest.raises(InputError, match="no row"):
        fit_figure([0.0], [1.0])
    with pytest.raises(InputError, match="both ends"):
        fit_figure([1.0], [1.0], low=[0.5])
    with pytest.raises(InputError, match="feature x"):
        fit_figure([1.0], [1.0], features={"x": [1.0, 2.0]})
    with pytest.raises(InputError, match="kinds"):
        fit_figure([1.0], [1.0], kind=["a", "b"])


def test_a_missing_matplotlib_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest, **more):  # type: ignore[no-untyped-def]
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtraError, match=r"pip install 'cwmp\[report\]'"):
        fit_figure([1.0], [1.0])
