"""The DDP hook in real training: two processes, gloo, the digits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.multiprocessing
from stand_ins.ranks import SETTINGS, WORLD, prices, run_rank

Report = dict[str, list[tuple[dict[str, Any], dict[str, np.ndarray]]]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Setting -> each rank's counts and arrays; both ranks run all settings, one after another."""
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")
        torch.multiprocessing.spawn(run_rank, (str(folder),), WORLD)
    return {name: [_read(folder / f"{name}-{rank}") for rank in range(WORLD)] for name in SETTINGS}


def _read(stem: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with np.load(f"{stem}.npz") as arrays:
        return json.loads(Path(f"{stem}.json").read_text()), dict(arrays)


def _weights(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array for name, array in arrays.items() if name.startswith("weight ")}


def _same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[n], other[n]) for n in one)


def test_training_on_a_sixth_of_the_joules_reaches_the_dense_loss(runs: Report) -> None:
    (dense, _), (budget, _) = runs["dense"][0], runs["budget"][0]
    assert dense["loss"] < 0.1
    assert budget["loss"] < dense["loss"] + 0.03


@pytest.mark.parametrize("name", [n for n in SETTINGS if n not in ("NaN", "nothing opens")])
def test_ranks_hold_the_same_bits(runs: Report, name: str) -> None:
    (_, one), (_, other) = runs[name]
    assert len(_weights(one)) == 6
    assert _same(_weights(one), _weights(other))


def test_joules_and_bytes_are_counted(runs: Report) -> None:
    costs = prices(message_j=1e-6)
    for counts, _ in runs["budget"]:
        assert counts["rounds"] == 110
        assert 0.9 < counts["energy_j"] / (110 * 0.15 * costs.dense_j) <= 1 + 1e-9
        whole = 4 * sum(layer.parameters for layer in costs.layers)
        assert 24 * 110 < counts["bytes_sent"] < 0.5 * 110 * whole


@pytest.mark.parametrize("name", ["budget", "buckets"])
def test_nothing_is_lost_between_the_ranks(runs: Report, name: str) -> None:
    """Sum of gradients = world size x sum of means + what waits, over both ranks."""
    ranks = [arrays for _, arrays in runs[name]]
    for layer in prices().layers:
        local = sum(arrays[f"local {layer.name}"] for arrays in ranks)
        waiting = sum(arrays[f"residual {layer.name}"].astype(np.float64) for arrays in ranks)
        mean = ranks[0][f"mean {layer.name}"]
        assert np.abs(local).max() > 0
        assert np.abs(local - WORLD * mean - waiting).max() < 1e-5


def test_residuals_outlive_the_regrouping_of_buckets(runs: Report) -> None:
    for counts, _ in runs["buckets"]:
        groups = [set(group) for group in counts["groups"]]
        assert len(groups) > 2
        assert sum(len(group) for group in groups) > len(prices().layers)
        assert counts["energy_j"] <= 6 * 0.2 * prices().dense_j
        assert counts["norm"] > 0


def test_dense_rounds_come_first_where_wanted(runs: Report) -> None:
    for (late, arrays), (_, dense) in zip(runs["late start"], runs["dense, short"], strict=True):
        assert _same(_weights(arrays), _weights(dense))
        assert late["norm"] == 0
        assert late["energy_j"] == pytest.approx(5 * prices().dense_j)
        assert late["bytes_sent"] == 5 * 4 * sum(layer.parameters for layer in prices().layers)


def test_a_shorter_value_type_sends_less_and_what_it_loses_waits(runs: Report) -> None:
    for (short, arrays), (full, _) in zip(runs["float16"], runs["float32"], strict=True):
        assert short["bytes_sent"] < full["bytes_sent"]
        rests = [e for name, e in arrays.items() if name.startswith("residual ")]
        assert all(e.any() for e in rests)


def test_training_goes_on_from_a_checkpoint_as_if_nothing_had_been(runs: Report) -> None:
    for (resumed, one), (full, other) in zip(runs["resumed"], runs["float32"], strict=True):
        assert _same(_weights(one), _weights(other))
        for key in ("rounds", "bytes_sent", "energy_j", "norm"):
            assert resumed[key] == full[key]


def test_nan_on_one_rank_is_one_error_on_all(runs: Report) -> None:
    said = {counts["error"] for counts, _ in runs["NaN"]}
    assert len(said) == 1
    (text,) = said
    assert text.startswith("UpdateError: rank 1 cannot send its gradients of bucket 0: layer ")
    assert "NaN" in text and "\n" not in text


def test_a_budget_that_opens_no_layer_of_a_bucket_is_one_error_on_all(runs: Report) -> None:
    said = {counts["error"] for counts, _ in runs["nothing opens"]}
    assert len(said) == 1
    assert said.pop().startswith("BudgetError: rank 0 cannot send its gradients of bucket")
