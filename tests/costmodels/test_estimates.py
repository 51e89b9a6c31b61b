"""Estimates against a loop over rows that reads the model's fields and nothing else."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pandas as pd
import pytest
from simulated_tables import UNITS, bent, table

from costmodels.energymodel import EnergyModel
from costmodels.evaluation.conformal import Width
from costmodels.samples import ANY_KIND
from costmodels.tablefit import fit_samples
from profiler.errors import InputError


@pytest.fixture(scope="module")
def model() -> EnergyModel:
    """Two kinds of 24 networks; both have intervals of their own inside the range."""
    return fit_samples(table(0, 24, 4, noise=0.1, between=0.05))


@pytest.fixture(scope="module")
def corrected() -> EnergyModel:
    return fit_samples(bent(0))


def rows_to_ask(seed: int, m: int = 150) -> tuple[pd.DataFrame, list[str]]:
    """Rows inside and far outside, zeros among them, of kinds known and not."""
    generator = np.random.default_rng(seed)
    X = 10 ** generator.uniform(2, 10, (m, 3))
    X[:, 2] = generator.choice([0.0, 1.0, 1.0, 1.0, 5.0], m)
    X[generator.random(m) < 0.1, 0] = 0.0
    X[:3] = 0.0
    kind = generator.choice(["conv", "linear", "never", ANY_KIND], m).tolist()
    return pd.DataFrame(X, columns=list(UNITS)), kind


def slow_row(model: EnergyModel, row: dict[str, float], kind: str) -> dict[str, object]:
    """One row, from the stored fields, without arrays."""
    kinds = {k.kind: k for k in model.kinds}
    own = kinds.get(kind, model.pooled)
    joules = sum(p.value * row[p.feature] for p in own.prices)
    outside = [
        p.feature
        for p in own.prices
        if row[p.feature] < p.feature_low - 1e-9 * p.feature_high
        or row[p.feature] > p.feature_high * (1 + 1e-9)
    ]
    corrected = False
    if joules <= 0:
        joules = max(sum(p.value * row[p.feature] for p in model.pooled.prices), model.lowest_j)
    elif own.correction is not None:
        z = np.array([[row[name] for name in model.features]])
        factor, inside = own.correction.correction.log_factor(z)
        corrected = bool(inside[0])
        joules *= exp(factor[0]) if corrected else 1.0
    calibration = model.calibrations[1]
    width: Width
    if kind not in kinds and model.kinds:
        below, above, calibrated = (
            model.unseen.below_log, model.unseen.above_log, model.unseen.calibrated,
        )  # fmt: skip
    else:
        within = calibration.by_kind.get(kind, calibration.pooled)
        width = within
        if outside:
            width = calibration.by_kind.get(f"{kind} (outside)", model.outside)
        below = max(width.below_log, within.below_log)
        above = max(width.above_log, within.above_log)
        calibrated = width.calibrated and (
            not outside or f"{kind} (outside)" in calibration.by_kind
        )
    return {
        "energy_j": joules,
        "low_j": exp(log(joules) - below),
        "high_j": exp(log(joules) + above),
        "calibrated": calibrated,
        "priced_as": own.kind,
        "corrected": corrected,
        "outside": ", ".join(outside),
    }


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("which", ["model", "corrected"])
def test_equal_to_a_loop_over_rows(which: str, seed: int, request: pytest.FixtureRequest) -> None:
    fitted: EnergyModel = request.getfixturevalue(which)
    frame, kind = rows_to_ask(seed)
    slow = pd.DataFrame(
        [slow_row(fitted, row, k) for row, k in zip(frame.to_dict("records"), kind, strict=True)]
    )
    pd.testing.assert_frame_equal(
        fitted.predict(frame, kind).frame(), slow, check_dtype=False, rtol=1e-9
    )


def test_the_loop_above_saw_every_case(model: EnergyModel, corrected: EnergyModel) -> None:
    frame, kind = rows_to_ask(0)
    seen = model.predict(frame, kind).frame()
    assert set(seen.priced_as) == {"conv", "linear", ANY_KIND}
    assert {"", "macs", "macs, bytes"} <= set(seen.outside)
    assert seen.calibrated.any()
    assert not seen.calibrated.all()
    assert (seen.energy_j == model.lowest_j).any()
    assert corrected.kinds[0].correction is not None


def test_columns_that_left_the_range_are_named_and_intervals_do_not_shrink(
    model: EnergyModel,
) -> None:
    inside = {"macs": 1e6, "bytes": 1e5, "calls": 1.0}
    rows = [inside, {**inside, "macs": 1e12}, {**inside, "bytes": 1.0}, {**inside, "calls": 9.0}]
    estimates = model.predict(pd.DataFrame(rows), ["conv"] * 4)
    assert estimates.outside.tolist() == ["", "macs", "bytes", "calls"]
    up, down = estimates.high_j / estimates.energy_j, estimates.energy_j / estimates.low_j
    assert (up[1:] >= up[0] * (1 - 1e-12)).all()
    assert (down[1:] >= down[0] * (1 - 1e-12)).all()


def test_the_ends_of_the_range_are_inside(model: EnergyModel) -> None:
    prices = model.find("conv").prices
    frame = pd.DataFrame(
        [[p.feature_low for p in prices], [p.feature_high for p in prices]], columns=list(UNITS)
    )
    assert model.predict(frame, ["conv"] * 2).outside.tolist() == ["", ""]


def test_a_kind_never_seen_has_the_widest_interval(model: EnergyModel) -> None:
    frame = pd.DataFrame([[1e6, 1e5, 1.0]] * 2, columns=list(UNITS))
    known, never = model.predict(frame, ["conv", "never"]).frame().to_dict("records")
    assert never["priced_as"] == ANY_KIND
    assert never["energy_j"] > 0
    assert never["high_j"] / never["energy_j"] == pytest.approx(exp(model.unseen.above_log))
    assert never["high_j"] / never["energy_j"] > known["high_j"] / known["energy_j"]
    assert not never["calibrated"]


def test_without_a_kind_a_model_of_one_takes_it_and_one_of_many_the_pooled(
    model: EnergyModel, corrected: EnergyModel
) -> None:
    frame = pd.DataFrame([[1e6, 1e5, 1.0]], columns=list(UNITS))
    assert model.predict(frame).priced_as.tolist() == [ANY_KIND]
    assert corrected.predict(frame).priced_as.tolist() == ["conv"]


def test_other_columns_and_their_order_are_ignored(model: EnergyModel) -> None:
    frame, kind = rows_to_ask(5)
    shuffled = frame[["calls", "macs", "bytes"]].assign(note="text")
    pd.testing.assert_frame_equal(
        model.predict(frame, kind).frame(), model.predict(shuffled, kind).frame()
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"macs": [np.nan]}, "feature 'macs' is nan in row 0"),
        ({"macs": [-1.0]}, "feature 'macs' is -1.0 in row 0"),
        ({"bytes": [np.inf]}, "feature 'bytes' is inf in row 0"),
        ({"calls": ["many"]}, "a feature is not a number"),
    ],
)
def test_rows_that_cannot_be_predicted_are_named(
    model: EnergyModel, change: dict[str, list[object]], words: str
) -> None:
    frame = pd.DataFrame([[1e6, 1e5, 1.0]], columns=list(UNITS)).assign(**change)
    with pytest.raises(InputError, match=words):
        model.predict(frame)


def test_missing_columns_and_kinds_of_another_length_are_refused(model: EnergyModel) -> None:
    frame = pd.DataFrame([[1e6, 1e5, 1.0]], columns=list(UNITS))
    with pytest.raises(InputError, match="lacks 'macs', 'calls'"):
        model.predict(frame[["bytes"]])
    with pytest.raises(InputError, match="2 kinds for 1 rows"):
        model.predict(frame, ["conv", "conv"])


def test_no_rows_give_no_estimates(model: EnergyModel) -> None:
    assert len(model.predict(pd.DataFrame(columns=list(UNITS), dtype=float)).frame()) == 0
