"""Selection on a device waits for it once to decide and once for what is kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from device_cases import (
    copies_to_host,
    large,
    on_device,
    same_as_host,
)
from device_cases import one_thread as one_thread
from torch.utils._python_dispatch import TorchDispatchMode

from cwmp.selectors import CostWeighted, TopK
from cwmp.selectors.device import prefix_on_device

WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "bincount", "is_nonzero")


@pytest.mark.parametrize("share", [1e-5, 0.001, 0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("p", [1, 2, 3])
def test_the_host_waits_once_to_decide_and_once_for_what_is_kept(share: float, p: int) -> None:
    costs, update = large()
    rule = on_device(TopK(costs) if p == 3 else CostWeighted(costs, p, 1 if p == 1 else 0.5))
    with copies_to_host() as copies:
        assert rule.select(update, share * costs.dense_j).entries > 0
    assert len(copies) == 2
    assert copies[1] == 3  # positions, values, sums of g^2


def test_fixed_charges_are_solved_by_the_host_over_candidates_alone() -> None:
    costs, update = large(fixed=True)
    rule = on_device(CostWeighted(costs))
    with copies_to_host() as copies:
        selection = rule.select(update, 0.02 * costs.dense_j)
    assert 1 <= selection.entries < 0.2 * 400_070
    assert copies[0] == 1  # the sample; then the candidates, until none below could matter
    assert set(copies[1:]) == {8}
    assert len(copies) <= 4
    same_as_host(CostWeighted(costs), update, 0.02 * costs.dense_j)


class _Record(TorchDispatchMode):
    """The operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


def test_no_operation_waits_for_the_device_on_its_own() -> None:
    for fixed in (False, True):
        costs, update = large(fixed)
        rule = on_device(TopK(costs))
        rule.select(update, 0.01 * costs.dense_j)
        with _Record() as record:
            rule.select(update, 0.01 * costs.dense_j)
        assert "nonzero_static" in record.names
        assert [name for name in record.names if name in WAITS] == []


def test_what_is_kept_can_stay_on_the_device() -> None:
    costs, update = large()
    rule = on_device(TopK(costs))
    expected = rule.select(update, 0.01 * costs.dense_j)
    search = rule._device_searches[torch.device("cpu")]
    layers = [update[layer.name] for layer in costs.layers]
    with copies_to_host() as copies:
        kept = prefix_on_device(search, layers, np.ones(4), 0.01 * costs.dense_j)
    assert len(copies) == 1
    assert list(kept) == [layer.name for layer in expected.layers]
    for layer in expected.layers:
        index, value = kept[layer.name]
        assert np.array_equal(index.numpy(), layer.indices)
        assert np.array_equal(value.numpy(), layer.values)
