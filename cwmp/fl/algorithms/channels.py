"""The output channels of a model's modules, and what pruning them leaves of it.

A module's tensors share their first dimension: a channel is one row of the weight and its
entry of the bias. Modules are taken one by one; a channel that is pruned is zero at the
output of its module, and the inputs of the next one that it fed are kept, since which module
feeds which is not known here. The last module has the classes for channels and is kept whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from cwmp.fl.training import Arrays
from cwmp.payload import PayloadLayout

Kept = Mapping[str, NDArray[np.bool_]]
"""Module -> which of its channels are kept."""


@dataclass(frozen=True)
class Channels:
    """The channels of *layout*.

    Attributes:
        layout: the model's layers, called MODULE.TENSOR.
    """

    layout: PayloadLayout

    @cached_property
    def modules(self) -> Mapping[str, tuple[str, ...]]:
        """Module -> its layers, in the model's order.

        A tensor of another first dimension than its module's first one is a module of its own.
        """
        found: dict[str, list[str]] = {}
        for name, shape in self.layout.layers.items():
            owner = name.rpartition(".")[0] or name
            if owner in found and self.layout.layers[found[owner][0]][0] != shape[0]:
                owner = name
            found.setdefault(owner, []).append(name)
        return {module: tuple(names) for module, names in found.items()}

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """Module -> its channels."""
        return {module: self.layout.layers[names[0]][0] for module, names in self.modules.items()}

    def pruned(self, ratio: float) -> Mapping[str, int]:
        """Module -> floor(ratio * channels), at least one channel left, none of the last one."""
        last = list(self.modules)[-1]
        return {
            module: 0 if module == last else min(int(ratio * count + 1e-9), count - 1)
            for module, count in self.counts.items()
        }

    def entries(self, ratio: float) -> list[int]:
        """Entries of each layer that are left, in the layout's order."""
        left = {m: self.counts[m] - gone for m, gone in self.pruned(ratio).items()}
        owner = {name: module for module, names in self.modules.items() for name in names}
        return [left[owner[name]] * prod(shape[1:]) for name, shape in self.layout.layers.items()]

    def scores(self, weights: Arrays, gradient: Arrays) -> Mapping[str, NDArray[np.float64]]:
        """Module -> by channel, sum over its entries of 1/2 w^2 H - w g, with H = g^2.

        The second-order change of the loss when w becomes 0; H is the square of one batch's
        mean gradient, in the place of a diagonal of the curvature.
        """
        found = {}
        for module, names in self.modules.items():
            total = np.zeros(self.counts[module])
            for name in names:
                w, g = (
                    part[name].reshape(len(total), -1).astype(np.float64)
                    for part in (weights, gradient)
                )
                total += (0.5 * (w * g) ** 2 - w * g).sum(axis=1)
            found[module] = total
        return found

    def keep(self, scores: Mapping[str, NDArray[np.float64]], ratio: float) -> Kept:
        """All but the channels of score nearest to 0 in each module; of equals the first goes."""
        kept = {}
        for module, gone in self.pruned(ratio).items():
            mask = np.ones(self.counts[module], dtype=np.bool_)
            mask[np.argsort(np.abs(scores[module]), kind="stable")[:gone]] = False
            kept[module] = mask
        return kept

    def spread(self, kept: Kept) -> Mapping[str, NDArray[np.bool_]]:
        """Layer -> which of its entries are kept; of the layer's shape."""
        masks = {}
        for module, names in self.modules.items():
            for name in names:
                shape = self.layout.layers[name]
                rows = kept[module].reshape(-1, *(1,) * (len(shape) - 1))
                masks[name] = np.broadcast_to(rows, shape).copy()
        return {name: masks[name] for name in self.layout.names}
