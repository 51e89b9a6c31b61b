"""The devices of a federation: whose costs a client has, and what its rounds charge it.

A fleet is one or several kinds of device, each with its cost file, dealt to the clients in
order. The server is charged by the costs of the first kind unless it has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from costmodels.costfile import CostFile
from cwmp.fl.charges import Rates
from cwmp.fl.ledger import Entry
from cwmp.fl.rounds import Federation, RoundRecord
from cwmp.fl.training import Trainer
from cwmp.selectors.costs import SelectionCosts
from profiler.errors import InputError


class DeviceSpec(BaseModel):
    """A kind of device as a study names it.

    Attributes:
        name: for reports.
        costs: path of its cost file.
        clients: how many clients have it; ``None`` for all that are left, of one kind alone.
        select_costs: path of another cost file to select by, for controls: budgets and
            selections follow it, while the ledger charges *costs*. ``None`` selects by *costs*.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    costs: Path
    clients: Annotated[int, Field(ge=1)] | None = None
    select_costs: Path | None = None


@dataclass(frozen=True)
class Device:
    """A kind of device, ready to be charged.

    Attributes:
        name: for reports.
        costs: its cost file.
        prices: the same, prepared for selection.
        rates: the same, prepared for the ledger.
    """

    name: str
    costs: CostFile
    prices: SelectionCosts
    rates: Rates


@dataclass(frozen=True)
class Fleet:
    """The devices of a federation.

    Attributes:
        devices: the kinds.
        device_of: the place of each client's kind in *devices*; shape (clients,).
    """

    devices: tuple[Device, ...]
    device_of: tuple[int, ...]

    @classmethod
    def of(cls, specs: Sequence[DeviceSpec], clients: int, trainer: Trainer) -> Fleet:
        """Read the cost files and deal the kinds to *clients*.

        Raises:
            InputError: kinds that do not add up to the clients.
            InputFileError, FileFormatError: a cost file that cannot be read.
            LayerMismatchError: costs of another model.
        """
        devices = tuple(_device(spec, trainer) for spec in specs)
        return cls(devices, _dealt(specs, clients))

    def charging(self, federation: Federation) -> Fleet:
        """The accounts of one run: `charge` each record in order, and ask who is `available`."""
        return self

    def charge(self, record: RoundRecord, rule: str) -> tuple[Entry, ...]:
        """The ledger entries of one round run with the method *rule*."""
        return self.devices[0].rates.charge(record, rule)

    def available(self, round_number: int, client: int) -> str:
        """Why *client* cannot take part in the round; empty if it can."""
        return ""


def _device(spec: DeviceSpec, trainer: Trainer) -> Device:
    costs = CostFile.load(spec.costs)
    by = costs if spec.select_costs is None else CostFile.load(spec.select_costs)
    prices = SelectionCosts.from_cost_file(
        by, trainer.layers, buffer_entries=trainer.buffer_entries
    )
    return Device(spec.name, costs, prices, Rates.of(costs))


def _dealt(specs: Sequence[DeviceSpec], clients: int) -> tuple[int, ...]:
    open_ended = [spec.name for spec in specs if spec.clients is None]
    named = sum(spec.clients or 0 for spec in specs)
    left = clients - named
    if len(open_ended) > 1:
        raise InputError(
            f"devices {open_ended[0]!r} and {open_ended[1]!r} both take the clients that are "
            "left: say how many one of them has"
        )
    if left < 0 or (left > 0 and not open_ended) or (left == 0 and open_ended):
        raise InputError(
            f"the devices are for {named} clients{' and the rest' if open_ended else ''}, but "
            f"there are {clients}"
        )
    counts = [left if spec.clients is None else spec.clients for spec in specs]
    return tuple(place for place, count in enumerate(counts) for _ in range(count))
