"""Kinds spelled twice and rows that sum up others are reported and kept; plain labels are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_table_rows import spec, table

from costmodels.samples import Finding
from costmodels.tables import samples_of

KINDS = {"kind": {"column": "op"}}


def kinds(rows: int = 60) -> pd.DataFrame:
    return table(rows).assign(op=np.where(np.arange(rows) % 2, "MatMul", "Conv"))


def odd(frame: pd.DataFrame, **changes: Any) -> list[Finding]:
    return [
        finding
        for finding in samples_of(frame, spec(**KINDS, **changes)).findings
        if "footer" in finding.what or "blanks" in finding.what
    ]


def test_kinds_that_differ_in_case_or_blanks_are_named() -> None:
    frame = kinds()
    assert not odd(frame)
    frame.loc[[1, 3, 5], "op"] = ["MATMUL", "Mat Mul", " MatMul "]
    (finding,) = odd(frame)
    assert (finding.rows, finding.action, finding.examples) == (2, "kept", (3, 5))
    for name in ("'MatMul'", "'MATMUL'", "'Mat Mul'"):
        assert name in finding.what
    assert "Conv" not in finding.what
    assert len(samples_of(frame, spec(**KINDS))) == 60


@pytest.mark.parametrize("word", ["average", "Mean", "TOTAL", "sum", "avg", "all"])
@pytest.mark.parametrize("name", ["op", "net", "host"])
def test_a_row_that_sums_up_others_is_named(word: str, name: str) -> None:
    frame = kinds().assign(host="x")
    frame.loc[59, name] = word
    changes = {"device": {"column": "host"}}
    (finding,) = odd(frame, **changes)
    assert (finding.rows, finding.action, finding.examples) == (1, "kept", (61,))
    assert finding.what.startswith(f"rows labelled {word!r} in {name!r}: a footer? drop them")
    assert not odd(frame, rows={"drop": [f"{name} == {word}"]}, **changes)


def test_a_footer_of_each_network_and_a_kind_that_is_called_sum() -> None:
    frame = kinds()
    footers = frame.drop_duplicates("net").assign(op="average")
    (finding,) = odd(pd.concat([frame, footers], ignore_index=True))
    assert (finding.rows, finding.examples) == (3, (62, 63, 64))
    assert not odd(frame.replace({"op": {"Conv": "sum"}}))
    assert not odd(frame.assign(net="all"))
