"""Energy models of tables corrected for another device."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from costmodels import EnergyModel, Samples
from costmodels.tablefit import fit_samples
from costmodels.transfer.core import DeviceFamilyWarning
from costmodels.transfer.energy import transfer_energies
from profiler.errors import InputError

PRICES = {"conv": (2e-9, 1e-10), "linear": (5e-10, 3e-10)}
UNITS = {"macs": "J/MAC", "bytes": "J/byte"}


def device(
    seed: int, rows: int = 200, scale: tuple[float, float] = (1.0, 1.0), noise: float = 0.05
) -> Samples:
    """Layers of two kinds; *scale* multiplies the prices of MACs and of bytes."""
    generator = np.random.default_rng(seed)
    kind = np.where(np.arange(rows) % 2 == 0, "conv", "linear")
    macs, size = 10 ** generator.uniform(5, 9, rows), 10 ** generator.uniform(5, 8, rows)
    prices = np.array([PRICES[name] for name in kind]) * scale
    joules = (prices * np.column_stack([macs, size])).sum(axis=1)
    return Samples(
        features=pd.DataFrame({"macs": macs, "bytes": size}),
        units=UNITS,
        energy_j=joules * np.exp(noise * generator.standard_normal(rows)),
        kind=kind,
        groupings={"network": np.array([f"net{n % 25}" for n in range(rows)])},
        source="a simulation",
        device=f"device {scale}",
    )


@pytest.fixture(scope="module")
def first() -> EnergyModel:
    return fit_samples(device(0), estimator="nnls")


@pytest.mark.parametrize("scale", [(3.0, 3.0), (0.4, 2.0)])
def test_one_family_is_predicted_from_twenty_rows(
    first: EnergyModel, scale: tuple[float, float]
) -> None:
    errors, plain = [], []
    for seed in range(6):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeviceFamilyWarning)
            found = transfer_energies(first, device(100 + seed, 20, scale))
        new = device(200 + seed, 100, scale, noise=0.0)
        for model, kept in ((found.model, errors), (first, plain)):
            predicted = model.predict(new.features, new.kind.tolist()).energy_j
            kept.append(np.mean(np.abs(predicted / new.energy_j - 1)))
    assert np.mean(errors) < 0.10 < np.mean(plain)


def test_intervals_cover_new_layers_of_the_other_device(first: EnergyModel) -> None:
    held = []
    for seed in range(8):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeviceFamilyWarning)
            found = transfer_energies(first, device(300 + seed, 20, (2.0, 2.0)))
        new = device(400 + seed, 100, (2.0, 2.0))
        said = found.model.predict(new.features, new.kind.tolist())
        inside = said.outside == ""
        held.extend(((said.low_j <= new.energy_j) & (new.energy_j <= said.high_j))[inside])
        assert not said.calibrated.any()
    assert np.mean(held) >= 0.95


def test_scales_contain_the_truth_and_prices_are_scaled(first: EnergyModel) -> None:
    found = transfer_energies(first, device(1, 40, (2.0, 2.0)))
    assert found.same_family and "one family" in found.verdict
    assert all(low <= scale <= high for scale, low, high in found.scales.values())
    for kind, truth in PRICES.items():  # the scales are of A's prices as they were estimated
        for price, true_price in zip(found.model.find(kind).prices, truth, strict=True):
            assert price.low <= 2 * true_price <= price.high
    before = {price.feature: price for price in first.find("conv").prices}
    for price in found.model.find("conv").prices:
        ratio = price.value / before[price.feature].value
        assert ratio == pytest.approx(found.scales["conv", price.feature][0])
    assert found.model.tests[0].grouping == "calibration rows"
    assert "another device" not in found.model.device


def test_unlike_device_is_warned_about(first: EnergyModel) -> None:
    other = device(2, 40)
    odd = replace(
        other, energy_j=other.energy_j * 10.0 ** np.random.default_rng(0).normal(0, 1, 40)
    )
    with pytest.warns(DeviceFamilyWarning, match="not of one family"):
        found = transfer_energies(first, odd)
    assert found.same_family is False


def test_model_is_saved_and_read_again(first: EnergyModel, tmp_path: Path) -> None:
    found = transfer_energies(first, device(3, 20, (2.0, 2.0)))
    found.model.save(tmp_path / "b.json")
    assert EnergyModel.load(tmp_path / "b.json") == found.model


def test_unfit_calibration_is_refused(first: EnergyModel) -> None:
    few = device(4, 2)
    with pytest.raises(InputError, match="too few to correct"):
        transfer_energies(first, few)
    good = device(5, 20)
    with pytest.raises(InputError, match="J/kMAC here and in J/MAC"):
        transfer_energies(first, replace(good, units={"macs": "J/kMAC", "bytes": "J/byte"}))
    lacking = replace(good, features=good.features[["macs"]], units={"macs": "J/MAC"})
    with pytest.raises(InputError, match="'bytes'"):
        transfer_energies(first, lacking)
