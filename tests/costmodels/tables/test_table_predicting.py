"""Tables without energies: the features that a fit would see, row by row, and what is outside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from costmodels import TableSpec, features_of, fit_samples, read_samples, samples_of
from profiler.errors import CwmpError, InputError

SPEC = {
    "version": 1,
    "kind": {"column": "op"},
    "energy": {"column": "j", "unit": "J"},
    "shape": {
        "batch": "b",
        "in_channels": "c",
        "out_channels": "k",
        "size": "s",
        "kernel": "f",
        "padding": 0,
        "in_features": "c",
        "out_features": "k",
    },
    "groupings": {"kernel": "f"},
}


def layers(rows: int = 120, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "op": np.where(np.arange(rows) % 2, "conv2d", "linear"),
            "b": 4,
            "c": generator.integers(1, 64, rows),
            "k": generator.integers(1, 64, rows),
            "s": generator.integers(16, 32, rows),
            "f": generator.integers(1, 8, rows),
        }
    )


def measured(rows: int = 120, seed: int = 0) -> pd.DataFrame:
    found = layers(rows, seed)
    asked = features_of(found, TableSpec.from_dict(SPEC)).frame
    return found.assign(j=1e-6 + 1e-11 * asked["macs"] + 1e-9 * asked["input_bytes"])


def test_the_features_are_those_of_a_fit() -> None:
    spec = TableSpec.from_dict(SPEC)
    samples, asked = samples_of(measured(), spec), features_of(layers(), spec)
    assert asked.kind.tolist() == samples.kind.tolist()
    for part in (samples.features, samples.shape):
        for name, values in part.items():
            np.testing.assert_array_equal(asked.frame[name], values)
    # what is not fitted to is there as well, and the fit remembers its range
    assert samples.ranges["kernel"] == (1.0, 7.0)
    assert samples.ranges["batch"] == (4.0, 4.0)
    assert samples.ranges["padding"] == (0.0, 0.0)
    assert set(samples.ranges) <= set(asked.frame.columns)
    assert not set(samples.ranges) & {*samples.features.columns, *samples.shape.columns}


def test_another_value_of_what_never_changed_is_outside() -> None:
    spec = TableSpec.from_dict(SPEC)
    model = fit_samples(samples_of(measured(), spec), estimator="hybrid")
    new = layers(4, seed=3).assign(b=[4, 8, 4, 4], f=[3, 3, 11, 3], s=24)
    asked = features_of(new, spec)
    found = model.predict(asked.frame, asked.kind)
    assert "batch" in found.outside[1]
    assert "kernel" in found.outside[2]
    assert not found.corrected[[1, 2]].any()
    assert "batch" not in found.outside[0]
    padded = features_of(new, TableSpec.from_dict(SPEC | {"shape": SPEC["shape"] | {"padding": 1}}))  # type: ignore[operator]
    assert all("padding" in names for names in model.predict(padded.frame, padded.kind).outside)
    # a frame made by hand may leave out what the model is not fitted to
    columns = [*model.features, *model.shape]
    assert len(model.predict(asked.frame[columns], asked.kind).energy_j) == 4


def test_rows_that_cannot_be_asked_about_are_counted(tmp_path: Path) -> None:
    spec, rows = TableSpec.from_dict(SPEC), layers(6).astype({"s": float})
    rows.loc[1, "s"], rows.loc[3, "f"] = np.nan, 100
    asked = features_of(rows, spec)
    assert asked.lines.tolist() == [2, 4, 6, 7]
    assert [str(finding) for finding in asked.findings] == [
        "2 rows whose shape is missing or impossible: dropped (line 3, 5)"
    ]
    rows.to_csv(tmp_path / "rows.csv", index=False)
    from_file = features_of(tmp_path / "rows.csv", spec)
    pd.testing.assert_frame_equal(from_file.frame, asked.frame)
    assert from_file.findings == asked.findings


def test_energies_groups_and_failed_rows_are_not_looked_at() -> None:
    rows = {"drop": ["power > 9", "j == 0"], "failed": ["ok == 0"]}
    spec = TableSpec.from_dict(SPEC | {"device": {"column": "host"}, "rows": rows})
    twice = pd.concat([layers(10), layers(10)])
    assert len(features_of(twice, spec)) == 20
    assert len(features_of(twice.assign(j="", ok=0), spec)) == 20


def test_unwanted_rows_are_not_asked_about() -> None:
    frame = layers(10)
    frame.loc[[3, 7], "op"] = "average"
    spec = TableSpec.from_dict(SPEC | {"rows": {"drop": ["op == average", "status != ok"]}})
    asked = features_of(frame, spec)
    assert asked.lines.tolist() == [2, 3, 4, 6, 7, 8, 10, 11]
    assert [str(found) for found in asked.findings] == [
        "2 rows not wanted (op == average): dropped (line 5, 9)"
    ]
    with pytest.raises(InputError, match=r"rows\.drop cannot be read"):
        features_of(frame, TableSpec.from_dict(SPEC | {"rows": {"drop": ["average"]}}))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (layers(0), "has no rows"),
        (layers(4).assign(s=-1, op="conv2d"), "none of 4 rows can be predicted"),
        (layers(4).drop(columns="c"), "'c', which the table does not have"),
        (layers(4).assign(op="telepathy"), "no shape formula"),
    ],
)
def test_a_table_that_cannot_be_asked_about_is_one_error(rows: pd.DataFrame, words: str) -> None:
    with pytest.raises(InputError, match=words):
        features_of(rows, TableSpec.from_dict(SPEC))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CwmpError, match=r"none\.csv"):
        features_of(tmp_path / "none.csv", TableSpec.from_dict(SPEC))


def test_reading_and_predicting_see_the_same_rows(tmp_path: Path) -> None:
    measured(40).to_csv(tmp_path / "rows.csv", index=False)
    spec = TableSpec.from_dict(SPEC)
    samples, asked = (
        read_samples(tmp_path / "rows.csv", spec),
        features_of(tmp_path / "rows.csv", spec),
    )
    np.testing.assert_array_equal(asked.frame["macs"], samples.features["macs"])
