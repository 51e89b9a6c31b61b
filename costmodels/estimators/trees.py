"""Boosted trees to and from bytes in an open standard.

Trees are kept as ONNX, not as skops: ONNX is a published format whose ``TreeEnsemble`` operator
(``ai.onnx.ml`` 5) holds thresholds and leaves in float64 and can be run by others, while skops
rebuilds scikit-learn's objects, whose private layout changes between releases. Reading is
parsing of protocol buffers, data alone: nothing in a file is imported, looked up or executed,
and only what `to_onnx` could have written is taken.

The older ``TreeEnsembleRegressor`` gives float32, and is deprecated.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from costmodels.estimators.boosted import Floats, Indices
from costmodels.estimators.boosted import Trees as Trees
from profiler.errors import FileFormatError, InputError

if TYPE_CHECKING:
    from onnx import AttributeProto, ModelProto

MOST_BYTES = 4 * 2**20
_DOMAIN, _OPSET, _IR = "ai.onnx.ml", 5, 10
_NAMES = "feature_names"
_BRANCH_LEQ, _SUM, _NO_TRANSFORM = 0, 1, 0


def to_onnx(trees: Trees, feature_names: Sequence[str]) -> bytes:
    """*trees* as an ONNX model of one ``TreeEnsemble`` node, float64 in and out.

    Input ``features``, shape (m, n_features); output ``sum``, shape (m, 1). The baseline is the
    first tree, a split whose two branches are the same leaf. The names are in the model's
    metadata as a JSON array.

    Raises:
        InputError: names that are not one a feature, or more than 4 MiB of trees.
    """
    content: bytes = _model(trees, list(feature_names)).SerializeToString(deterministic=True)
    if len(content) > MOST_BYTES:
        raise InputError(
            f"{len(content)} bytes of trees, at most {MOST_BYTES}: fit fewer or smaller"
        )
    return content


def trees_from_onnx(data: bytes, feature_names: Sequence[str] | None = None) -> Trees:
    """The trees of `to_onnx`'s bytes, and of no other ONNX model.

    Args:
        data: the file's content.
        feature_names: what the file must name; by default any.

    Raises:
        FileFormatError: too large, not ONNX, other operators, domains, versions or attributes,
            data outside the file, arrays that are no trees, or trees of other features.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if len(data) > MOST_BYTES:
        raise FileFormatError(f"{len(data)} bytes of trees, at most {MOST_BYTES} are read")
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError) as error:
        raise FileFormatError("the trees are not an ONNX model: fit them again") from error
    try:
        names = _names(model)
        trees = _trees(model, len(names))
        same = _model(trees, names) == model
    except (InputError, KeyError, ValueError, OverflowError, RecursionError) as error:
        raise FileFormatError(f"the ONNX model is no boosted trees: {error}") from error
    if not same:
        raise FileFormatError(
            f"the ONNX model is more than one {_DOMAIN} {_OPSET} TreeEnsemble of this project, or "
            "was edited: fit it again"
        )
    if feature_names is not None and list(feature_names) != names:
        raise FileFormatError(f"the trees are of the features {names}, not {list(feature_names)}")
    return trees


def _model(trees: Trees, names: list[str]) -> ModelProto:
    from onnx import TensorProto, helper

    if len(names) != trees.n_features or len(set(names)) != len(names):
        raise InputError(f"name each of the {trees.n_features} features once, not {names}")

    def tensor(name: str, values: NDArray[Any], kind: int) -> TensorProto:
        return helper.make_tensor(name, kind, values.shape, values.tobytes(), raw=True)

    def children(side: Indices) -> tuple[list[int], list[int]]:
        """Positions, past the baseline's, and whether each is a leaf."""
        position = np.where(side < 0, -1 - side, side) + 1
        return [0, *position.tolist()], [1, *(side < 0).astype(int).tolist()]

    left, left_leaf = children(trees.left)
    right, right_leaf = children(trees.right)
    modes = np.full(trees.feature.size + 1, _BRANCH_LEQ, dtype=np.uint8)
    splits = np.concatenate([[0.0], trees.threshold]).astype("<f8")
    weights = np.concatenate([[trees.baseline], trees.value]).astype("<f8")
    node = helper.make_node(
        "TreeEnsemble",
        ["features"],
        ["sum"],
        domain=_DOMAIN,
        n_targets=1,
        aggregate_function=_SUM,
        post_transform=_NO_TRANSFORM,
        tree_roots=[0, *(trees.roots + 1).tolist()],
        nodes_featureids=[0, *trees.feature.tolist()],
        nodes_splits=tensor("splits", splits, TensorProto.DOUBLE),
        nodes_modes=tensor("modes", modes, TensorProto.UINT8),
        nodes_truenodeids=left,
        nodes_trueleafs=left_leaf,
        nodes_falsenodeids=right,
        nodes_falseleafs=right_leaf,
        leaf_targetids=[0] * weights.size,
        leaf_weights=tensor("weights", weights, TensorProto.DOUBLE),
    )
    graph = helper.make_graph(
        [node],
        "trees",
        [helper.make_tensor_value_info("features", TensorProto.DOUBLE, [None, trees.n_features])],
        [helper.make_tensor_value_info("sum", TensorProto.DOUBLE, [None, 1])],
    )
    opset = helper.make_opsetid(_DOMAIN, _OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR)
    helper.set_model_props(model, {_NAMES: json.dumps(names)})
    return model


def _names(model: ModelProto) -> list[str]:
    stored = {entry.key: entry.value for entry in model.metadata_props}
    if len(stored.get(_NAMES, "")) > MOST_BYTES // 4:
        raise InputError("its feature names are too long")
    names = json.loads(stored.get(_NAMES, "null"))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError("it names no features")
    return names


def _trees(model: ModelProto, n_features: int) -> Trees:
    """What the node says; all that it does not look at, the caller compares afterwards."""
    if [(n.domain, n.op_type) for n in model.graph.node] != [(_DOMAIN, "TreeEnsemble")]:
        raise InputError(f"it is not one {_DOMAIN} TreeEnsemble")
    found = {attribute.name: attribute for attribute in model.graph.node[0].attribute}

    def numbers(name: str) -> Indices:
        return np.array(found[name].ints, dtype=np.int64)

    def children(side: str) -> Indices:
        position, leaf = numbers(f"nodes_{side}nodeids")[1:] - 1, numbers(f"nodes_{side}leafs")[1:]
        if position.shape != leaf.shape or (position < 0).any() or (position > MOST_BYTES).any():
            raise InputError("a child is out of range")
        return np.where(leaf != 0, -1 - position, position)

    weights = _doubles(found["leaf_weights"])
    if weights.size == 0:
        raise InputError("it has no baseline")
    return Trees(
        feature=numbers("nodes_featureids")[1:],
        threshold=_doubles(found["nodes_splits"])[1:],
        left=children("true"),
        right=children("false"),
        value=weights[1:],
        roots=numbers("tree_roots")[1:] - 1,
        baseline=float(weights[0]),
        n_features=n_features,
    )


def _doubles(attribute: AttributeProto) -> Floats:
    """The float64 that are in the file itself."""
    if attribute.t.data_location or attribute.t.external_data:
        raise InputError("its numbers are in another file")
    return np.frombuffer(attribute.t.raw_data, dtype="<f8").astype(np.float64)
