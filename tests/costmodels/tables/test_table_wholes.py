"""Whole models in a table: set aside, and held against the sums of their layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from costmodels.tablefit import fit_samples
from costmodels.tables import TableSpec, samples_of
from profiler.errors import InputError

OVERHEAD_J, PRICE_J = 0.02, 1e-9
NETWORKS = 12


def _table(seed: int = 0) -> pd.DataFrame:
    """Networks of 3 to 14 layers; a whole costs its layers and an overhead for each of them."""
    generator = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for number in range(NETWORKS):
        macs = generator.uniform(1e7, 1e9, 3 + number)
        joules = PRICE_J * macs * generator.normal(1, 0.01, macs.size)
        rows += [
            {"net": f"net{number}", "layer": f"l{i}", "macs": m, "j": j}
            for i, (m, j) in enumerate(zip(macs, joules, strict=True))
        ]
        whole_j = joules.sum() + OVERHEAD_J * macs.size
        rows.append({"net": f"net{number}", "layer": "total", "macs": np.nan, "j": whole_j})
    return pd.DataFrame(rows)


def _spec(**changes: object) -> TableSpec:
    return TableSpec.from_dict(
        {
            "version": 1,
            "energy": {"column": "j", "unit": "J"},
            "features": {"macs": {"unit": "J/MAC"}},
            "groupings": {"network": "net"},
            "whole": {"rows": ["layer == total"], "of": "net"},
            **changes,
        }
    )


def test_wholes_are_not_fitted_to_and_counted() -> None:
    frame = _table()
    samples = samples_of(frame, _spec())
    assert len(samples) == int((frame.layer != "total").sum())
    assert samples.wholes is not None
    assert sorted(samples.wholes.name) == sorted(f"net{n}" for n in range(NETWORKS))
    assert any("set aside" in str(f) and f.rows == NETWORKS for f in samples.findings)
    of_layers = dict(zip(samples.wholes.name, samples.wholes.energy_j, strict=True))
    wholes = frame[frame.layer == "total"].set_index("net").j
    assert of_layers == pytest.approx(wholes.to_dict())


def test_overhead_of_a_layer_is_found_and_wholes_follow() -> None:
    model = fit_samples(samples_of(_table(), _spec()))
    assert model.additivity is not None
    terms = {term.name: term for term in model.additivity.terms}
    assert terms["count"].low <= OVERHEAD_J <= terms["count"].high
    assert terms["layers"].low <= 1 <= terms["layers"].high
    assert model.additivity.scores.median_ape.value == pytest.approx(0, abs=0.02)
    plain = model.additivity.unscaled.bias.value
    assert plain is not None and plain < -0.02  # the sum alone lacks the overhead


def test_whole_that_lost_a_layer_is_left_untested() -> None:
    frame = _table()
    frame.loc[frame.index[(frame.net == "net3") & (frame.layer == "l1")], "j"] = 0.0
    samples = samples_of(frame, _spec())
    assert samples.wholes is not None and "net3" not in samples.wholes.name
    assert any("net3" in str(f) and f.action == "left untested" for f in samples.findings)


def test_same_layer_twice_in_a_model_counts_twice() -> None:
    frame = _table()
    frame = pd.concat([frame, frame[(frame.net == "net0") & (frame.layer == "l0")]])
    assert len(samples_of(frame, _spec())) == int((frame.layer != "total").sum())
    assert len(samples_of(frame, _spec(rows={"duplicates": "drop"}))) == len(_table()) - NETWORKS


@pytest.mark.parametrize("networks", [1, 2])
def test_too_few_wholes_are_not_tested(networks: int) -> None:
    frame = _table()
    keep = frame.net.isin([f"net{n}" for n in range(networks)]) | (frame.layer != "total")
    assert fit_samples(samples_of(frame[keep], _spec())).additivity is None


def test_wrong_condition_is_refused() -> None:
    with pytest.raises(InputError, match="no row is of a whole model"):
        samples_of(_table(), _spec(whole={"rows": ["layer == whole"], "of": "net"}))
    with pytest.raises(InputError, match="network"):
        samples_of(_table(), _spec(whole={"rows": ["layer == total"], "of": "network"}))
