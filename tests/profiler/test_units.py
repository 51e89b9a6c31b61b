"""Numbers for people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.units import common_exponent, format_scaled, format_si, prefix, si_exponent


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.234e-8, "12.3 nJ"),
        (4.2e-6, "4.20 uJ"),
        (0.5, "500 mJ"),
        (1.0, "1.00 J"),
        (999.6e-9, "1.00 uJ"),
        (123456.0, "123 kJ"),
        (-3e-3, "-3.00 mJ"),
        (0.0, "0 J"),
        (None, "-"),
    ],
)
def test_prefixes_are_the_usual_ones(value: float | None, text: str) -> None:
    assert format_si(value, "J") == text


@given(st.floats(1e-17, 1e14))
def test_what_is_printed_is_the_value_to_three_digits(value: float) -> None:
    number, _, unit = format_si(value, "J").partition(" ")
    exponents = {prefix(e): e for e in range(-18, 15, 3)}
    assert float(number) * 10.0 ** exponents[unit.removesuffix("J")] == pytest.approx(
        value, rel=5.1e-3
    )
    assert 1 <= float(number) < 1000


def test_beyond_the_prefixes_powers_of_ten_serve() -> None:
    assert format_si(1e-25, "J") == "1.00e-07 aJ"
    assert format_scaled(1e-9, 0) == "1.00e-09"


def test_a_column_takes_the_unit_of_its_middle_value() -> None:
    assert common_exponent([1e-9, 5e-9, 2e-6]) == -9
    assert common_exponent([0.0]) == 0
    assert si_exponent(float("inf")) == 0
