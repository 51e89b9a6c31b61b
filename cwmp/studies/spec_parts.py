"""The parts of a study's description: devices, controls, endpoints, and the family of tests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cwmp.fl.job import Count, NonNegative, PositiveFloat
from cwmp.fl.rounds import Schedule

EQUIPMENT = (
    "uplink",
    "uplink_bps",
    "downlink",
    "downlink_bps",
    "power_w",
    "example_s",
    "idle_w",
    "battery_j",
)
EndpointName = Literal["final_accuracy", "worst_decile", "hypervolume"]
Scope = Literal["total", "exchange"]
Share = Annotated[float, Field(gt=0, lt=1)]
Name = Annotated[str, Field(min_length=1, max_length=100)]


class Strict(BaseModel):
    """Values that refuse unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Training(Strict):
    """Local training, the same for every method."""

    local_epochs: Count = 1
    batch_size: Count = 32
    lr: PositiveFloat = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.5
    weight_decay: NonNegative = 0.0
    schedule: Schedule = "constant"


class Constructed(Strict):
    """Costs made up from others: each layer's update cost is scaled to a stated spread.

    Attributes:
        source: written ``from``: a cost file or a trace.
        spread: joules an entry of the dearest layer over those of the cheapest; ``flat`` is 1.
        fixed: whether layers keep their fixed costs; messages have none.
        whole: what adding a layer whole costs. ``vectorised``: as much less than its entries one by
            one as in the source; ``entries``: as much as they do, so that p % of the dense joules
            buy Top-K about p % of the entries, as sparsity is counted elsewhere.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    source: Annotated[Path, Field(alias="from")]
    spread: Literal["flat"] | Annotated[float, Field(gt=1, allow_inf_nan=False)]
    fixed: Literal["kept", "none"] = "none"
    whole: Literal["vectorised", "entries"] = "vectorised"


class CostSource(Strict):
    """Where a device's costs come from: one of a cost file, a trace, or made-up costs.

    The other keys are those of `cwmp.fl.fleet.DeviceSpec`: links, pace and battery.
    """

    costs: Path | None = None
    trace: Path | None = None
    constructed: Constructed | None = None
    uplink: str | None = None
    uplink_bps: PositiveFloat | None = None
    downlink: str | None = None
    downlink_bps: PositiveFloat | None = None
    power_w: PositiveFloat | None = None
    example_s: PositiveFloat | None = None
    idle_w: NonNegative | None = None
    battery_j: PositiveFloat | None = None

    @model_validator(mode="after")
    def _one(self) -> CostSource:
        given = [self.costs, self.trace, self.constructed]
        if sum(value is not None for value in given) != 1 and not getattr(self, "kinds", ()):
            raise ValueError("give one of costs, trace or constructed")
        return self

    @property
    def equipment(self) -> dict[str, Any]:
        """What is not about costs, as a `DeviceSpec` takes it."""
        return {name: getattr(self, name) for name in EQUIPMENT}

    @property
    def path(self) -> Path:
        """The file that the costs are read from."""
        if self.constructed is not None:
            return self.constructed.source
        return self.costs or self.trace or Path()


class KindSource(CostSource):
    """One kind of device in a mixed fleet, for so many clients."""

    name: Name
    clients: Count | None = None


class FleetSource(CostSource):
    """A fleet by name: one kind of device, or several.

    Attributes:
        name: of the fleet, the study's ``device``.
        kinds: where the fleet is mixed; then no costs of its own.
    """

    name: Name
    kinds: tuple[KindSource, ...] = ()

    @model_validator(mode="after")
    def _either(self) -> FleetSource:
        if self.kinds and (self.costs or self.trace or self.constructed):
            raise ValueError("kinds bring their own costs: give either")
        return self


class Controls(Strict):
    """Runs that must come out as theory says, or that show what the costs are worth.

    Attributes:
        uniform: all entries at one cost: CWMP must equal Top-K in every number of every round.
        shuffled: the costs dealt to other layers, for selecting; the ledger charges true ones.
        other_device: the same with the costs of the named device of the study.
        bound: no captured sum of g^2 may exceed its LP bound, in any run.
        method: whose controls these are.
        device, alpha, budgets, seeds: where; the first of each, all budgets and seeds, if not
            said. *seeds* is how many of the study's.
    """

    uniform: bool = True
    shuffled: bool = True
    other_device: str | None = None
    bound: bool = True
    method: str = "cwmp"
    device: str | None = None
    alpha: PositiveFloat | None = None
    budgets: tuple[str, ...] | None = None
    seeds: Count | None = None


class Reference(Strict):
    """The point from which hypervolume is counted.

    Attributes:
        energy_j: joules, or ``dense``: the most that a whole run of dense takes there.
        accuracy: usually that of guessing.
    """

    energy_j: Literal["dense"] | PositiveFloat = "dense"
    accuracy: Annotated[float, Field(ge=0, lt=1)] = 0.1


class Endpoints(Strict):
    """What is looked at, fixed before the run.

    Attributes:
        targets: three accuracies, ascending.
        reference: of the hypervolume.
        joules: all phases (``total``), or all but training (``exchange``).
    """

    targets: tuple[Share, Share, Share]
    reference: Reference = Reference()
    joules: Scope = "exchange"

    @model_validator(mode="after")
    def _ascending(self) -> Endpoints:
        if list(self.targets) != sorted(set(self.targets)):
            raise ValueError("targets must be three different accuracies, ascending")
        return self


class Family(Strict):
    """The tests that are corrected together: every method x reference x place x endpoint.

    Attributes:
        name: what the family asks.
        methods: tested against each of the study's references.
        endpoints: of each place.
        unmatched: the endpoint, in the place of those, of tests against methods that take no
            budget: with ``hypervolume`` joules count, which differ there.
        devices, alphas, budgets: the places; all of the study's if not said.
    """

    name: Name
    methods: Annotated[tuple[str, ...], Field(min_length=1)] = ("cwmp",)
    endpoints: Annotated[tuple[EndpointName, ...], Field(min_length=1)] = ("final_accuracy",)
    unmatched: EndpointName | None = None
    devices: tuple[str, ...] | None = None
    alphas: tuple[float, ...] | None = None
    budgets: tuple[str, ...] | None = None
