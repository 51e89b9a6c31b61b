"""Mixes of devices and merges of files, against sums done the slow way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_ins.cost_files import cost_file, estimate

from costmodels.composition.bounds import weighted_sum
from costmodels.composition.merging import merge
from costmodels.composition.mixing import mix
from costmodels.costfile import CostFile, OperationCost, Piece
from profiler.errors import InputError, LayerMismatchError
from profiler.layers import LayerInfo

GOLDEN = CostFile.load(Path(__file__).resolve().parents[1] / "golden" / "costs-v1.json")
LAYERS = [
    LayerInfo("a", "linear.weight", (32, 64), "float32"),
    LayerInfo("b", "linear.bias", (32,), "float32"),
]
PHONE = cost_file(LAYERS, origin="measured")
BOARD = cost_file(LAYERS, entry_j=lambda n: 1e-7 * (n + 1), fixed_j=None, byte_j=5e-8)
shares = st.floats(1e-3, 1e3)


def _with(costs: CostFile, **changes: object) -> CostFile:
    return CostFile.model_validate({**dict(costs), **changes})


def _pieces(costs: CostFile, *pieces: Piece) -> CostFile:
    """*costs* with these pieces as layer a's update."""
    first = costs.layers[0]
    update = OperationCost.model_validate({**dict(first.operations[0]), "pieces": pieces})
    layer = first.model_copy(update={"operations": (update, *first.operations[1:])})
    return _with(costs, layers=(layer, *costs.layers[1:]))


def _piece(from_k: int, a: float | None, c: float) -> Piece:
    return Piece(from_k=from_k, a_j=None if a is None else estimate(a), c_j=estimate(c))


def _operations(costs: CostFile) -> list[tuple[str, OperationCost]]:
    found = [(x.name, op) for group in (costs.layers, costs.modules) for x in group
             for op in x.operations]  # fmt: skip
    return [*found, *(("message", op) for op in costs.message)]


def _close(one: OperationCost, two: OperationCost) -> None:
    for new, old in zip(one.pieces, two.pieces, strict=True):
        assert new.from_k == old.from_k
        for a, b in ((new.a_j, old.a_j), (new.c_j, old.c_j)):
            assert (a is None) == (b is None)
            if a is not None and b is not None:
                assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high))
                assert a.below_detection == b.below_detection
                assert a.upper_limit == (b.upper_limit and pytest.approx(b.upper_limit))


@given(st.lists(shares, min_size=1, max_size=4))
def test_a_mix_of_one_file_is_the_file(weights: list[float]) -> None:
    mixed = mix([(GOLDEN, weight) for weight in weights])
    pairs = zip(_operations(mixed), _operations(GOLDEN), strict=True)
    for (name, new), (old_name, old) in pairs:
        assert (name, new.operation, new.pattern) == (old_name, old.operation, old.pattern)
        assert (new.k_min, new.k_max, new.origin) == (old.k_min, old.k_max, old.origin)
        _close(new, old)
    assert mixed.origin == GOLDEN.origin


@given(shares, shares, st.integers(1, 2048))
def test_a_mix_is_the_weighted_mean(one: float, two: float, k: int) -> None:
    mixed = mix([(PHONE, one), (BOARD, two)])
    for (_, new), (_, a), (_, b) in zip(
        _operations(mixed), _operations(PHONE), _operations(BOARD), strict=True
    ):
        expected_j = (one * float(a.energy_j(k)) + two * float(b.energy_j(k))) / (one + two)
        assert float(new.energy_j(k)) == pytest.approx(expected_j, rel=1e-9)


@given(shares, st.lists(st.integers(2, 2000), min_size=1, max_size=4, unique=True))
def test_break_points_of_each_device_are_kept_exactly(share: float, breaks: list[int]) -> None:
    split = len(breaks) // 2
    files = [
        _pieces(PHONE, _piece(1, 1e-6, 1e-9), *(_piece(k, 2e-6, 2e-9) for k in sorted(part)[:1]))
        for part in (breaks[:split], breaks[split:])
    ]
    mixed = mix([(files[0], share), (files[1], 1.0)]).layers[0].operations[0]
    k = np.arange(1, 2049)
    parts = [file.layers[0].operations[0].energy_j(k) for file in files]
    expected_j = (share * parts[0] + parts[1]) / (share + 1.0)
    np.testing.assert_allclose(mixed.energy_j(k), expected_j, rtol=1e-12)


def test_limits_are_averaged_and_a_missing_fixed_cost_adds_nothing() -> None:
    mixed = mix([(PHONE, 3.0), (BOARD, 1.0)]).layers[0].operations[0].pieces[0]
    old = PHONE.layers[0].operations[0].pieces[0]
    assert mixed.a_j is not None and old.a_j is not None
    assert mixed.a_j.high == pytest.approx(0.75 * old.a_j.high)
    assert mixed.c_j.low == pytest.approx(0.75 * old.c_j.low + 0.25 * 0.9 * 1e-7)


def test_a_mix_has_the_weakest_origin_and_says_what_it_is() -> None:
    mixed = mix([(PHONE, 1), (_with(BOARD, device="board", origin="assumed"), 3)])
    assert mixed.origin == "assumed"
    assert mixed.device == "mix of 0.25 made-up device, 0.75 board"
    assert [part["weight"] for part in mixed.provenance["mix"]] == [0.25, 0.75]


def test_below_detection_stays_only_where_all_of_it_is() -> None:
    below = estimate(1.0).model_copy(update={"below_detection": True, "upper_limit": 5.0})
    both, one = (
        weighted_sum([(0.5, below), (0.5, below)]),
        weighted_sum([(1, below), (1, estimate(1.0))]),
    )
    assert both is not None and one is not None
    assert (both.below_detection, both.upper_limit) == (True, 5.0)
    assert (one.below_detection, one.upper_limit) == (False, None)
    assert weighted_sum([(1.0, None)]) is None


def test_what_not_every_device_has_is_left_out_and_said() -> None:
    bare = cost_file(LAYERS, train=False, messages=("send",))
    mixed = mix([(PHONE, 1), (bare, 1)])
    assert mixed.modules == ()
    assert [cost.operation for cost in mixed.message] == ["send"]
    said = " ".join(mixed.assumptions)
    assert "not every device has it: module *" in said
    assert "encode random of message" in said


@pytest.mark.parametrize("share", [0.0, -1.0, float("nan"), float("inf")])
def test_a_share_that_is_not_positive_is_refused(share: float) -> None:
    with pytest.raises(InputError, match="must be positive"):
        mix([(PHONE, share)])


def test_other_layers_or_units_are_not_mixed() -> None:
    with pytest.raises(LayerMismatchError, match="no costs of layer 'b'"):
        mix([(PHONE, 1), (cost_file(LAYERS[:1]), 1)])
    with pytest.raises(LayerMismatchError, match="'a' has another shape"):
        mix([(PHONE, 1), (cost_file([LayerInfo("a", "x", (2,), "float32"), LAYERS[1]]), 1)])
    encode = PHONE.message[0].model_copy(update={"unit": "byte"})
    with pytest.raises(InputError, match=r"encode of message is by the entry.* by the byte"):
        mix([(PHONE, 1), (_with(PHONE, message=(encode, *PHONE.message[1:])), 1)])
    with pytest.raises(InputError, match="no cost files"):
        mix([])


def test_a_merge_of_disjoint_files_holds_all_of_both() -> None:
    layers = _with(PHONE, layers=PHONE.layers[:1], message=(), modules=())
    rest = _with(PHONE, layers=PHONE.layers[1:])
    whole = merge([layers, rest])
    assert whole.layers == PHONE.layers
    assert whole.message == PHONE.message
    assert whole.modules == PHONE.modules


def test_a_merge_joins_operations_of_one_layer() -> None:
    parts = [
        _with(
            PHONE,
            message=PHONE.message if pick == 0 else (),
            layers=tuple(
                layer.model_copy(update={"operations": (layer.operations[pick],)})
                for layer in PHONE.layers
            ),
        )
        for pick in (0, 1)
    ]
    assert merge(parts).layers == PHONE.layers


def test_a_merge_of_a_file_with_itself_is_the_file() -> None:
    for again in (merge([GOLDEN]), merge([GOLDEN, GOLDEN])):
        for name in ("layers", "modules", "message", "assumptions", "origin", "device", "meter"):
            assert getattr(again, name) == getattr(GOLDEN, name)


def test_conflicts_are_refused_and_named() -> None:
    other = cost_file(LAYERS, entry_j=lambda n: 9e-9, origin="measured")
    with pytest.raises(InputError, match="update, random of layer 'a' has two prices"):
        merge([PHONE, other])
    with pytest.raises(InputError, match="send, random of messages has two prices"):
        merge([PHONE, cost_file(LAYERS, byte_j=2e-9, origin="measured")])
    with pytest.raises(LayerMismatchError, match="'b' has another kind"):
        merge(
            [
                PHONE,
                cost_file([LAYERS[0], LayerInfo("b", "x", (32,), "float32")], origin="measured"),
            ]
        )
    with pytest.raises(InputError, match="'cwmp costs mix'"):
        merge([PHONE, _with(PHONE, device="board")])
    with pytest.raises(InputError, match="not merged"):
        merge([PHONE, _with(PHONE, model="other")])
    with pytest.raises(InputError, match="torch 1 and under 2"):
        merge([_with(PHONE, software={"torch": "1"}), _with(PHONE, software={"torch": "2"})])
    with pytest.raises(InputError, match="no cost files"):
        merge([])
