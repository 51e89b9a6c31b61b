"""What a model is worth on groups left out: a slow loop, leaks, words and simulated coverage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom
from simulated_tables import bent, samples_of, table

from costmodels.estimates import interval_labels
from costmodels.estimators.bykind import KindwiseNNLS
from costmodels.estimators.folds import fold_numbers
from costmodels.evaluation.conformal import Calibration
from costmodels.samples import Samples
from costmodels.tablefit import Design, fit_and_test, fit_samples
from costmodels.tabletests import Tested as Outcome  # names that would be taken for tests
from costmodels.tabletests import test_model as leave_out


def left_out_of(
    samples: Samples, correct: list[float | None] | None = None, seed: int = 0
) -> Outcome:
    design = Design.of(samples)
    fitted = design.estimator(correct, 5, seed)
    fitted.fit(design.X, samples.energy_j, groups=samples.group)
    return leave_out(samples, design, fitted, correct, seed, lambda text: None)


def slow_left_out(samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """Prices refitted without each network, row by row; and whether each row lay inside."""
    X = samples.features.to_numpy()
    code = np.unique(samples.kind, return_inverse=True)[1].astype(float)
    Z = np.column_stack([X, code])
    predicted, inside = np.empty(len(samples)), np.empty(len(samples), dtype=bool)
    for row in range(len(samples)):
        others = samples.group != samples.group[row]
        model = KindwiseNNLS(kind_column=3).fit(Z[others], samples.energy_j[others])
        predicted[row] = model.predict(Z[[row]])[0]
        mine = X[others & (samples.kind == samples.kind[row])]
        inside[row] = bool(((mine.min(0) <= X[row]) & (X[row] <= mine.max(0))).all())
    return predicted, inside


def test_left_out_predictions_equal_refits_from_scratch() -> None:
    samples = table(0, 10, 8, noise=0.2, between=0.2)
    found, (predicted, inside) = left_out_of(samples, []), slow_left_out(samples)
    np.testing.assert_allclose(found.predicted_j, predicted, rtol=1e-7)
    np.testing.assert_array_equal(found.inside, inside)
    assert not inside.all()
    assert found.tests[0].parts == 10


def test_left_out_predictions_with_a_correction_equal_refits_from_scratch() -> None:
    samples = bent(0, 8, 15)
    found, design = left_out_of(samples), Design.of(samples)
    assert found.tests[0].prices_alone is not None
    for part in range(8):
        out = fold_numbers(samples.group, 10, 0) == part
        model = design.estimator(None, 3, 0)
        model.fit(design.X[~out], samples.energy_j[~out], groups=samples.group[~out])
        np.testing.assert_array_equal(found.predicted_j[out], model.predict(design.X[out]))


@pytest.mark.parametrize("correct", [None, []])
def test_absurd_joules_of_one_group_do_not_change_what_is_said_of_it(
    correct: list[float | None] | None,
) -> None:
    samples = bent(1, 8, 15)
    mine = samples.group == "net003"
    absurd = replace(samples, energy_j=np.where(mine, 1e6 * samples.energy_j, samples.energy_j))
    plain, other = left_out_of(samples, correct), left_out_of(absurd, correct)
    np.testing.assert_array_equal(other.predicted_j[mine], plain.predicted_j[mine])
    np.testing.assert_array_equal(other.inside, plain.inside)
    assert (other.predicted_j[~mine] != plain.predicted_j[~mine]).any()


def test_calibrations_are_those_of_the_left_out_residuals() -> None:
    samples = table(2, 25, 4, noise=0.2, between=0.1)
    model, found = fit_samples(samples), left_out_of(samples)
    residual = np.log(samples.energy_j) - np.log(found.predicted_j)
    labels = interval_labels(samples.kind, found.inside)
    for level, stored in zip((0.90, 0.95), model.calibrations, strict=True):
        assert stored == Calibration.fit(residual, samples.group, labels, level)
    assert {"conv", "linear"} <= set(model.calibrations[1].by_kind)


@pytest.mark.parametrize(
    ("groups", "words", "at_90", "at_95"),
    [
        (1, "untested: one group of 'network' only", False, False),
        (2, "uncalibrated: 2 left-out groups", False, False),
        (8, "uncalibrated: 8 left-out groups", False, False),
        (9, "90 % intervals are calibrated, 95 % ones are not: 9", True, False),
        (18, "90 % intervals are calibrated, 95 % ones are not: 18", True, False),
        (19, "intervals calibrated on 19 left-out groups of 'network'", True, True),
    ],
)
def test_the_verdict_says_what_so_many_groups_are_worth(
    groups: int, words: str, at_90: bool, at_95: bool
) -> None:
    model = fit_samples(table(3, groups, 4, noise=0.1))
    assert model.tests[0].verdict.startswith(words)
    assert [c.pooled.calibrated for c in model.calibrations] == [at_90, at_95]
    assert (model.tests[0].scores is None) is (groups == 1)
    assert (model.tests[0].coverage_90 is None) is (groups < 10)  # each judged by the others


def test_one_group_gives_wide_intervals_and_says_so() -> None:
    samples = table(4, 1, 40, noise=0.1)
    model = fit_samples(samples)
    estimates = model.predict(samples.features, samples.kind)
    assert not estimates.calibrated.any()
    np.testing.assert_allclose(estimates.high_j / estimates.energy_j, 10.0)
    np.testing.assert_allclose(estimates.energy_j / estimates.low_j, 10.0)


def test_each_grouping_is_tested_and_the_first_alone_calibrates() -> None:
    base = table(5, 20, 6, noise=0.1, between=0.2)
    number = np.array([int(name[3:]) for name in base.group])
    family = np.array([f"family {n % 4}" for n in number])
    samples = replace(
        base, groupings={**base.groupings, "family": family, "one": np.full(len(base), "x")}
    )
    model, plain = fit_samples(samples), fit_samples(base)
    assert [test.grouping for test in model.tests] == ["network", "family", "one"]
    assert [test.parts for test in model.tests] == [10, 4, 0]
    assert [test.nested for test in model.tests] == [True, False, False]
    assert model.calibrations == plain.calibrations
    assert model.tests[0] == plain.tests[0]
    assert model.tests[1].verdict == (
        "4 groups of 'family' left out; intervals are calibrated by 'network'"
    )
    assert model.tests[2].verdict.startswith("untested")


def test_many_groups_are_gathered_into_few_parts() -> None:
    assert fit_samples(table(6, 30, 2), estimator="nnls").tests[0].parts == 20
    assert fit_samples(table(6, 30, 2)).tests[0].parts == 10


@pytest.mark.parametrize("kinds", [("conv",), ("conv", "linear"), ("conv", "linear", "norm")])
@pytest.mark.parametrize("groups", [1, 5, 25])
def test_what_is_said_of_an_unseen_kind_is_never_narrower_than_of_all(
    kinds: tuple[str, ...], groups: int
) -> None:
    model = fit_samples(table(7, groups, 6, kinds=kinds, noise=0.5, between=1.5), estimator="nnls")
    assert model.unseen.below_log >= model.calibrations[1].pooled.below_log
    assert model.unseen.above_log >= model.calibrations[1].pooled.above_log
    assert not model.unseen.calibrated


def test_a_row_that_prices_say_nothing_of_is_tested_as_it_is_predicted() -> None:
    base = table(8, 12, 8, noise=0.05)
    X, y = base.features.to_numpy().copy(), base.energy_j.copy()
    X[::8], y[::8] = 0.0, 2e-6
    samples = samples_of(X, y, base.kind, base.group)
    found = left_out_of(samples, [])
    model = fit_samples(samples)
    nothing = model.predict(samples.features, samples.kind).energy_j[::8]
    np.testing.assert_allclose(found.predicted_j[::8], nothing)
    np.testing.assert_allclose(nothing, 2e-6)


def test_intervals_cover_rows_of_networks_that_come_later() -> None:
    """30 exchangeable networks calibrate; 10 new ones are asked about; 40 tables.

    The promise is 90 or 95 %, and with G networks at most 1 / (G + 1) more for one row each. Rows
    of a network err together, so the 400 new networks stand for the sample, hit at the share of
    their rows: binomial limits at 1 in 1000 of 400 draws hold for such shares, which vary less.
    """
    hits = {0.90: 0.0, 0.95: 0.0}
    networks = 0
    for seed in range(40):
        both = table(100 + seed, 40, 4, kinds=("conv",), noise=0.1, between=0.2)
        old = np.array([int(name[3:]) < 30 for name in both.group])
        samples = samples_of(
            both.features.to_numpy()[old], both.energy_j[old], both.kind[old], both.group[old]
        )
        model = fit_samples(samples, estimator="nnls")
        new = both.features[~old]
        energy_j = model.predict(new, both.kind[~old]).energy_j
        residual = np.log(both.energy_j[~old] / energy_j)
        estimates = model.predict(new, both.kind[~old])
        at_95 = (estimates.low_j <= both.energy_j[~old]) & (both.energy_j[~old] <= estimates.high_j)
        width = model.calibrations[0].pooled
        at_90 = (-width.below_log <= residual) & (residual <= width.above_log)
        hits[0.95] += at_95.sum() / 4
        hits[0.90] += at_90.sum() / 4
        networks += 10
    for level, count in hits.items():
        assert count >= binom.ppf(0.001, networks, level), (level, count)
        assert count <= binom.ppf(0.999, networks, level + 1 / 31), (level, count)


def test_labels_tell_rows_outside_apart() -> None:
    labels = interval_labels(np.array(["conv", "linear"]), np.array([True, False]))
    assert labels.tolist() == ["conv", "linear (outside)"]


def test_residuals_are_kept_by_group_with_their_quantiles() -> None:
    samples = table(8, 12, 15, noise=0.2)
    model, tested = fit_and_test(samples, estimator="nnls")
    residual = np.log(samples.energy_j) - np.log(tested.predicted_j)
    assert [found.group for found in model.residuals] == sorted(set(samples.group.tolist()))
    for found in model.residuals:
        mine = residual[samples.group == found.group]
        assert found.cells == mine.size
        expected = np.quantile(mine, [0.05, 0.5, 0.95])
        np.testing.assert_allclose([found.q05, found.median, found.q95], expected)
