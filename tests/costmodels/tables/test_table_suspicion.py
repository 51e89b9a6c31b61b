"""Running totals and mixed units: refused or reported where they are, silent where they are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_table_rows import found, spec, table

from costmodels.tables import samples_of
from profiler.errors import InputError

NAMED = {"kind": "operation"}


def energy(**changes: Any) -> dict[str, Any]:
    return {"energy": {"column": "e", "unit": "J"} | changes}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("rows", [20, 60, 500])
def test_a_running_total_is_refused_and_differenced_on_request(seed: int, rows: int) -> None:
    frame = table(rows, seed)
    totals = frame.assign(e=frame["e"].cumsum() + 5)
    with pytest.raises(InputError, match=r"column 'e' grows over .* write cumulative = true"):
        samples_of(totals, spec())
    samples = samples_of(totals, spec(**energy(cumulative=True)))
    np.testing.assert_allclose(samples.energy_j, frame["e"][1:], rtol=1e-6)
    assert found(samples, "first rows of a cumulative column") == 1
    assert len(samples_of(totals, spec(**energy(cumulative=False)))) == rows


def test_a_running_total_of_each_device() -> None:
    frame = table(200).assign(host=np.random.default_rng(1).choice(["x", "y"], 200))
    totals = frame.assign(e=frame.groupby("host")["e"].cumsum())
    device = {"device": {"column": "host"}}
    with pytest.raises(InputError, match="running total"):
        samples_of(totals, spec(**device))
    samples = samples_of(totals, spec(**device, **energy(cumulative=True)))
    expected = frame.drop(frame.groupby("host").head(1).index)
    np.testing.assert_allclose(samples.energy_j, expected["e"], rtol=1e-6)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("rows", "wraps"), [(30, 1), (60, 3), (300, 5), (1000, 40)])
def test_a_running_total_that_wraps_often_is_refused(seed: int, rows: int, wraps: int) -> None:
    frame = table(rows, seed)
    totals = frame["e"].cumsum()
    size = totals.iloc[-1] / (wraps + 0.5)
    wrapped = frame.assign(e=totals % size)
    with pytest.raises(InputError, match=rf"falling back {wraps} times, .* cumulative = true"):
        samples_of(wrapped, spec())
    samples = samples_of(wrapped, spec(**energy(cumulative=True, wrap_size=float(size))))
    np.testing.assert_allclose(samples.energy_j, frame["e"][1:], rtol=1e-6)
    assert len(samples_of(wrapped, spec(**energy(cumulative=False)))) == rows


def test_sweeps_that_begin_anew_are_no_running_total() -> None:
    macs = np.tile(np.geomspace(1e6, 1e9, 25), 8)
    swept = pd.DataFrame({"macs": macs, "bytes": 1e4, "e": 1e-4 + 2e-11 * macs, "net": "a"})
    assert len(samples_of(swept, spec(rows={"duplicates": "keep"}))) == 200
    frame = table(200)
    frame["e"] = np.sort(frame["e"])
    frame.loc[[20, 70, 150], "e"] *= 0.9  # falls that no wrap makes: more than one in a hundred
    assert len(samples_of(frame, spec())) == 200


@pytest.mark.parametrize("seed", range(20))
def test_rows_in_any_order_and_sorted_ones_are_no_running_total(seed: int) -> None:
    frame = table(100, seed)
    for ordered in (frame, *(frame.sort_values(name) for name in ("e", "macs", "bytes"))):
        assert len(samples_of(ordered, spec())) == 100


def test_a_clock_is_no_duration() -> None:
    frame = table().assign(t=np.arange(60) * 0.05 + 0.05, p=3.0)
    watts = {"power": "p", "power_unit": "W", "time": "t", "time_unit": "s"}
    with pytest.raises(InputError, match=r"column 't' grows .* it is a clock"):
        samples_of(frame, spec(energy=watts))
    assert len(samples_of(frame, spec(energy=watts | {"cumulative": False}))) == 60


@pytest.mark.parametrize("factor", [1e3, 1e-3, 3600.0, 1e6, 1e-6, 3.6e6])
@pytest.mark.parametrize("share", [0.03, 0.2, 0.5, 0.9])
def test_units_that_are_mixed_in_a_kind_are_refused(factor: float, share: float) -> None:
    frame = table(1000)
    mixed = np.random.default_rng(2).random(1000) < share
    frame.loc[mixed, "e"] *= factor
    fewer = min(mixed.sum(), (~mixed).sum())
    with pytest.raises(InputError, match=rf"{fewer} of 1000 rows of kind 'operation' have about"):
        samples_of(frame, spec(**NAMED))
    kept = samples_of(frame, spec(**NAMED, rows={"mixed_units": "keep"}))
    assert found(kept, "mixed units?") == fewer
    # Without a kind the rows may be of two sorts of operation.
    assert found(samples_of(frame, spec()), "mixed units?") == fewer


def test_a_few_odd_rows_and_odd_devices_are_kept_and_reported() -> None:
    frame = table(1000).assign(host=["x"] * 700 + ["y"] * 300)
    few = frame.copy()
    few.loc[[10, 20], "e"] *= 1e6
    samples = samples_of(few, spec(**NAMED))
    [finding] = samples.findings
    assert (finding.rows, finding.action, finding.examples) == (2, "kept", (12, 22))
    assert len(samples) == 1000
    device = frame.copy()
    device.loc[device["host"] == "y", "e"] *= 1e3
    samples = samples_of(device, spec(**NAMED, device={"column": "host"}))
    assert found(samples, "of whole devices") == 300


@pytest.mark.parametrize("seed", range(40))
def test_rows_of_one_unit_are_not_suspected(seed: int) -> None:
    random = np.random.default_rng(seed)
    frame = table(int(random.integers(20, 2000)), seed)
    frame["e"] *= np.exp(random.normal(0, random.uniform(0, 0.8), len(frame)))
    assert not samples_of(frame, spec(**NAMED)).findings


def test_implausible_power_is_dropped_and_a_wrong_unit_refused() -> None:
    frame = table().assign(t=lambda rows: rows["e"] / 50)
    timed = energy(time="t", time_unit="s")
    assert not samples_of(frame, spec(**timed)).findings
    few = frame.copy()
    few.loc[[1, 2], "e"] *= 1e4
    samples = samples_of(few, spec(**timed))
    assert found(samples, "draw more than 100000 W") == 2
    assert len(samples) == 58
    with pytest.raises(InputError, match="60 of 60 rows draw more than 100000 W: look"):
        samples_of(frame, spec(**energy(time="t", time_unit="us")))


def test_no_warning_of_numpy_leaks_from_dirty_tables() -> None:
    frame = table().assign(t=0.0)
    frame.loc[3:, "t"] = 1.0
    frame["e"] = frame["e"].astype(object)
    frame.loc[5, "e"] = "inf"
    frame.loc[6, "e"] = None
    frame = pd.concat([frame, frame.tail(1)])
    with np.errstate(all="raise"):
        samples = samples_of(frame, spec(**energy(time="t", time_unit="s")))
    assert len(samples) == 55
