"""What the rules on the kernels share: reading an update, alone or added to a residual."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwmp.kernels.scan import clear
from cwmp.selection import Selection
from cwmp.selectors.base import Selector
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.device import DeviceSearch
from cwmp.selectors.device_reading import SMALL, DeviceReading, on_host, tensors_on_device
from cwmp.selectors.reading import Reading, read_in_place
from cwmp.selectors.search import Search
from cwmp.selectors.updates import AnyUpdate, as_joules
from profiler.errors import UpdateError

_LARGEST = float(np.finfo(np.float32).max)


class ResidualLostError(UpdateError):
    """NaN or inf was found in an update that had already been added to the residual."""


class KernelRule(ABC):
    """A rule that selects in one pass over an update that stays where it is.

    Args:
        costs: prepared costs.
        threads: of a pass; ``None`` for as many as pay. The selection does not depend on it.
    """

    _device_kind: str | None = "cuda"
    _small = SMALL
    _ranks_in_float64 = True

    def __init__(self, costs: SelectionCosts, threads: int | None) -> None:
        self.costs = costs
        self.threads = threads
        self._device_searches: dict[Any, DeviceSearch] = {}

    def select(
        self, update: AnyUpdate, budget_j: float, *, generator: np.random.Generator | None = None
    ) -> Selection:
        """See `cwmp.selectors.base.Selector.select`; *generator* is not used."""
        budget_j = as_joules(budget_j)
        search = self._search
        reading = self._on_device(update) or read_in_place(update, search.names, search.shapes)
        if reading is None or not self._ranks_in_float64:
            return self._reference.select(update, budget_j)
        self.costs.check_budget(budget_j)
        return self._choose(reading, budget_j)

    def select_added(
        self,
        update: AnyUpdate,
        residual: Mapping[str, NDArray[np.float32]],
        budget_j: float,
        *,
        norm: float,
        check: bool = True,
    ) -> Selection | None:
        """residual += update, select from the sum, zero what is selected: in one pass.

        Args:
            update: as for `select`; it is not changed.
            residual: name -> contiguous float32 array of the layer's shape; changed in place.
            norm: sqrt(sum e^2) of the residual, or more.
            check: read the update once beforehand, so that NaN or inf is refused while the
                residual is untouched. Without it they are found when they have been added.

        Returns:
            The selection; ``None``, with nothing changed, where one pass cannot be sure to
            succeed: the caller adds and selects instead.

        Raises:
            LayerMismatchError, UpdateError, BudgetError: as for `select`.
            ResidualLostError: without *check*, an update that holds NaN or inf.
        """
        search = self._search
        budget_j = as_joules(budget_j)
        reading = read_in_place(update, search.names, search.shapes, residual)
        if reading is None or not self._ranks_in_float64:
            return None
        self.costs.check_budget(budget_j)
        if not np.isfinite(search.affordable(np.ones(len(search.names)), budget_j)).all():
            return None  # an update that is zero in the open layers is refused after the pass
        if check and norm + search.largest(reading) > _LARGEST:  # the sum could overflow
            return None
        try:
            selection = self._choose(reading, budget_j)
        except UpdateError as error:
            raise ResidualLostError(f"{error}; the residual is lost: pass check=True") from error
        for layer in selection.layers:
            clear(residual[layer.name].reshape(-1), layer.indices)
        return selection

    def _search_of(self, reading: Reading) -> Search:
        """The search that *reading* is for."""
        return reading.search if isinstance(reading, DeviceReading) else self._search

    def _on_device(self, update: AnyUpdate) -> Reading | None:
        """*update* where it lies on a GPU, or copied from there if small; else ``None``."""
        search = self._search
        layers = tensors_on_device(update, search.names, search.shapes, self._device_kind)
        if layers is None:
            return None
        if sum(layer.numel() for layer in layers) <= self._small:
            return on_host(layers, search.names, search.shapes)
        where = layers[0].device
        if where not in self._device_searches:
            self._device_searches[where] = DeviceSearch(self.costs, where, self.threads)
        return self._device_searches[where].read(layers)

    @abstractmethod
    def _choose(self, reading: Reading, budget_j: float) -> Selection:
        """The selection of an update that has been read, within a budget that was checked."""

    @property
    @abstractmethod
    def _reference(self) -> Selector:
        """The same rule for what the kernels do not read."""

    @cached_property
    def _search(self) -> Search:
        return Search(self.costs, self.threads)
