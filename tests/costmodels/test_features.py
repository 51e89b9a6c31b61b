"""Features against counting: cache lines touched, columns and units."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.features import FEATURES, LINE_BYTES, feature_matrix, group_of, item_bytes
from profiler.errors import InputError

ARGUMENTS = {"parameters": 5000, "dtype": "float32", "macs": 10.0}
POINTS = [
    ("update", "random"),
    ("update", "clustered"),
    ("update", "dense"),
    ("encode", "random"),
    ("encode", "dense"),
    ("send", "random"),
    ("select", "topk"),
    ("train", "batch"),
]


def column(name: str, operation: str, pattern: str, k: float, **changes: object) -> float:
    names = [feature.name for feature in FEATURES[group_of(operation, pattern)]]
    rows = feature_matrix(operation, pattern, [k], **{**ARGUMENTS, **changes})  # type: ignore[arg-type]
    return float(rows[0, names.index(name)])


@pytest.mark.parametrize(("operation", "pattern"), POINTS)
@given(k=st.integers(1, 10**7), parameters=st.integers(1, 10**9))
def test_features_are_finite_non_negative_and_never_fall_in_k(
    operation: str, pattern: str, k: int, parameters: int
) -> None:
    rows = feature_matrix(
        operation, pattern, [k, k + 1, 2 * k], parameters=parameters, dtype="float16", macs=3.0
    )
    assert rows.shape == (3, len(FEATURES[group_of(operation, pattern)]))
    assert np.isfinite(rows).all()
    assert (rows >= 0).all()
    assert (np.diff(rows, axis=0) >= -1e-9 * rows[0]).all()


@pytest.mark.parametrize("k", [1, 7, 60, 400])
def test_lines_of_random_entries_match_a_simulated_count(k: int) -> None:
    parameters, per_line = 5000, LINE_BYTES // 4
    generator = np.random.default_rng(k)
    counts = [np.unique(generator.integers(0, parameters, k) // per_line).size for _ in range(2000)]
    standard_error = np.std(counts) / np.sqrt(len(counts))
    lines = column("lines", "update", "random", k)
    assert abs(lines - np.mean(counts)) <= 4 * standard_error + 0.01


def test_clustered_entries_fill_their_lines() -> None:
    assert column("lines", "update", "clustered", 1) == 1
    assert column("lines", "update", "clustered", 17) == 2
    assert column("lines", "update", "clustered", 33, dtype="float64") == 5
    assert column("lines", "update", "clustered", 30, parameters=32) == 2


@given(k=st.integers(1, 1000), dtype=st.sampled_from(["int8", "float32"]))
def test_a_run_that_begins_anywhere_fills_its_lines_on_average(k: int, dtype: str) -> None:
    per_line = LINE_BYTES // item_bytes(dtype)
    counts = [(first + k - 1) // per_line - first // per_line + 1 for first in range(per_line)]
    lines = column("lines", "update", "clustered", k, dtype=dtype, parameters=10**7)
    assert lines == pytest.approx(np.mean(counts))


def test_a_first_entry_touches_one_line_even_in_a_huge_tensor() -> None:
    assert column("lines", "update", "random", 1, parameters=10**12) == pytest.approx(1.0)


def test_larger_footprints_weigh_more() -> None:
    near = column("far_lines", "update", "random", 10, parameters=1000)
    far = column("far_lines", "update", "random", 10, parameters=10**8)
    assert far > 5 * near


def test_training_counts_the_macs_of_the_batch() -> None:
    assert column("mac_examples", "train", "batch", 8) == 80.0
    with pytest.raises(InputError, match="multiply-accumulates"):
        feature_matrix("train", "batch", [1], parameters=1, dtype="float32")


def test_every_feature_has_a_unit_of_joules() -> None:
    for features in FEATURES.values():
        assert all(feature.unit.startswith("J/") for feature in features)
        assert len({feature.name for feature in features}) == len(features)


def test_unknown_operations_types_and_forms_are_refused() -> None:
    with pytest.raises(InputError, match="unknown operation 'sing'"):
        group_of("sing", "random")
    with pytest.raises(InputError, match="no form 'dense'"):
        group_of("select", "dense")
    with pytest.raises(InputError, match="unknown element type 'float3'"):
        item_bytes("float3")
