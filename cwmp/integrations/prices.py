"""The prices of what is sent: of these layers alone, for values of the wire's type."""

from __future__ import annotations

from dataclasses import replace

from cwmp.payload import PayloadLayout
from cwmp.selectors.costs import SelectionCosts
from profiler.errors import LayerMismatchError


def prices_of(layout: PayloadLayout, costs: SelectionCosts) -> SelectionCosts:
    """The prices of the layers of *layout*, in its order; others are left out.

    Raises:
        LayerMismatchError: a layer has no price, or one of another shape.
    """
    priced = {price.name: price for price in costs.layers}
    kept = []
    for name, shape in layout.layers.items():
        price = priced.get(name)
        if price is None or tuple(price.shape) != tuple(shape):
            known = "no price" if price is None else f"a price for shape {tuple(price.shape)}"
            raise LayerMismatchError(
                f"layer {name!r} of shape {tuple(shape)} has {known}: use costs of this model"
            )
        kept.append(replace(price, value_bytes=layout.value_bytes))
    return SelectionCosts(tuple(kept), costs.message_j)
