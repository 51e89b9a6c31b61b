"""FedAvg of whole updates (McMahan et al. 2017, arXiv 1602.05629), in fp32 or fp16.

``dense`` sends float32. ``dense:fp16`` sends every value as IEEE binary16 (Micikevicius et al.
2018, arXiv 1710.03740, for training in it), **both ways**: uplink and downlink, half the bytes of
the layers; headers stay and buffers stay float32. Clients train, and every receiver adds, in
float32; what rounding loses on the way up is forgotten, or waits with ``+ef``; on the way down
every receiver loses the same, so that their models stay equal bit for bit. A change beyond 65,504
is refused as diverged.

The prices are those of the same cost file with two bytes a value. The joules a byte are the ones
of the float32 layout: the line above the file's send cost over its range of messages, in which
those of fp16 lie but for the two bytes of the smallest one.
"""

from __future__ import annotations

from dataclasses import replace

from cwmp.fl.algorithms import sparse
from cwmp.fl.algorithms.setting import MethodName, Setting
from cwmp.fl.algorithms.sparse import SparseAveraging
from cwmp.payload import VALUE_BYTES, ValueType
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.dense import Dense
from profiler.errors import InputError


def make(name: MethodName, setting: Setting) -> SparseAveraging:
    """``dense`` or ``dense:fp16``; the latter costs less, so that a smaller budget pays for it.

    Raises:
        InputError: other arguments, or feedback for fp32, which leaves nothing behind.
    """
    if not name.arguments:
        return sparse.make(name, setting)
    if name.arguments != ("fp16",):
        raise InputError(f"cannot read the method {str(name)!r}: write dense or dense:fp16")
    costs = with_values("float16", setting.costs)
    return SparseAveraging(
        Dense(costs),
        min(setting.budget_j, costs.dense_j),
        costs,
        replace(setting.layout, value_type="float16"),
        considers_all=False,
        feedback=name.feedback,
    )


def with_values(value_type: ValueType, costs: SelectionCosts) -> SelectionCosts:
    """*costs* for values of another type on the wire."""
    width = VALUE_BYTES[value_type]
    layers = tuple(replace(layer, value_bytes=width) for layer in costs.layers)
    return SelectionCosts(layers, costs.message_j)
