"""Rows of a frame -> samples: units, kinds, groupings, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from costmodels.samples import Samples
from costmodels.tables import TableSpec, samples_of
from profiler.errors import InputError

PLAIN: dict[str, Any] = {
    "version": 1,
    "energy": {"column": "e", "unit": "J"},
    "features": {"macs": {"unit": "J/MAC"}, "bytes": {"unit": "J/byte"}},
    "groupings": {"net": "net"},
}


def table(rows: int = 60, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    macs, moved = 10 ** random.uniform(6, 9, rows), 10 ** random.uniform(4, 7, rows)
    energy = (1e-4 + 2e-11 * macs + 5e-9 * moved) * np.exp(random.normal(0, 0.1, rows))
    net = random.choice(["a", "b", "c"], rows)
    return pd.DataFrame({"macs": macs, "bytes": moved, "e": energy, "net": net})


def spec(**changes: Any) -> TableSpec:
    return TableSpec.from_dict(PLAIN | changes)


def found(samples: Samples, words: str) -> int:
    return sum(finding.rows for finding in samples.findings if words in finding.what)


def test_ready_features_keep_their_units() -> None:
    frame = table()
    samples = samples_of(frame, spec(), source="by hand")
    assert dict(samples.units) == {"calls": "J/call", "macs": "J/MAC", "bytes": "J/byte"}
    np.testing.assert_array_equal(samples.features["calls"], 1.0)
    np.testing.assert_array_equal(samples.features["macs"], frame["macs"])
    np.testing.assert_array_equal(samples.energy_j, frame["e"])
    assert samples.kind.tolist() == ["*"] * 60
    assert samples.group.tolist() == frame["net"].tolist()
    assert samples.source == "by hand"
    assert len(samples.sha256) == 64
    assert not samples.findings
    assert samples.sha256 != samples_of(table(seed=1), spec()).sha256


def test_scale_and_exponent_of_a_feature() -> None:
    features = {
        "macs": {"unit": "J/MAC", "column": "macs", "scale": 0.5},
        "slow": {"unit": "J.MAC", "column": "macs", "exponent": -1.0},
    }
    samples = samples_of(table(), spec(features=features))
    np.testing.assert_allclose(samples.features["macs"], table()["macs"] / 2)
    np.testing.assert_allclose(samples.features["slow"], 1 / table()["macs"])


@pytest.mark.parametrize(
    ("unit", "joules"),
    [("J", 1), ("kJ", 1e3), ("mJ", 1e-3), ("uJ", 1e-6), ("µJ", 1e-6), ("nJ", 1e-9),
     ("Wh", 3600), ("kWh", 3.6e6), ("mWh", 3.6)],
)  # fmt: skip
def test_units_of_energy(unit: str, joules: float) -> None:
    samples = samples_of(table(), spec(energy={"column": "e", "unit": unit}))
    np.testing.assert_allclose(samples.energy_j, table()["e"] * joules, rtol=1e-15)


@pytest.mark.parametrize(
    ("power", "time", "joules"),
    [("W", "s", 1), ("mW", "ms", 1e-6), ("kW", "h", 3.6e6), ("uW", "us", 1e-12),
     ("W", "min", 60), ("W", "ns", 1e-9)],
)  # fmt: skip
def test_power_times_time_over_calls(power: str, time: str, joules: float) -> None:
    frame = table().assign(p=2.0, t=3.0, n=np.arange(1, 61))
    energy = {"power": "p", "power_unit": power, "time": "t", "time_unit": time, "calls": "n"}
    samples = samples_of(frame, spec(energy=energy))
    np.testing.assert_allclose(samples.energy_j, 6 * joules / np.arange(1, 61), rtol=1e-12)
    fixed = samples_of(frame, spec(energy=energy | {"calls": 4}))
    np.testing.assert_allclose(fixed.energy_j, 1.5 * joules, rtol=1e-12)


def test_the_sum_of_rails_is_missing_where_one_is() -> None:
    frame = table().assign(f=1.0)
    frame.loc[[3, 5], "f"] = np.nan
    samples = samples_of(frame, spec(energy={"columns": ["e", "f"], "unit": "J"}))
    np.testing.assert_allclose(samples.energy_j, table()["e"].drop([3, 5]) + 1)
    assert found(samples, "rows without 'f'") == 2


def test_units_within_cells_are_read_where_they_agree_and_refused_where_not() -> None:
    frame = table().astype({"e": str})
    frame.loc[::2, "e"] += " mJ"
    milli = {"column": "e", "unit": "mJ"}
    samples = samples_of(frame, spec(energy=milli))
    np.testing.assert_allclose(samples.energy_j, table()["e"] * 1e-3)
    frame.loc[7, "e"] += " uJ"
    with pytest.raises(InputError, match=r"column 'e' says '.* uJ' on line 9, where .* mJ"):
        samples_of(frame, spec(energy=milli))


def test_conditions_leave_rows_out() -> None:
    frame = table().assign(run=np.arange(60))
    rows = {"drop": ["net == c", "run >= 50"], "failed": ["run < 3"]}
    samples = samples_of(frame, spec(rows=rows))
    kept = frame[(frame["net"] != "c") & (frame["run"] < 50) & (frame["run"] >= 3)]
    np.testing.assert_array_equal(samples.energy_j, kept["e"])
    assert found(samples, "not wanted (net == c)") == (frame["net"] == "c").sum()
    quoted = samples_of(frame, spec(rows={"drop": ["net != 'a'"]}))
    assert set(quoted.group) == {"a"}
    for condition, words in (("net", "cannot be read"), ("net < a", "not a number"),
                             ("nett == a", "did you mean 'net'")):  # fmt: skip
        with pytest.raises(InputError, match=words):
            samples_of(frame, spec(rows={"drop": [condition]}))


def test_repetitions_may_be_kept() -> None:
    frame = pd.concat([table(), table().iloc[[4, 9]]])
    assert len(samples_of(frame, spec())) == 60
    assert len(samples_of(frame, spec(rows={"duplicates": "keep"}))) == 62


@pytest.mark.parametrize(
    "changes",
    [
        {"energy": {"column": "ne", "unit": "J"}},
        {"features": {"x": {"column": "macz", "unit": "J/MAC"}}},
        {"groupings": {"g": ["net", "bytez"]}},
        {"kind": {"column": "nets"}},
        {"device": {"column": "nets"}},
        {"file": {"lists": {"nets": ["x"]}}},
    ],
)
def test_an_unknown_column_is_named_with_the_nearest(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"does not have; .*columns: macs, bytes, e, net"):
        samples_of(table(), spec(**changes))


def test_lists_become_columns() -> None:
    frame = table()
    frame["both"] = [
        f"({a!r}, 9, {b!r})" for a, b in zip(frame["macs"], frame["bytes"], strict=True)
    ]
    frame.loc[[2, 8], "both"] = ["1,2", "1,2,3,4"]
    lists = {"lists": {"both": ["m", "_", "b"]}}
    features = {
        "macs": {"column": "m", "unit": "J/MAC"}, "bytes": {"column": "b", "unit": "J/byte"},
    }  # fmt: skip
    samples = samples_of(frame, spec(file=lists, features=features))
    np.testing.assert_array_equal(samples.features["macs"], frame["macs"].drop([2, 8]))
    np.testing.assert_array_equal(samples.features["bytes"], frame["bytes"].drop([2, 8]))
    assert found(samples, "has not 3 items") == 2
    with pytest.raises(InputError, match="'net', which is a column already"):
        samples_of(frame, spec(file={"lists": {"both": ["net", "_", "_"]}}))


def test_constant_features_are_left_out_and_reported() -> None:
    samples = samples_of(table().assign(bytes=4.0), spec())
    assert list(samples.features) == ["calls", "macs"]
    assert found(samples, "feature 'bytes' is 4") == 60
    alone = samples_of(table().head(1), spec())
    assert list(alone.features) == ["calls"]


def test_kinds_devices_and_default_groupings() -> None:
    frame = table().assign(op=["Linear", "MaxPool2d"] * 30, host=["x", "y", "z"] * 20)
    samples = samples_of(
        frame, spec(kind={"column": "op"}, device={"column": "host"}, groupings={})
    )
    assert samples.kind.tolist() == frame["op"].tolist()
    assert samples.device == "x, y, z"
    assert list(samples.groupings) == ["device", "kind"]
    bins = samples_of(frame, spec(groupings={}))
    assert list(bins.groupings) == ["size"]
    assert len(set(bins.group)) == 6
    assert "no grouping is named" in bins.assumptions[0]


def test_bins_hold_equal_shares_in_order_of_size() -> None:
    samples = samples_of(table(), spec(groupings={"s": {"feature": "macs", "bins": 5}}))
    ranks = samples.features["macs"].rank().to_numpy()
    for number, label in enumerate(sorted(set(samples.group))):
        held = ranks[samples.group == label]
        assert (held > 12 * number).all()
        assert (held <= 12 * (number + 1)).all()
    with pytest.raises(InputError, match="not one that varies; did you mean 'macs'"):
        samples_of(table(), spec(groupings={"s": {"feature": "mac"}}))


def test_several_columns_make_one_group() -> None:
    frame = table().assign(k=[1, 3] * 30)
    samples = samples_of(frame, spec(groupings={"g": ["net", "k"]}))
    expected = [f"net={net} k={k}" for net, k in zip(frame["net"], frame["k"], strict=True)]
    assert samples.group.tolist() == expected


def test_one_group_only_is_allowed_and_said() -> None:
    samples = samples_of(table().assign(net="a"), spec())
    assert found(samples, "only group of 'net'") == 60


def test_shapes_by_the_kind_of_each_row() -> None:
    frame = pd.DataFrame(
        {"op": ["Conv2d", "fc", "fc"], "i": [3, 5, 6], "o": [4, 7, 7], "s": [8, None, None],
         "k": [3, None, None], "e": [1.0, 2.0, 3.0]}
    )  # fmt: skip
    shape = {
        "in_channels": "i", "out_channels": "o", "in_features": "i", "out_features": "o",
        "size": "s", "kernel": "k", "batch": 2,
    }  # fmt: skip
    base = spec(kind={"column": "op"}, shape=shape, features={}, groupings={})
    samples = samples_of(frame, base)
    assert samples.features["macs"].tolist() == [2 * 3 * 4 * 36 * 9, 2 * 35, 2 * 42]
    assert samples.features["unfolded_bytes"].tolist() == [2 * 3 * 36 * 9 * 4, 0, 0]
    odd = frame.assign(op=["Conv2d", "fc", "sponge"])
    with pytest.raises(InputError, match="kind 'sponge' has no shape formula"):
        samples_of(odd, base)
    named = spec(
        kind={"column": "op", "shapes": {"sponge": "linear"}},
        shape=shape,
        features={},
        groupings={},
    )
    assert samples_of(odd, named).features["macs"].tolist() == samples.features["macs"].tolist()


def test_rows_without_kind_or_device_go() -> None:
    frame = table().assign(op="x", host="y").astype({"op": object, "host": object})
    frame.loc[[3, 4], "op"] = None
    frame.loc[[4, 5], "host"] = " "
    samples = samples_of(frame, spec(kind={"column": "op"}, device={"column": "host"}))
    assert (found(samples, "without 'op'"), found(samples, "without 'host'")) == (1, 2)
    assert len(samples) == 57


def test_labels_of_numbers_are_exact() -> None:
    frame = table().assign(net=1234567.0 + np.arange(60))
    assert samples_of(frame, spec()).group.tolist() == [str(1234567 + row) for row in range(60)]


def test_absurd_shapes_go_without_a_warning() -> None:
    frame = table(4).assign(i=[3.0, 1e200, -1, 2.0])
    samples = samples_of(
        frame, spec(kind="linear", shape={"in_features": "i", "out_features": "i"}, features={})
    )
    assert found(samples, "missing or impossible") == 2


def test_empty_and_unusable_tables() -> None:
    with pytest.raises(InputError, match="has no rows"):
        samples_of(table().head(0), spec())
    with pytest.raises(InputError, match="more than one column called 'e'"):
        samples_of(pd.concat([table(), table()[["e"]]], axis=1), spec())
    with pytest.raises(InputError, match=r"none of 60 rows is usable; 60 energies of zero.*'e'"):
        samples_of(table().assign(e=0.0), spec())
