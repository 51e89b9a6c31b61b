"""Samples: what is taken as a row to fit, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_tables import table

from costmodels.samples import ANY_KIND, Finding, Samples
from profiler.errors import InputError


def test_sound_rows_are_taken_as_they_are() -> None:
    samples = table(0, 4, 5)
    assert len(samples) == 20
    np.testing.assert_array_equal(samples.group, samples.groupings["network"])
    with pytest.raises(TypeError):
        samples.units["macs"] = "J"  # type: ignore[index]
    with pytest.raises(TypeError):
        samples.groupings["network"] = samples.kind  # type: ignore[index]


def test_the_first_grouping_is_the_one_that_calibrates() -> None:
    samples = table(0, 4, 5)
    both = replace(samples, groupings={"size": samples.kind, **samples.groupings})
    np.testing.assert_array_equal(both.group, samples.kind)


@settings(max_examples=40, deadline=None)
@given(
    row=st.integers(0, 19),
    value=st.sampled_from([0.0, -1e-300, -1.0, np.nan, np.inf, -np.inf]),
)
def test_one_energy_that_is_not_positive_is_named(row: int, value: float) -> None:
    samples = table(0, 4, 5)
    energy_j = samples.energy_j.copy()
    energy_j[row] = value
    with pytest.raises(InputError, match=f"the energy of row {row} is"):
        replace(samples, energy_j=energy_j)


@settings(max_examples=40, deadline=None)
@given(
    row=st.integers(0, 19),
    column=st.sampled_from(["macs", "bytes", "calls"]),
    value=st.sampled_from([-1e-300, -1.0, np.nan, np.inf]),
    shape=st.booleans(),
)
def test_one_feature_that_is_not_physical_is_named(
    row: int, column: str, value: float, shape: bool
) -> None:
    samples = table(0, 4, 5)
    frame = samples.features.copy()
    frame.loc[row, column] = value
    with pytest.raises(InputError, match=f"feature '{column}' is .* in row {row}"):
        replace(samples, **{"shape" if shape else "features": frame})


def test_columns_that_do_not_fit_together_are_refused() -> None:
    samples = table(0, 4, 5)
    wrong = {
        "energy_j": samples.energy_j[:-1],
        "kind": samples.kind[:-1],
        "groupings": {"network": samples.group[:-1]},
        "shape": samples.features[:-1],
        "units": {"bytes": "J/byte", "macs": "J/MAC", "calls": "J/call"},
    }
    for name, value in wrong.items():
        with pytest.raises(InputError, match=r"rows|order") as caught:
            replace(samples, **{name: value})
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="name a grouping"):
        replace(samples, groupings={})


def test_no_rows_are_refused_by_the_name_of_their_source() -> None:
    none = np.array([])
    with pytest.raises(InputError, match="an empty file has no usable row"):
        Samples(
            pd.DataFrame({"macs": none}),
            {"macs": "J/MAC"},
            none,
            none.astype(str),
            {"network": none.astype(str)},
            "an empty file",
        )


def test_the_kind_of_all_kinds_has_none_beside_it() -> None:
    samples = table(0, 4, 5)
    replace(samples, kind=np.full(20, ANY_KIND))
    with pytest.raises(InputError, match="name the kind of those rows"):
        replace(samples, kind=np.array([ANY_KIND] * 10 + ["conv"] * 10))


def test_a_finding_says_how_often_what_where_and_what_was_done() -> None:
    seen = Finding("rows that repeat an earlier one", 3, "dropped", (4, 9))
    assert str(seen) == "3 rows that repeat an earlier one: dropped (line 4, 9)"
    assert str(Finding("empty rows", 1, "kept")) == "1 empty rows: kept"
