"""``fit_cost_model`` of a pandas frame: which columns mean what, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from costmodels import EnergyModel, TableSpec, fit_and_test, fit_cost_model, fit_samples, samples_of
from costmodels.fitpicture import draw_tested
from profiler.errors import InputError
from profiler.trace import Trace

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def frame(rows: int = 120, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    found = pd.DataFrame(
        {
            "network": [f"net{row % 12}" for row in range(rows)],
            "family": [f"family{row % 3}" for row in range(rows)],
            "op": np.where(np.arange(rows) % 2, "conv", "linear"),
            "macs": (10 ** generator.uniform(5, 8, rows)).round(),
            "bytes": (10 ** generator.uniform(3, 6, rows)).round(),
        }
    )
    return found.assign(energy_j=1e-5 + 2e-11 * found["macs"] + 3e-9 * found["bytes"])


def same(one: EnergyModel, other: EnergyModel, *besides: str) -> None:
    left_out = {"created_utc", "source", "assumptions", *besides}
    assert one.model_dump(exclude=left_out) == other.model_dump(exclude=left_out)


def test_it_is_the_spec_written_in_python() -> None:
    spec = TableSpec.from_dict(
        {
            "version": 1,
            "kind": {"column": "op"},
            "device": "board",
            "energy": {"column": "energy_j", "unit": "J"},
            "features": {"macs": {"unit": "J/MAC"}, "bytes": {"unit": "J/byte"}},
            "groupings": {"network": "network", "family": "family"},
        }
    )
    found = fit_cost_model(
        frame(),
        energy="energy_j",
        groups=["network", "family"],
        kind="op",
        features={"macs": "J/MAC", "bytes": "J/byte"},
        device="board",
    )
    same(found, fit_samples(samples_of(frame(), spec)))
    assert [test.grouping for test in found.tests] == ["network", "family", "kind"]
    prices = [price.value for price in found.pooled.prices]
    np.testing.assert_allclose(prices, [1e-5, 2e-11, 3e-9], rtol=1e-6)


def test_the_unit_of_the_energies_is_a_unit() -> None:
    rows = frame()
    given: dict[str, Any] = {
        "estimator": "nnls",
        "groups": "network",
        "features": ["macs", "bytes"],
    }
    joules = fit_cost_model(rows, energy="energy_j", **given)
    rows["energy"] = 1e6 * rows["energy_j"]
    micro = fit_cost_model(rows, energy="energy", unit="uJ", **given)
    named = fit_cost_model(rows, energy={"column": "energy", "unit": "uJ"}, **given)
    for model in (micro, named):
        np.testing.assert_allclose(
            [price.value for price in model.pooled.prices],
            [price.value for price in joules.pooled.prices],
            rtol=1e-9,
        )


def test_unnamed_features_are_the_other_numbers_and_that_is_said() -> None:
    rows = frame().assign(offset=-1.0, note="text")
    given: dict[str, Any] = {
        "energy": "energy_j",
        "groups": "network",
        "kind": "op",
        "estimator": "nnls",
    }
    model = fit_cost_model(rows, **given)
    assert model.features == ("calls", "macs", "bytes")
    (said,) = [line for line in model.assumptions if line.startswith("no features are named")]
    assert "macs, bytes;" in said
    same(model, fit_cost_model(rows, features=["macs", "bytes"], **given))


def test_several_energies_are_summed() -> None:
    rows = frame()
    parts = rows.assign(cpu=0.3 * rows["energy_j"], gpu=0.7 * rows["energy_j"])
    given: dict[str, Any] = {
        "estimator": "nnls",
        "groups": "network",
        "features": ["macs", "bytes"],
    }
    found = fit_cost_model(parts, energy=["cpu", "gpu"], **given)
    whole = fit_cost_model(rows, energy="energy_j", **given)
    np.testing.assert_allclose(
        [price.value for price in found.pooled.prices],
        [price.value for price in whole.pooled.prices],
        rtol=1e-6,
    )
    unnamed = fit_cost_model(
        parts.drop(columns="energy_j"),
        energy=["cpu", "gpu"],
        groups="network",
        estimator="nnls",
    )
    assert unnamed.features == ("calls", "macs", "bytes")


def test_several_kinds_are_one_name() -> None:
    rows = frame().assign(bits=np.where(np.arange(120) % 3, 16, 32))
    given: dict[str, Any] = {"estimator": "nnls", "energy": "energy_j", "groups": "network"}
    found = fit_cost_model(rows, kind=["op", "bits"], **given)
    joined = rows["op"] + ", " + rows["bits"].astype(str)
    assert {model.kind for model in found.kinds} == set(joined)
    assert found.features == ("calls", "macs", "bytes")
    same(
        found,
        fit_cost_model(rows.drop(columns="bits").assign(k=joined), kind="k", **given),
        "data_hash",
    )
    same(fit_cost_model(rows, kind=["op"], **given), fit_cost_model(rows, kind="op", **given))


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("number", np.arange(120)),
        ("Unnamed: 0", np.random.default_rng(0).permutation(120) + 1),
        ("again", np.arange(120) % 5 + 1),
        ("Run", 7 * np.arange(120) % 31),
        ("random seed", np.arange(120) * 3),
        ("n_epochs", np.arange(120) * 2),
    ],
)
def test_numbers_of_rows_and_runs_are_no_features(name: str, cells: np.ndarray) -> None:
    given: dict[str, Any] = {
        "estimator": "nnls",
        "energy": "energy_j",
        "groups": "network",
        "kind": "op",
    }
    model = fit_cost_model(frame().assign(**{name: cells}), **given)
    assert model.features == ("calls", "macs", "bytes")
    (said,) = [line for line in model.assumptions if line.startswith("no features are named")]
    assert said.endswith(f"left out as numbers of rows or runs: {name}")
    with pytest.raises(InputError, match=r"only number rows or runs.*give features"):
        fit_cost_model(frame().assign(**{name: cells}).drop(columns=["macs", "bytes"]), **given)


def test_sizes_are_features_whatever_they_look_like() -> None:
    sizes = {"grid": np.repeat([1, 2, 3], 40), "width": 2 ** (np.arange(120) % 5), "grids": 5.0}
    given: dict[str, Any] = {
        "estimator": "nnls",
        "energy": "energy_j",
        "groups": "network",
        "kind": "op",
    }
    model = fit_cost_model(frame().assign(**sizes), **given)
    (said,) = [line for line in model.assumptions if line.startswith("no features are named")]
    assert "macs, bytes, grid, width, grids;" in said
    assert "left out" not in said


def test_a_shape_is_turned_into_macs_and_bytes() -> None:
    generator = np.random.default_rng(1)
    rows = pd.DataFrame(generator.integers(1, 500, (100, 3)), columns=["b", "i", "o"])
    rows["joules"] = 1e-5 + 4e-11 * rows["b"] * rows["i"] * rows["o"]
    model = fit_cost_model(
        rows,
        energy="joules",
        kind="linear",
        shape={"batch": "b", "in_features": "i", "out_features": "o"},
        estimator="nnls",
    )
    price = next(price for price in model.kinds[0].prices if price.feature == "macs")
    assert price.value == pytest.approx(4e-11, rel=0.01)
    assert any("no grouping is named" in line for line in model.assumptions)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"energy": "enrgy_j"}, "did you mean 'energy_j'"),
        ({"groups": "netwrk"}, "did you mean 'network'"),
        ({"features": ["mac"]}, "did you mean 'macs'"),
        ({"kind": "opp"}, "did you mean 'op'"),
        ({"kind": ["op", "famly"]}, "did you mean 'family'"),
        ({"kind": []}, "kind is a column's name"),
        ({"kind": 3}, "kind is a column's name"),
        ({"energy": ["energy_j", 1]}, "energy is a column's name"),
        ({"energy": ["energy_j", "gpu"]}, "'gpu', which the table does not have"),
        ({"unit": "erg"}, "unit"),
        ({"groups": {"size": {"feature": "flops"}}}, "flops"),
        ({"estimator": "forest"}, "no estimator 'forest'"),
    ],
)
def test_a_wrong_name_is_one_clear_error(change: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {
        "estimator": "nnls",
        "energy": "energy_j",
        "groups": "network",
        "features": ["macs", "bytes"],
    }
    with pytest.raises(InputError, match=words) as caught:
        fit_cost_model(frame(), **(given | change))
    assert "\n" not in str(caught.value)


def test_a_frame_without_energies_or_features_and_a_trace_with_columns_are_refused() -> None:
    with pytest.raises(InputError, match="energy='energy_j'"):
        fit_cost_model(frame())  # type: ignore[call-overload]
    with pytest.raises(InputError, match="give features or shape"):
        fit_cost_model(frame()[["network", "energy_j"]], energy="energy_j", groups="network")
    with pytest.raises(InputError, match="named for a pandas frame"):
        fit_cost_model(Trace.load(GOLDEN / "trace-v1.csv"), energy="x")  # type: ignore[call-overload]


def test_the_picture_shows_left_out_predictions(tmp_path: Path) -> None:
    samples = samples_of(
        frame(),
        TableSpec.from_dict(
            {
                "version": 1,
                "source": "a made-up table",
                "kind": {"column": "op"},
                "energy": {"column": "energy_j", "unit": "J"},
                "features": {"macs": {"unit": "J/MAC"}},
                "groupings": {"network": "network"},
            }
        ),
    )
    model, tested = fit_and_test(samples, estimator="nnls")
    assert model.tests == tested.tests
    mape = np.abs(tested.predicted_j / samples.energy_j - 1).mean()
    assert model.tests[0].scores is not None
    assert mape == pytest.approx(model.tests[0].scores.mape.value)
    draw_tested(tmp_path / "fit.png", samples, tested)
    assert (tmp_path / "fit.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match=r"\.png or \.svg"):
        draw_tested(tmp_path / "fit.gif", samples, tested)
