"""Energy models of tables: known prices come back, and whatever the table, a model or one error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_tables import PRICES, UNITS, bent, samples_of, table

from costmodels.samples import ANY_KIND, Finding
from costmodels.tablefit import Design, fit_samples
from profiler.errors import InputError


def values(model: object) -> dict[str, np.ndarray]:
    return {k.kind: np.array([p.value for p in k.prices]) for k in model.kinds}  # type: ignore[attr-defined]


def test_prices_without_noise_come_back_and_nothing_is_corrected() -> None:
    samples = table(0, 12, 12, kinds=("conv", "linear", "norm"))
    model = fit_samples(samples)
    assert [kind.kind for kind in model.kinds] == ["conv", "linear", "norm"]
    for kind, found in values(model).items():
        np.testing.assert_allclose(found, PRICES[kind], rtol=1e-6)
    estimates = model.predict(samples.features, samples.kind)
    np.testing.assert_allclose(estimates.energy_j, samples.energy_j, rtol=1e-6)
    assert [(p.feature, p.unit) for p in model.pooled.prices] == list(UNITS.items())


def test_with_noise_prices_lie_near_and_the_scores_say_how_well() -> None:
    model = fit_samples(table(1, 24, 20, noise=0.05), estimator="nnls")
    for kind, found in values(model).items():
        np.testing.assert_allclose(found, PRICES[kind], rtol=0.1)
    scores = model.tests[0].scores
    assert scores is not None
    # the mean of |e^(0.05 z) - 1| is 0.04
    assert scores.mape.value == pytest.approx(0.04, rel=0.15)
    assert scores.rows == 480
    assert scores.groups == model.groups == 24


def test_what_a_model_says_of_its_table_is_so() -> None:
    samples = table(2, 10, 14, noise=0.1)
    samples = replace(
        samples,
        device="a board",
        meter="a shunt",
        findings=(Finding("rows that repeat an earlier one", 2, "dropped"),),
        sha256="ab" * 32,
    )
    model = fit_samples(samples, seed=5)
    X = samples.features.to_numpy()
    assert (model.rows, model.groups, model.seed) == (140, 10, 5)
    assert (model.device, model.meter, model.data_hash) == ("a board", "a shunt", "ab" * 32)
    assert model.lowest_j == samples.energy_j.min()
    assert model.findings == ("2 rows that repeat an earlier one: dropped",)
    for kind in model.kinds:
        mine = samples.kind == kind.kind
        assert kind.rows == mine.sum()
        assert kind.groups == 10
        for column, price in enumerate(kind.prices):
            assert price.feature_low == X[mine, column].min()
            assert price.feature_high == X[mine, column].max()
            assert price.low <= price.value <= price.high
    assert not any("no hash" in sentence for sentence in model.assumptions)


def test_a_correction_is_made_where_joules_are_no_sum_and_it_pays() -> None:
    samples = bent()
    model = fit_samples(samples)
    (kind,) = model.kinds
    assert kind.correction is not None
    assert kind.correction.corrected + kind.correction.error < kind.correction.without
    test = model.tests[0]
    assert test.nested
    assert test.scores is not None
    assert test.prices_alone is not None
    assert test.scores.mape.value < test.prices_alone.mape.value / 3  # type: ignore[operator]
    plain = fit_samples(samples, estimator="nnls")
    assert plain.kinds[0].correction is None
    assert plain.tests[0].prices_alone is None
    assert not plain.tests[0].nested
    assert plain.kinds[0].prices == kind.prices


def test_the_model_predicts_what_its_estimator_predicts() -> None:
    samples = bent(1)
    model = fit_samples(samples, seed=3)
    design = Design.of(samples)
    fitted = design.estimator(None, 5, 3)
    fitted.fit(design.X, samples.energy_j, groups=samples.group)
    estimates = model.predict(samples.features, samples.kind)
    np.testing.assert_allclose(estimates.energy_j, fitted.predict(design.X), rtol=1e-12)
    assert estimates.corrected.all()
    assert (estimates.outside == "").all()


def test_hybrid_corrects_without_asking() -> None:
    model = fit_samples(table(3, 6, 30, noise=0.05), estimator="hybrid")
    assert all(kind.correction is not None for kind in model.kinds)
    assert not model.tests[0].nested
    assert model.tests[0].prices_alone is not None


@pytest.mark.parametrize("build", [bent, lambda: table(0, 7, 8, noise=0.1)])
def test_a_table_without_kinds_has_pooled_prices_alone(build: object) -> None:
    samples = build()  # type: ignore[operator]
    one = replace(samples, kind=np.full(len(samples), "conv"))
    none = replace(samples, kind=np.full(len(samples), ANY_KIND))
    named, plain = fit_samples(one), fit_samples(none)
    assert plain.kinds == ()
    np.testing.assert_allclose(
        [p.value for p in plain.pooled.prices], [p.value for p in named.kinds[0].prices], rtol=1e-6
    )
    assert (plain.pooled.correction is None) == (named.kinds[0].correction is None)
    a, b = plain.predict(samples.features), named.predict(samples.features)
    np.testing.assert_allclose(a.energy_j, b.energy_j, rtol=1e-6)
    np.testing.assert_allclose(a.high_j, b.high_j, rtol=1e-6)


def test_a_kind_with_few_rows_and_one_that_no_feature_explains_are_named() -> None:
    base = table(4, 10, 12, noise=0.05)
    X, kind = base.features.to_numpy().copy(), base.kind.astype("<U20").copy()
    kind[:5] = "few"
    nothing = np.flatnonzero(kind == "linear")[20:50]
    kind[nothing], X[nothing] = "featureless", 0.0
    model = fit_samples(samples_of(X, base.energy_j, kind, base.group))
    assert [k.kind for k in model.kinds] == ["conv", "linear"]
    (sentence,) = [s for s in model.assumptions if s.startswith("without prices")]
    assert sentence.endswith("priced by the pooled fit: featureless, few")
    estimates = model.predict(pd.DataFrame(X, columns=list(UNITS)), kind)
    assert (estimates.priced_as[:5] == ANY_KIND).all()
    assert (estimates.energy_j[nothing] == model.lowest_j).all()


def test_the_same_seed_gives_the_same_model_in_any_order_of_rows() -> None:
    samples = table(5, 12, 8, noise=0.1, between=0.1)
    order = np.random.default_rng(0).permutation(len(samples))
    moved = samples_of(
        samples.features.to_numpy()[order],
        samples.energy_j[order],
        samples.kind[order],
        samples.group[order],
    )
    first, again, other = fit_samples(samples), fit_samples(samples), fit_samples(moved)
    dump = {"created_utc"}
    assert first.model_dump(exclude=dump) == again.model_dump(exclude=dump)
    for one, two in zip(first.calibrations, other.calibrations, strict=True):
        assert one.pooled.above_log == pytest.approx(two.pooled.above_log, rel=1e-6)
    for kind in values(first):
        np.testing.assert_allclose(values(first)[kind], values(other)[kind], rtol=1e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), joules=st.integers(-12, 6), work=st.integers(-9, 9))
def test_units_of_energy_and_work_change_nothing_but_the_numbers(
    seed: int, joules: int, work: int
) -> None:
    samples = table(seed, 6, 8, noise=0.1)
    X = samples.features.to_numpy()
    scaled = samples_of(
        X * 10.0**work, samples.energy_j * 10.0**joules, samples.kind, samples.group
    )
    plain, other = fit_samples(samples), fit_samples(scaled)
    np.testing.assert_allclose(
        other.predict(scaled.features, scaled.kind).high_j / 10.0**joules,
        plain.predict(samples.features, samples.kind).high_j,
        rtol=1e-6,
    )


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6), groups=st.integers(1, 4), rows=st.integers(1, 9),
    zero=st.sets(st.sampled_from(["macs", "bytes", "calls"])), noise=st.sampled_from([0.0, 1.5]),
)  # fmt: skip
def test_any_table_gives_a_model_of_finite_positive_joules_or_one_error(
    seed: int, groups: int, rows: int, zero: set[str], noise: float
) -> None:
    samples = table(seed, groups, rows, noise=noise)
    features = samples.features.assign(**dict.fromkeys(zero, 0.0))
    samples = replace(samples, features=features)
    try:
        model = fit_samples(samples)
    except InputError as error:
        assert len(zero) == 3
        assert "no feature of a simulated table explains any energy" in str(error)
        return
    frame = pd.DataFrame(
        10 ** np.random.default_rng(seed).uniform(-3, 12, (20, 3)), columns=list(UNITS)
    )
    frame.iloc[0] = 0.0
    for kind in (None, ["conv"] * 20, ["never seen"] * 20):
        estimates = model.predict(frame, kind)
        for column in (estimates.energy_j, estimates.low_j, estimates.high_j):
            assert np.isfinite(column).all()
            assert (column > 0).all()
        assert (estimates.low_j < estimates.energy_j).all()
        assert (estimates.energy_j < estimates.high_j).all()


def test_an_unknown_estimator_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="no estimator 'forest'; there are auto, nnls, hybrid"):
        fit_samples(table(), estimator="forest")  # type: ignore[arg-type]


def test_progress_is_told_in_sentences() -> None:
    told: list[str] = []
    fit_samples(table(0, 3, 8), progress=told.append)
    assert told[0] == "fitting"
    assert "leaving out by network: part 1 of 3" in told
