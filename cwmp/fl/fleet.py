"""The devices of a federation: whose costs a client has, its link, its pace and its battery.

A fleet is one or several kinds of device, each with its cost file, dealt to the clients in
order. The server is charged by its own costs, or by those of the first kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from costmodels.composition.compose import with_link
from costmodels.composition.link_table import find_link
from costmodels.composition.links import Direction
from costmodels.costfile import CostFile
from cwmp.fl.algorithms.base import Touch
from cwmp.fl.charges import Message, Rates, charge_round
from cwmp.fl.charging import Charging, idle_entries
from cwmp.fl.ledger import Entry
from cwmp.fl.rounds import Federation, RoundRecord
from cwmp.fl.training import LocalPlan, Trainer
from cwmp.fl.waiting import Pace, Transfer
from cwmp.payload import HEADER_BYTES, buffer_bytes, layer_bytes
from cwmp.selectors.costs import SelectionCosts
from profiler.errors import InputError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class DeviceSpec(BaseModel):
    """A kind of device as a study names it.

    Attributes:
        name: for reports.
        costs: path of its cost file.
        clients: how many clients have it; ``None`` for all that are left, of one kind alone.
        uplink: a link of `costmodels.composition.link_table.LINKS` by whose joules it sends,
            for selecting and in the ledger; ``None`` leaves what the cost file says.
        uplink_bps: payload rate; ``None`` takes the link's, which is round and assumed.
        downlink: a link by whose joules it receives; ``None`` takes receiving a byte to cost
            what sending one does.
        downlink_bps: as *uplink_bps*.
        power_w: watts at which its cost file's joules are spent while it computes: of joules
            above rest, watts above rest. Times follow from it.
        example_s: seconds an example trained takes, where that is known better.
        idle_w: watts above rest while it waits for slower clients; ``None``: not known.
        battery_j: joules that its clients have for the run; ``None``: mains.
        select_costs: path of another cost file to select by, for controls: budgets and
            selections follow it as it stands, while the ledger charges *costs*. ``None``
            selects by *costs*.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    costs: Path
    clients: Annotated[int, Field(ge=1)] | None = None
    uplink: str | None = None
    uplink_bps: Positive | None = None
    downlink: str | None = None
    downlink_bps: Positive | None = None
    power_w: Positive | None = None
    example_s: Positive | None = None
    idle_w: NonNegative | None = None
    battery_j: Positive | None = None
    select_costs: Path | None = None

    def without_folders(self) -> DeviceSpec:
        """The same with the names of its files alone."""
        select = None if self.select_costs is None else Path(self.select_costs.name)
        return self.model_copy(update={"costs": Path(self.costs.name), "select_costs": select})


@dataclass(frozen=True)
class Device:
    """A kind of device, ready to be charged.

    Attributes:
        name: for reports.
        costs: its cost file, its uplink's joules in it.
        prices: the same, prepared for selection.
        rates: the same, prepared for the ledger.
        pace: how fast it is.
        idle_w, battery_j: as in its `DeviceSpec`.
    """

    name: str
    costs: CostFile
    prices: SelectionCosts
    rates: Rates
    pace: Pace = field(default_factory=Pace)
    idle_w: float | None = None
    battery_j: float | None = None


@dataclass(frozen=True)
class Fleet:
    """The devices of a federation.

    Attributes:
        devices: the kinds.
        device_of: the place of each client's kind in *devices*; shape (clients,).
        whole: the message that holds the whole model.
        server: the server's prices; ``None`` takes those of the first kind.
    """

    devices: tuple[Device, ...]
    device_of: tuple[int, ...]
    whole: Message
    server: Rates | None = None

    @classmethod
    def of(
        cls,
        specs: Sequence[DeviceSpec],
        clients: int,
        trainer: Trainer,
        server: DeviceSpec | None = None,
    ) -> Fleet:
        """Read the cost files and deal the kinds to *clients*.

        Raises:
            InputError: kinds that do not add up to the clients, a link that there is not or that
                goes the other way, or costs that lack sending and have no link.
            InputFileError, FileFormatError: a cost file that cannot be read.
            LayerMismatchError: costs of another model.
        """
        devices = tuple(_device(spec, trainer) for spec in specs)
        own = _server_rates(server, trainer) if server else None
        return cls(devices, _dealt(specs, clients), _whole(trainer), own)

    def device(self, client: int) -> Device:
        """The device of *client*."""
        return self.devices[self.device_of[client]]

    @property
    def server_rates(self) -> Rates:
        """What the server is charged by."""
        return self.server or self.devices[0].rates

    @cached_property
    def counts_idle(self) -> bool:
        """Whether a device says what waiting draws: without one, ``idle`` is no phase."""
        return any(device.idle_w is not None for device in self.devices)

    def charging(self, federation: Federation | None = None) -> Charging:
        """What charges one run of *federation*, round by round; a run has one of its own."""
        if federation is None:
            return Charging(self)
        plan = federation.trainer.plan
        sizes = (len(labels) for _, labels in federation.shards)
        return Charging(self, {client: batches_of(n, plan) for client, n in enumerate(sizes)})

    def charge(self, record: RoundRecord, rule: str) -> tuple[Entry, ...]:
        """The entries of one round by itself: nobody has missed anything before it."""
        entries = charge_round(
            record, rule, self.server_rates, lambda client: self.device(client).rates
        )
        if not self.counts_idle:
            return entries
        return (*entries, *idle_entries(self, record.round, record.clients, {}, entries))


def batches_of(examples: int, plan: LocalPlan) -> tuple[int, ...]:
    """Examples in each step of a client's round by *plan*; as in training, none of one example."""
    size = plan.batch_size
    sizes = [min(size, examples - start) for start in range(0, examples, size)]
    if size > 1 and len(sizes) > 1 and sizes[-1] == 1:
        sizes[-2:] = [size + 1]
    return tuple(sizes) * plan.epochs


def _device(spec: DeviceSpec, trainer: Trainer) -> Device:
    costs = CostFile.load(spec.costs)
    up = _transfer(spec, "uplink", spec.uplink, spec.uplink_bps)
    down = _transfer(spec, "downlink", spec.downlink, spec.downlink_bps)
    receive = None
    if down is not None:
        receive = with_link(costs, down.link, rate_bps=down.rate_bps).message_cost("send")
    if up is not None:
        costs = with_link(costs, up.link, rate_bps=up.rate_bps)
    by = costs if spec.select_costs is None else CostFile.load(spec.select_costs)
    prices = SelectionCosts.from_cost_file(
        by, trainer.layers, buffer_entries=trainer.buffer_entries
    )
    return Device(
        spec.name,
        costs,
        prices,
        Rates.of(costs, receive),
        Pace(spec.power_w, spec.example_s, up, down),
        spec.idle_w,
        spec.battery_j,
    )


def _transfer(
    spec: DeviceSpec, direction: Direction, name: str | None, rate_bps: float | None
) -> Transfer | None:
    if name is None:
        if rate_bps is not None:
            raise InputError(
                f"device {spec.name!r} has a rate for its {direction} and no link: name one"
            )
        return None
    link = find_link(name)
    if link.direction not in (direction, "both"):
        raise InputError(
            f"device {spec.name!r} has {name!r} as its {direction}, which is a {link.direction}"
        )
    return Transfer(link, rate_bps)


def _server_rates(spec: DeviceSpec, trainer: Trainer) -> Rates:
    costs = CostFile.load(spec.costs)
    costs.match(trainer.layers)
    return Rates.of(costs)


def _whole(trainer: Trainer) -> Message:
    sizes = [layer.parameters for layer in trainer.layers]
    sent = sum(int(layer_bytes(n, np.int64(n), "dense")) for n in sizes)
    touched = tuple(Touch(layer.name, layer.parameters, "dense") for layer in trainer.layers)
    return Message(HEADER_BYTES + sent + buffer_bytes(trainer.buffer_entries), touched)


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
