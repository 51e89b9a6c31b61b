"""Decimal commas, thousands set apart, and names of columns that contradict the spec's unit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.tables import TableSpec, features_of, read_samples, samples_of
from costmodels.tables.decimals import plain_numbers
from profiler.errors import InputError

SPEC: dict[str, Any] = {
    "version": 1,
    "kind": {"column": "Schicht"},
    "file": {"comment": "#", "decimal": ","},
    "energy": {
        "power": "Leistung (W)", "power_unit": "W", "time": "Dauer (ms)", "time_unit": "ms",
        "calls": "Wdh.",
    },
    "features": {"macs": {"column": "MACs", "unit": "J/MAC"}},
    "groupings": {"net": "Netz"},
}  # fmt: skip


def german(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}".translate(str.maketrans(",.", ".,"))


def board(rows: int = 40) -> tuple[str, list[float]]:
    """A board's log with a BOM, comments, blank lines and a footer, and the joules of a call."""
    numbers = np.random.default_rng(0)
    lines = ["# Raspberry Pi", "Netz;Schicht;MACs;Leistung (W);Dauer (ms);Wdh.", ""]
    joules = []
    for row in range(rows):
        watts, ms = round(numbers.uniform(2, 6), 3), round(10 ** numbers.uniform(1, 5), 3)
        calls = int(numbers.choice([100, 1000, 20000]))
        joules.append(watts * ms / 1e3 / calls)
        macs = german(10 ** numbers.uniform(5, 9), 0)
        cells = [macs, german(watts, 3), german(ms, 3), german(calls, 0)]
        lines.append(";".join([f"n{row % 5}", "conv", *cells]))
    lines += ["", f"Mittelwert;;;{german(4.1, 3)};;"]
    return "\ufeff" + "\r\n".join(lines) + "\r\n", joules


def test_a_log_with_decimal_commas_has_the_joules_it_says(tmp_path: Path) -> None:
    text, joules = board()
    (tmp_path / "log.csv").write_bytes(text.encode())
    samples = read_samples(tmp_path / "log.csv", TableSpec.from_dict(SPEC))
    np.testing.assert_allclose(samples.energy_j, joules, rtol=1e-12)
    assert [(f.rows, f.what) for f in samples.findings] == [(1, "rows without 'Schicht'")]
    assert samples.features["macs"].min() >= 1e5
    asked = features_of(tmp_path / "log.csv", TableSpec.from_dict(SPEC))
    np.testing.assert_array_equal(asked.frame["macs"], samples.features["macs"])


def test_without_saying_so_no_row_is_used_and_the_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(board()[0].encode())
    spec = TableSpec.from_dict(SPEC | {"file": {"comment": "#"}})
    with pytest.raises(InputError, match=r"none of 41 rows .*such as '[\d.]+,\d+': is decimal"):
        read_samples(tmp_path / "log.csv", spec)
    with pytest.raises(
        InputError,
        match=r"column 'MACs' says '[\d.]+' on line \d+, with thousands set apart by points",
    ):
        features_of(tmp_path / "log.csv", spec)


@pytest.mark.parametrize("decimal", [".", ","])
@given(value=st.integers(-(10**12), 10**12), digits=st.integers(0, 4), apart=st.booleans())
def test_any_number_is_read_back(decimal: Any, value: int, digits: int, apart: bool) -> None:
    written = f"{value / 10**digits:{',' if apart else ''}.{digits}f}"
    true = float(written.replace(",", ""))
    if decimal == ",":
        written = written.translate(str.maketrans(",.", ".,"))
    frame = plain_numbers(pd.DataFrame({"x": [written]}), decimal, np.array([2]), besides=set())
    assert float(frame["x"][0]) == true


def test_what_is_no_number_in_the_notation_stays_or_is_refused() -> None:
    cells = ["1,5 mJ", "2'000", "3\u202f000,5", "1,2,3", "conv", "", "10.20.30"]
    lines = np.arange(2, 9)
    frame = plain_numbers(pd.DataFrame({"x": cells}), ",", lines, besides=set())
    assert frame["x"].tolist() == ["1.5 mJ", "2000", "3000.5", "1,2,3", "conv", "", "10.20.30"]
    machine = pd.DataFrame({"x": ["1.25", "1.125"], "list": ["1,2", "3,4"]})
    pd.testing.assert_frame_equal(
        plain_numbers(machine, ",", np.array([2, 3]), besides={"list"}), machine
    )
    with pytest.raises(InputError, match=r"'x' says '1.25' on line 2"):
        plain_numbers(pd.DataFrame({"x": ["1.25", "1,25"]}), ",", np.array([2, 3]), besides=set())


@pytest.mark.parametrize(
    ("name", "unit", "refused"),
    [
        ("energy_mJ", "J", True),
        ("kWh", "J", True),
        ("E (uJ)", "mJ", True),
        ("E [µJ]", "mJ", True),
        ("ENERGY_MJ", "mJ", False),
        ("E [µJ]", "uJ", False),
        ("majuj", "J", False),
        ("energy", "J", False),
    ],
)
def test_a_unit_in_a_column_s_name_is_not_overruled_in_silence(
    name: str, unit: str, refused: bool
) -> None:
    frame = pd.DataFrame({name: np.geomspace(1, 9, 8)[::-1], "macs": [3, 1, 4, 1, 5, 9, 2, 6]})
    spec = TableSpec.from_dict(
        {"energy": {"column": name, "unit": unit}, "features": {"macs": {"unit": "J/MAC"}}}
        | {"version": 1}
    )
    if refused:
        with pytest.raises(InputError, match="by its name, where the spec says"):
            samples_of(frame, spec)
    else:
        assert len(samples_of(frame, spec)) == 8


@pytest.mark.parametrize("wrap_size", [None, 50.0])
def test_a_rail_that_wrapped_does_not_hide_in_the_sum(wrap_size: float | None) -> None:
    frame = pd.DataFrame(
        {"cpu": [10.0, -46.0, 12, 5, -70], "gpu": [100.0, 90, 80, 70, 95], "macs": [1, 2, 3, 4, 5]}
    )
    energy = {"columns": ["cpu", "gpu"], "unit": "J", "wrap_size": wrap_size}
    spec = TableSpec.from_dict(
        {"version": 1, "energy": energy, "features": {"macs": {"unit": "J/MAC"}}}
    )
    samples = samples_of(frame, spec)
    repaired = [94.0] if wrap_size else []
    assert samples.energy_j.tolist() == [110.0, *repaired, 92.0, 75.0]
    told = [(f.rows, f.action, f.examples) for f in samples.findings if "'cpu'" in f.what]
    if wrap_size:
        assert told == [(1, "dropped", (6,)), (1, "repaired", (3,))]
    else:
        assert told == [(2, "dropped", (3, 6))]
