"""Costs for a study's devices: read, made from a trace, or constructed with a stated spread.

Constructed costs keep what a source says of training, selecting, encoding and receiving, and
change what sending and adding an entry costs. Flat costs are equal by `LayerPrice.marginal_j`, the
score's c; what the message's format adds is still charged (a header a layer, index bits by density,
the whole layer where that is less), so that CWMP need not equal Top-K as it must by `uniform`.
With m the joules an entry, its bytes included, as a geometric mean over entries, the layer that is
number i = 0..L-1 from the cheapest in the source gets::

    m_i = m r^( i / (L-1) - 1/2 )

so that the dearest costs r times the cheapest; ``flat`` is r = 1. (Raising the source's costs to a
power would blow up the noise of costs that are nearly equal.) How far costs are spread over
*entries*, `spread_of`, follows from the sizes of the layers. A message has no fixed cost, so that
small budgets can be spent; layers keep theirs only where that is asked for. All of it is
``assumed``, and says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from costmodels.composition.compose import with_link
from costmodels.composition.link_table import find_link
from costmodels.costfile import CostFile, Estimate, LayerCost, OperationCost, Piece
from cwmp.selectors.costs import SelectionCosts
from cwmp.studies.spec_parts import Constructed, CostSource
from profiler.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from profiler.workloads import Cell

_SENT_BYTES = 5
"""What an entry takes near a density of 1 %: its value and an index, as `LayerPrice` counts."""
_BYTES_AT_MOST = 0.5
"""Share of the cheapest entry that its bytes may cost where costs are constructed."""
_SUFFIX = ".json"


def read_source(
    source: CostSource,
    folder: Path,
    model: str,
    data: str,
    read: dict[Path, CostFile] | None = None,
) -> CostFile:
    """The cost file that *source* describes, for *model* on *data*.

    A trace of this very model is read straight; one of another model is fitted, and the costs
    are predicted (``modelled``).

    Args:
        source: paths in it are relative to *folder*.
        read: files that were read for the same *model* and *data* already; this one is added.

    Raises:
        InputFileError, FileFormatError: a file that cannot be read.
    """
    path, known = folder / source.path, {} if read is None else read
    if path not in known:  # fitting a trace takes seconds
        is_file = path.suffix == _SUFFIX
        known[path] = CostFile.load(path) if is_file else _from_trace(path, model, data)
    costs = known[path]
    if source.constructed is not None:
        costs = construct(costs, source.constructed)
    if source.uplink is None:
        return costs
    # here as well as in the fleet, so that controls are made from what is really paid
    return with_link(costs, find_link(source.uplink), rate_bps=source.uplink_bps)


def construct(costs: CostFile, how: Constructed) -> CostFile:
    """*costs* with the stated spread; the order of the layers by cost is the source's."""
    prices = SelectionCosts.from_cost_file(costs)
    marginal_j = np.array([layer.marginal_j for layer in prices.layers])
    entries = np.array([layer.parameters for layer in prices.layers], dtype=np.float64)
    mean, _ = _moments(np.log(marginal_j), entries)
    ratio, text = 1.0, "flat, an entry costs the same in every layer"
    if how.spread != "flat":
        ratio = float(how.spread)
        text = f"an entry of the dearest layer costing {ratio:g} times one of the cheapest"
    rank = np.argsort(np.argsort(marginal_j, kind="stable"), kind="stable")
    wanted_j = np.exp(mean) * ratio ** (rank / max(len(rank) - 1, 1) - 0.5)
    byte_j = min(prices.layers[0].byte_j, _BYTES_AT_MOST * float(wanted_j.min()) / _SENT_BYTES)
    dense_ratio = 1.0 if how.whole == "entries" else _dense_ratio(prices)
    layers = tuple(
        _priced(
            layer,
            float(wanted) - _SENT_BYTES * byte_j,
            dense_ratio,
            layer.fixed_j if how.fixed == "kept" else None,
        )
        for layer, wanted in zip(_views(costs), wanted_j, strict=True)
    )
    kept = "kept" if how.fixed == "kept" else "left out"
    said = (
        f"constructed, not measured: costs of {costs.device} changed to {text}; fixed costs of "
        f"layers {kept}, of messages left out"
    )
    if how.whole == "entries":
        said += "; a layer added whole costs what its entries cost one by one"
    return _assumed(costs, layers, byte_j, said)


def spread_of(costs: CostFile | SelectionCosts) -> float:
    """r = exp(2 sd of ln c) over entries, c the joules an entry with its bytes."""
    prices = costs if isinstance(costs, SelectionCosts) else SelectionCosts.from_cost_file(costs)
    logs = np.log([layer.marginal_j for layer in prices.layers])
    entries = np.array([layer.parameters for layer in prices.layers], dtype=np.float64)
    return float(np.exp(2 * _moments(logs, entries)[1]))


def uniform(costs: CostFile) -> CostFile:
    """Every entry at one cost and nothing else: where CWMP must be Top-K.

    The dense cost stays; bytes cost so little that they vanish in a double beside an entry.
    """
    prices = SelectionCosts.from_cost_file(costs)
    entry_j = prices.dense_j / sum(layer.parameters for layer in prices.layers)
    layers = tuple(_priced(layer, entry_j, 1.0, None) for layer in _views(costs))
    return _assumed(costs, layers, 1e-30, "control: all entries at one cost, bytes free")


def shuffled(costs: CostFile, seed: int) -> CostFile:
    """Update costs dealt to other layers, and scaled so that the dense cost stays.

    Raises:
        InputError: there is one layer.
    """
    if len(costs.layers) < 2:
        raise InputError("costs of a single layer cannot be shuffled")
    order = np.random.default_rng([seed, _STREAM]).permutation(len(costs.layers))
    if (order == np.arange(len(order))).all():
        order = np.roll(order, 1)
    true_j = sum(_dense_j(layer, layer.parameters) for layer in costs.layers)
    dealt = [costs.layers[int(place)] for place in order]
    dealt_j = sum(
        _dense_j(donor, layer.parameters) for layer, donor in zip(costs.layers, dealt, strict=True)
    )
    layers = tuple(
        layer.model_copy(
            update={"operations": tuple(scaled(op, true_j / dealt_j) for op in donor.operations)}
        )
        for layer, donor in zip(costs.layers, dealt, strict=True)
    )
    said = f"control: update costs shuffled over layers with seed {seed}, dense cost kept"
    return costs.model_copy(
        update={"layers": layers, "origin": "assumed", "basis": said, "provenance": {}}
    )


def as_dear_as(costs: CostFile, other: CostFile) -> CostFile:
    """*costs* scaled as a whole, so that its dense cost is that of *other*.

    Selecting by it on the device of *other* shares out the same joules by other proportions.
    """
    dense_j = [SelectionCosts.from_cost_file(file).dense_j for file in (costs, other)]
    factor = dense_j[1] / dense_j[0]
    layers = tuple(
        layer.model_copy(
            update={"operations": tuple(scaled(op, factor) for op in layer.operations)}
        )
        for layer in costs.layers
    )
    said = f"control: costs of {costs.device}, scaled to the dense cost of {other.device}"
    return costs.model_copy(
        update={
            "layers": layers,
            "message": tuple(scaled(op, factor) for op in costs.message),
            "origin": "assumed",
            "basis": said,
        }
    )


def scaled(cost: OperationCost, factor: float) -> OperationCost:
    """The same operation at *factor* times the joules, intervals with them."""
    pieces = tuple(
        Piece(
            from_k=piece.from_k,
            a_j=None if piece.a_j is None else _times(piece.a_j, factor),
            c_j=_times(piece.c_j, factor),
        )
        for piece in cost.pieces
    )
    return cost.model_copy(update={"pieces": pieces, "origin": "assumed"})


_STREAM = 0x5A17


class _View:
    """A layer of a cost file with what constructing needs of it."""

    def __init__(self, layer: LayerCost) -> None:
        self.layer = layer
        sparse, dense = layer.find("update", "random"), layer.find("update", "dense")
        if sparse is None or dense is None:  # refused by SelectionCosts before
            raise InputError(f"layer {layer.name!r} lacks update costs")
        self.sparse, self.dense = sparse, dense
        self.fixed_j = sparse.pieces[0].a_j


def _views(costs: CostFile) -> list[_View]:
    return [_View(layer) for layer in costs.layers]


def _priced(view: _View, entry_j: float, dense_ratio: float, fixed: Estimate | None) -> LayerCost:
    """A layer whose entries cost *entry_j* each, and *dense_ratio* of it in the dense add."""
    whole = [(view.sparse, entry_j, fixed), (view.dense, entry_j * dense_ratio, None)]
    operations = tuple(
        cost.model_copy(
            update={
                "pieces": (Piece(a_j=a_j, c_j=_moved(cost.pieces[0].c_j, value)),),
                "origin": "assumed",
            }
        )
        for cost, value, a_j in whole
    )
    return view.layer.model_copy(update={"operations": operations})


def _assumed(costs: CostFile, layers: tuple[LayerCost, ...], byte_j: float, said: str) -> CostFile:
    message = tuple(
        cost.model_copy(
            update={
                "pieces": (Piece(a_j=None, c_j=_moved(cost.pieces[0].c_j, byte_j)),),
                "origin": "assumed",
            }
        )
        if cost.operation == "send"
        else cost
        for cost in costs.message
    )
    return costs.model_copy(
        update={
            "layers": layers,
            "message": message,
            "origin": "assumed",
            "basis": said,
            "assumptions": (*costs.assumptions, said),
        }
    )


def _dense_ratio(prices: SelectionCosts) -> float:
    """What the dense add takes of the sparse joules an entry, over the model."""
    dense_j = sum(layer.dense_j or 0.0 for layer in prices.layers)
    sparse_j = sum(layer.slope_j[0] * layer.parameters for layer in prices.layers)
    return min(1.0, dense_j / sparse_j)


def _dense_j(layer: LayerCost, parameters: int) -> float:
    dense = layer.find("update", "dense")
    return 0.0 if dense is None else float(dense.energy_j(parameters))


def _moments(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    mean = float(np.average(values, weights=weights))
    return mean, float(np.sqrt(np.average((values - mean) ** 2, weights=weights)))


def _times(estimate: Estimate, factor: float) -> Estimate:
    return _moved(estimate, estimate.value * factor)


def _moved(estimate: Estimate, value: float) -> Estimate:
    """The estimate at another value, its relative interval kept."""
    factor = value / estimate.value
    return Estimate(
        value=value,
        low=min(estimate.low * factor, value),
        high=max(estimate.high * factor, value),
        below_detection=estimate.below_detection,
        upper_limit=None if estimate.upper_limit is None else estimate.upper_limit * factor,
    )


def _from_trace(path: Path, model: str, data: str) -> CostFile:
    from costmodels import costs_from_trace, fit_cost_model
    from cwmp.fl.data import input_spec
    from cwmp.fl.models import build_model
    from profiler.layers import layers_of
    from profiler.trace import Trace

    trace = Trace.load(path)
    shape, classes = input_spec(data)
    network = build_model(model, shape, classes)
    layers = layers_of(network)
    profiled = [(layer.name, tuple(layer.shape)) for layer in trace.metadata.layers]
    if profiled == [(layer.name, tuple(layer.shape)) for layer in layers]:
        return costs_from_trace(trace)
    fitted = fit_cost_model([trace], seed=0)
    modules = _modules(network, shape) if fitted.find("train") else ()
    return fitted.predict(layers, model, modules=modules)


def _modules(network: nn.Module, shape: tuple[int, ...]) -> tuple[Cell, ...]:
    import torch

    from profiler.modules import TrainOperation

    return TrainOperation(network, torch.zeros(2, *shape), batch_sizes=(2,)).cells()
