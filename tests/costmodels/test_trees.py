"""Boosted trees: the same numbers as scikit-learn and ONNX, and a reader that takes only trees."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from costmodels.estimators.trees import MOST_BYTES, Trees, to_onnx, trees_from_onnx
from profiler.errors import FileFormatError, InputError

NAMES = ["macs", "bytes", "calls"]


def boosted(seed: int = 0, rows: int = 300, **options: object) -> HistGradientBoostingRegressor:
    generator = np.random.default_rng(seed)
    X = 10.0 ** generator.uniform(0, 9, (rows, 3))
    y = np.log(X[:, 0]) + np.sin(np.log(X[:, 1])) + generator.normal(0, 0.1, rows)
    settings = {"max_iter": 20, "max_leaf_nodes": 8, "random_state": 0, **options}
    return HistGradientBoostingRegressor(**settings).fit(X, y)


@pytest.fixture(scope="module")
def content() -> bytes:
    return to_onnx(Trees.of(boosted(max_iter=4)), NAMES)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 400),
    depth=st.one_of(st.none(), st.integers(1, 5)),
    loss=st.sampled_from(["squared_error", "absolute_error"]),
)
def test_predicts_bit_for_bit_what_scikit_learn_does(
    seed: int, rows: int, depth: int | None, loss: str
) -> None:
    estimator = boosted(seed, rows, max_depth=depth, min_samples_leaf=3, loss=loss)
    trees = Trees.of(estimator)
    again = trees_from_onnx(to_onnx(trees, NAMES), NAMES)
    X = 10.0 ** np.random.default_rng(seed + 1).uniform(-1, 10, (100, 3))
    # on the very thresholds, where rounding to float32 would turn left into right
    for column in range(3):
        at = trees.threshold[trees.feature == column][:50]
        X[: at.size, column] = at
    expected = estimator.predict(X)
    np.testing.assert_array_equal(trees.predict(X), expected)
    np.testing.assert_array_equal(again.predict(X), expected)


def test_many_rows_are_predicted_in_parts() -> None:
    estimator = boosted(max_iter=3)
    X = 10.0 ** np.random.default_rng(5).uniform(0, 9, (70_000, 3))
    trees = Trees.of(estimator)
    np.testing.assert_array_equal(trees.predict(X), estimator.predict(X))
    assert trees.predict(X[:0]).shape == (0,)


def test_another_implementation_of_onnx_agrees() -> None:
    estimator = boosted(3)
    content = to_onnx(Trees.of(estimator), NAMES)
    model = onnx.load_model_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    X = 10.0 ** np.random.default_rng(4).uniform(0, 9, (60, 3))
    (found,) = ReferenceEvaluator(model).run(None, {"features": X})
    np.testing.assert_allclose(found[:, 0], estimator.predict(X), rtol=1e-13)


def test_a_monotone_constraint_survives_the_file() -> None:
    estimator = boosted(6, monotonic_cst=[1, 0, -1], max_iter=60)
    trees = trees_from_onnx(to_onnx(Trees.of(estimator), NAMES))
    generator = np.random.default_rng(7)
    base = np.repeat(10.0 ** generator.uniform(0, 9, (20, 1, 3)), 50, axis=1)
    for column, sign in ((0, 1), (2, -1)):
        X = base.copy()
        X[:, :, column] = np.geomspace(1, 1e9, 50)
        steps = np.diff(trees.predict(X.reshape(-1, 3)).reshape(20, 50), axis=1)
        assert (sign * steps >= 0).all()
        assert (steps != 0).any() or column == 2


def test_trees_without_a_split_and_no_trees_at_all() -> None:
    flat = boosted(rows=5)  # too few rows for a split: every tree is one leaf
    trees = trees_from_onnx(to_onnx(Trees.of(flat), NAMES))
    X = np.ones((4, 3))
    np.testing.assert_array_equal(trees.predict(X), flat.predict(X))
    model = onnx.load_model_from_string(to_onnx(trees, NAMES))
    (found,) = ReferenceEvaluator(model).run(None, {"features": X})
    np.testing.assert_allclose(found[:, 0], flat.predict(X))
    none = np.zeros(0, dtype=np.int64)
    empty = Trees(none, np.zeros(0), none, none, np.zeros(0), none, 2.5, 3)
    again = trees_from_onnx(to_onnx(empty, NAMES))
    assert again.predict(X).tolist() == [2.5] * 4


def test_the_same_trees_are_the_same_bytes(content: bytes) -> None:
    assert to_onnx(trees_from_onnx(content), NAMES) == content


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_missing_and_infinite_features_are_refused(content: bytes, value: float) -> None:
    X = np.ones((2, 3))
    X[1, 1] = value
    with pytest.raises(InputError, match="NaN or infinite"):
        trees_from_onnx(content).predict(X)
    with pytest.raises(InputError, match="take 3 columns"):
        trees_from_onnx(content).predict(np.ones((2, 4)))


def test_other_estimators_and_other_trees_are_refused() -> None:
    X = np.random.default_rng(0).uniform(size=(80, 2))
    y = X[:, 0] + 1.0
    with pytest.raises(InputError, match="HistGradientBoostingClassifier is not"):
        Trees.of(HistGradientBoostingClassifier().fit(X, y > 1.5))
    with pytest.raises(InputError, match="loss 'gamma'"):
        Trees.of(HistGradientBoostingRegressor(loss="gamma").fit(X, y))
    coded = np.column_stack([X[:, 0], np.arange(80) % 4])
    with pytest.raises(InputError, match="categorical"):
        Trees.of(HistGradientBoostingRegressor(categorical_features=[1]).fit(coded, y))
    holes = X.copy()
    holes[:40, 0] = np.nan  # a split between missing and not is at infinity
    with pytest.raises(InputError, match="not finite"):
        Trees.of(HistGradientBoostingRegressor(max_iter=1).fit(holes, np.arange(80) >= 40))


def test_names_are_one_a_feature() -> None:
    trees = Trees.of(boosted(max_iter=1))
    for names in (["a", "b"], ["a", "a", "b"]):
        with pytest.raises(InputError, match="name each of the 3 features once"):
            to_onnx(trees, names)


@pytest.mark.parametrize(
    ("field", "at", "value", "message"),
    [
        ("left", 0, 0, "missing, shared or out of range"),  # a cycle
        ("left", 0, 10**6, "missing, shared or out of range"),
        ("right", 0, -(10**6), "missing, shared or out of range"),
        ("threshold", 0, np.nan, "not finite"),
        ("value", 0, np.inf, "not finite"),
        ("feature", 0, 3, "beyond the 3 features"),
        ("feature", 0, -1, "beyond the 3 features"),
        ("roots", 0, 1, "roots"),
        ("roots", 1, 10**6, "roots"),
    ],
)
def test_arrays_that_are_no_trees_are_refused(
    field: str, at: int, value: float, message: str
) -> None:
    trees = Trees.of(boosted(max_iter=2))
    array = getattr(trees, field).copy()
    array[at] = value
    with pytest.raises(InputError, match=message):
        dataclasses.replace(trees, **{field: array})
    with pytest.raises(InputError, match="not one number a split"):
        dataclasses.replace(trees, left=trees.left[:-1])


def test_two_splits_that_are_each_others_children_are_refused() -> None:
    two = np.array([0, 0, 0])
    with pytest.raises(InputError, match="before its parent"):
        Trees(
            two, np.zeros(3), np.array([-1, 2, 1]), np.array([-2, -3, -4]), np.ones(4),
            np.array([0]), 0.0, 1,
        )  # fmt: skip


def test_a_chain_deeper_than_any_fit_is_refused() -> None:
    n = 1000
    left = np.append(np.arange(1, n), -n - 1)
    with pytest.raises(InputError, match="deeper than 64"):
        Trees(
            np.zeros(n, dtype=np.int64), np.zeros(n), left, -1 - np.arange(n), np.ones(n + 1),
            np.array([0]), 0.0, 1,
        )  # fmt: skip


def attribute(model: onnx.ModelProto, name: str) -> onnx.AttributeProto:
    return next(a for a in model.graph.node[0].attribute if a.name == name)


def external(model: onnx.ModelProto) -> None:
    tensor = attribute(model, "leaf_weights").t
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secrets")


def other_type(model: onnx.ModelProto) -> None:
    attribute(model, "nodes_splits").t.data_type = TensorProto.FLOAT


CHANGES: dict[str, Callable[[onnx.ModelProto], object]] = {
    "another operator": lambda m: setattr(m.graph.node[0], "op_type", "Loop"),
    "another domain": lambda m: setattr(m.graph.node[0], "domain", "com.example"),
    "two nodes": lambda m: m.graph.node.append(helper.make_node("Abs", ["sum"], ["y"])),
    "no node": lambda m: m.graph.ClearField("node"),
    "another opset": lambda m: setattr(m.opset_import[0], "version", 3),
    "one more opset": lambda m: m.opset_import.append(helper.make_opsetid("com.example", 1)),
    "an initializer": lambda m: m.graph.initializer.append(
        helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    ),
    "a function": lambda m: m.functions.add(name="f", domain="d"),
    "one more attribute": lambda m: m.graph.node[0].attribute.append(
        helper.make_attribute("nodes_missing_value_tracks_true", [1])
    ),
    "an attribute twice": lambda m: m.graph.node[0].attribute.append(attribute(m, "n_targets")),
    "no attribute": lambda m: m.graph.node[0].ClearField("attribute"),
    "another comparison": lambda m: setattr(attribute(m, "nodes_modes").t, "raw_data", b"\1" * 99),
    "an average": lambda m: setattr(attribute(m, "aggregate_function"), "i", 0),
    "a cycle": lambda m: attribute(m, "nodes_truenodeids").ints.__setitem__(1, 1),
    "a child far out": lambda m: attribute(m, "nodes_truenodeids").ints.__setitem__(1, 2**62),
    "a child below": lambda m: attribute(m, "nodes_truenodeids").ints.__setitem__(1, -(2**62)),
    "a baseline with branches": lambda m: attribute(m, "nodes_truenodeids").ints.__setitem__(0, 1),
    "numbers in another file": external,
    "float32": other_type,
    "a wrong shape": lambda m: attribute(m, "leaf_weights").t.dims.__setitem__(0, 2**60),
    "an odd number of bytes": lambda m: setattr(attribute(m, "leaf_weights").t, "raw_data", b"1"),
    "names of other features": lambda m: setattr(m.metadata_props[0], "value", '["a", "b"]'),
    "names that are no list": lambda m: setattr(m.metadata_props[0], "value", '{"a": 1}'),
    "deeply nested names": lambda m: setattr(m.metadata_props[0], "value", "[" * 100_000),
    "no names": lambda m: m.ClearField("metadata_props"),
    "another input": lambda m: setattr(m.graph.input[0], "name", "x"),
    "a note": lambda m: setattr(m, "doc_string", "hello"),
}


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_a_model_of_anything_else_is_refused(content: bytes, name: str) -> None:
    model = onnx.load_model_from_string(content)
    CHANGES[name](model)
    with pytest.raises(FileFormatError):
        trees_from_onnx(model.SerializeToString())


def test_trees_of_other_features_and_large_files_are_refused(content: bytes) -> None:
    with pytest.raises(FileFormatError, match="are of the features"):
        trees_from_onnx(content, ["macs", "bytes", "lines"])
    with pytest.raises(FileFormatError, match="bytes of trees, at most"):
        trees_from_onnx(b"\0" * (MOST_BYTES + 1))
    for nothing in (b"", b"\0", b"{}", content[: len(content) // 2]):
        with pytest.raises(FileFormatError):
            trees_from_onnx(nothing)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_damaged_bytes_are_trees_or_one_clear_error(content: bytes, data: st.DataObject) -> None:
    raw = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        how = data.draw(st.sampled_from(["set", "cut", "insert", "double"]))
        if how == "set":
            raw[at] = data.draw(st.integers(0, 255))
        elif how == "cut":
            del raw[at : at + data.draw(st.integers(1, 9))]
        elif how == "insert":
            raw[at:at] = data.draw(st.binary(min_size=1, max_size=9))
        else:
            raw[at:at] = raw[at : at + 40]
        if not raw:
            break
    try:
        trees = trees_from_onnx(bytes(raw))
    except FileFormatError as error:
        assert "\n" not in str(error)
    else:  # another number, but still trees
        assert np.isfinite(trees.predict(np.ones((3, trees.n_features)))).all()


def test_onnx_is_imported_only_where_it_is_used() -> None:
    code = (
        "import sys, costmodels.estimators.trees; "
        "sys.exit('onnx' in sys.modules or 'sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
