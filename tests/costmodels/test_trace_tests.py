"""Prices of traces where models, kinds and sizes are left out; steps against their modules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulated_traces import LAYERS, linear_truth, simulate

from costmodels import cell_means, fit_cost_model
from costmodels.regression import arrays, fit_prices, fit_regression
from costmodels.tracetests import trace_tests
from costmodels.wholesteps import whole_steps


def test_figures_are_those_of_refits_without_the_group() -> None:
    cells = [c for c in cell_means(simulate(seed=3)) if c.operation == "update" and c.k > 1]
    cells = [c for c in cells if c.pattern == "random"]
    models = ["a" if number % 2 else "b" for number in range(len(cells))]
    found = trace_tests(fit_regression("update", cells), models, 0)
    tests = {test.grouping: test.validation for test in found}
    assert set(tests) == {"model", "kind", "size"}
    X, y, noise = arrays(cells)
    label = np.array(models)
    errors = []
    for name in ("a", "b"):
        out = label == name
        guess = X[out] @ fit_prices(X[~out], y[~out], noise[~out])
        errors.extend(np.abs(guess / y[out] - 1))
    assert tests["model"].mape.value == pytest.approx(np.mean(errors), rel=1e-9)
    assert tests["kind"].groups == len({c.kind for c in cells})
    assert tests["size"].groups == 5  # of six sizes


def test_a_fit_stores_its_tests_and_their_bias() -> None:
    first = simulate(seed=1, model="one")
    second = simulate(seed=2, model="two", layers=LAYERS[2:])
    model = fit_cost_model([first, second])
    found = {test.grouping: test.validation for test in model.tests["update"]}
    assert found["model"].groups == 2 and "uncalibrated" in found["model"].verdict
    assert found["model"].mape.value is not None and found["model"].mape.value < 0.2
    pooled = model.find("update")
    assert pooled is not None and pooled.validation.bias is not None
    assert pooled.validation.bias.value == pytest.approx(0, abs=0.1)
    assert pooled.validation.r2 is not None


def test_step_of_a_whole_is_held_against_its_modules() -> None:
    """E_whole - sum E_m is found within its interval in most sessions, whatever its sign."""
    by_layer = {layer.name: 1e-3 + 1e-4 * number for number, layer in enumerate(LAYERS)}
    overhead_j, error_j, held, runs = 2e-3, 2e-5, 0, 40
    template = next(c for c in cell_means(simulate(seed=0)) if c.operation == "train")
    cells = {
        name: replace(template, layer=name, variance=error_j**2, degrees=200.0, k=8)
        for name in (*by_layer, "*")
    }
    truth_j = {**by_layer, "*": sum(by_layer.values()) + overhead_j}
    for seed in range(runs):
        generator = np.random.default_rng(seed)
        made = [
            replace(cell, mean_j=truth_j[name] + error_j * generator.standard_normal())
            for name, cell in cells.items()
        ]
        (check,) = whole_steps("net", made)
        assert check.modules == len(LAYERS) and check.examples == 8
        assert check.sum_j + check.overhead_j == pytest.approx(check.whole_j)
        held += check.low_j <= overhead_j <= check.high_j
    assert held >= 33  # 40 at 95 %: fewer has a chance of 0.1 %


def test_step_with_a_module_missing_is_not_judged() -> None:
    cells = [c for c in cell_means(simulate(seed=0)) if c.operation == "train"]
    named = [replace(c, layer="*") for c in cells[:1]]
    other = [replace(c, layer="m1") for c in cells[:1]]
    assert whole_steps("net", named) == ()
    elsewhere = [replace(c, layer="m2", k=c.k + 1) for c in cells[:1]]
    assert whole_steps("net", [*named, *other, *elsewhere]) == ()
    assert len(whole_steps("net", [*named, *other])) == 1


def test_truth_is_linear() -> None:
    """What the simulation says costs what it says: the tests above rest on it."""
    assert linear_truth()("update", "random", LAYERS[0], 10) == pytest.approx(2e-6 + 5e-8)
