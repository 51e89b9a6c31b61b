"""How a profiled cost is written: with its interval, or as the limit below which it lies."""

from __future__ import annotations

import pytest

from costmodels.curves import Quantity
from cwmp.profile_summary import CostRow, quantity_text

A = Quantity(1.234e-6, 2e-8, 20.0)
C = Quantity(5e-9, 4e-9, 8.0)


@pytest.mark.parametrize(
    ("quantity", "text"),
    [
        (A, "1.23 +- 0.042 uJ"),
        (Quantity(0.5, 0.01, 1000.0), "500 +- 20 mJ"),
        (C, "< 12 nJ"),  # 5 + t95(8) 4 = 12.4
        (Quantity(-3e-9, 4e-9, 8.0), "< 7.4 nJ"),  # 0 + t95(8) 4
        (Quantity(0.0, 1e-12, 8.0), "< 1.9 pJ"),
        (Quantity(0.0, 0.0, 10.0), "not seen"),
    ],
)
def test_a_cost_below_detection_is_a_limit_and_never_a_bare_zero(quantity, text):
    assert quantity_text(quantity, "J") == text


@pytest.mark.parametrize(
    ("row", "cells"),
    [
        (
            CostRow("update", "random", "conv", "entry", 1, A, C, 24),
            ["update random", "conv", "1.23 +- 0.042 uJ", "< 12 nJ/entry", "24"],
        ),
        (
            CostRow("update", "dense", "conv", "entry", 1, A, None, 6),
            ["update dense", "conv", "1.23 +- 0.042 uJ", "(whole call)", "6"],
        ),
        (
            CostRow("send", "random", "*", "byte", 900, A, C, 24),
            ["send k>=900", "*", "1.23 +- 0.042 uJ", "< 12 nJ/byte", "24"],
        ),
        (
            CostRow("train", "batch", "*", "example", 1, A, C, 24),
            ["train", "*", "1.23 +- 0.042 uJ", "< 12 nJ/example", "24"],
        ),
    ],
)
def test_a_row_of_the_table(row, cells):
    assert row.as_text() == cells


def test_a_cost_that_nothing_bounds_has_no_limit():
    nothing = Quantity(0.0, 0.0, 10.0)
    a = CostRow("update", "random", "conv", "entry", 1, nothing, C, 24).as_json()["a_j"]
    assert not a["detected"] and a["upper_limit"] is None


def test_a_row_as_json_keeps_the_negative_estimate_beside_its_limit():
    row = CostRow("update", "random", "conv", "entry", 1, Quantity(-3e-9, 4e-9, 8.0), None, 6)
    a = row.as_json()["a_j"]
    assert a["value"] == -3e-9 and a["detected"] is False
    assert a["upper_limit"] == pytest.approx(7.44e-9, rel=1e-2)
    assert a["low"] < a["value"] < a["high"]
    assert a["could_have_seen"] > a["upper_limit"]
