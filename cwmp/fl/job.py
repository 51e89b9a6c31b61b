"""One federated run as a value: written as JSON, it gives the same run in any process.

Whoever runs clients elsewhere (workers of a sweep, Flower's simulation and nodes) gets a `Job`
and prepares its own `Federation` and method from it: nothing but JSON and payloads travels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cwmp.budget import Budget
from cwmp.fl.algorithms import MethodName, Setting, build_method
from cwmp.fl.algorithms.team import Team
from cwmp.fl.data import Dataset, input_spec, load_data
from cwmp.fl.fleet import DeviceSpec, Fleet
from cwmp.fl.models import build_model
from cwmp.fl.rounds import Federation, Schedule
from cwmp.fl.training import LocalPlan, Trainer
from cwmp.payload import PayloadLayout
from profiler.errors import InputError
from profiler.trace import describe

Count = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Job(BaseModel):
    """One method at one budget with one seed on one fleet. `Job.parse` for one-line errors.

    Attributes:
        method: as `cwmp.fl.algorithms.MethodName` writes it.
        budget: a share of the dense cost (``5%``) or joules a client and round.
        data: ``digits`` or ``cifar10:PATH``.
        model: a name of `cwmp.fl.models.MODELS`, or ``module:callable``.
        clients, per_round: how many, and how many are asked each round (``None``: all).
        alpha: the Dirichlet concentration of their labels.
        rounds, local_epochs, batch_size, lr, momentum, weight_decay, schedule: training.
        seed: of weights, partition, sampling and order.
        devices: the kinds of device, each with a cost file.
        server: the server's device; ``None`` charges it by the first kind's costs.
        joins: client -> the first round it takes part in.
        public: training examples set aside as a public set, for methods that distil.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    budget: str = "100%"
    data: str = "digits"
    model: str = "lenet"
    clients: Count = 10
    per_round: Count | None = None
    alpha: PositiveFloat = 0.1
    rounds: Count = 20
    local_epochs: Count = 1
    batch_size: Count = 32
    lr: PositiveFloat = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.5
    weight_decay: NonNegative = 0.0
    schedule: Schedule = "constant"
    seed: Annotated[int, Field(ge=0)] = 0
    devices: Annotated[tuple[DeviceSpec, ...], Field(min_length=1)]
    server: DeviceSpec | None = None
    joins: dict[int, Count] = Field(default_factory=dict)
    public: Annotated[int, Field(ge=0)] = 0

    @classmethod
    def parse(cls, **values: Any) -> Job:
        """Make a job.

        Raises:
            InputError: a value that cannot be used; the message names it.
            BudgetError: a budget that cannot be read.
        """
        try:
            job = cls.model_validate(values)
        except ValidationError as error:
            raise InputError(f"cannot run with {describe(error)}") from error
        MethodName.parse(job.method)
        Budget.parse(job.budget)
        return job

    @property
    def key(self) -> str:
        """16 hexadecimal digits that differ between jobs: a file name.

        Of paths only the last part counts, so that a study may be moved to another folder.
        """
        kept = self.model_copy(
            update={
                "data": _without_folder(self.data),
                "devices": tuple(device.without_folders() for device in self.devices),
                "server": None if self.server is None else self.server.without_folders(),
            }
        )
        return hashlib.sha256(kept.model_dump_json().encode()).hexdigest()[:16]

    @property
    def plan(self) -> LocalPlan:
        return LocalPlan(
            self.local_epochs, self.batch_size, self.lr, self.momentum, self.weight_decay
        )

    def trainer(self) -> Trainer:
        """The model with the job's own weights, made ready.

        Raises:
            InputError: no such model or data.
        """
        shape, classes = input_spec(self.data)
        return Trainer(build_model(self.model, shape, classes, self.seed), self.plan)

    def prepare(self, data: Dataset | None = None) -> Prepared:
        """Everything the run needs; *data* if it is in memory already.

        Raises:
            InputError: whatever in the job cannot be used with the data or the model.
            InputFileError, FileFormatError: data or costs that cannot be read.
            LayerMismatchError: costs of another model.
            BudgetError: a budget above the dense cost.
        """
        return Prepared(self, data or load_data(self.data))


def _without_folder(data: str) -> str:
    name, colon, path = data.partition(":")
    return f"{name}{colon}{PurePath(path).name}" if colon else name


@dataclass(frozen=True)
class Prepared:
    """A job with its parts, made when they are first asked for.

    Attributes:
        job: what is run.
        data: the examples.
    """

    job: Job
    data: Dataset

    @cached_property
    def trainer(self) -> Trainer:
        return self.job.trainer()

    @cached_property
    def _split(self) -> tuple[Dataset, Any]:
        from cwmp.fl.public import set_aside

        return set_aside(self.data, self.job.public, self.job.seed)

    @cached_property
    def federation(self) -> Federation:
        job = self.job
        self._check_classes()
        return Federation.prepare(
            self.trainer,
            self._split[0],
            clients=job.clients,
            alpha=job.alpha,
            rounds=job.rounds,
            seed=job.seed,
            per_round=job.per_round,
            schedule=job.schedule,
            joins=job.joins,
        )

    def _check_classes(self) -> None:
        import torch

        example = torch.from_numpy(self.data.x_test[:1])
        outputs = self.trainer.scores(self.trainer.state(), example).shape[1]
        if outputs != self.data.classes:
            raise InputError(
                f"model {self.job.model!r} scores {outputs} classes and the data have "
                f"{self.data.classes}: give a model of as many outputs"
            )

    @cached_property
    def fleet(self) -> Fleet:
        return Fleet.of(self.job.devices, self.job.clients, self.trainer, self.job.server)

    @cached_property
    def layout(self) -> PayloadLayout:
        buffers = self.federation.initial.buffers
        return PayloadLayout(
            {layer.name: layer.shape for layer in self.trainer.layers},
            {name: buffer.shape for name, buffer in buffers.items()},
        )

    @cached_property
    def team(self) -> Team:
        """The method for each kind of device, at the budget's joules by its own prices."""
        methods = tuple(
            build_method(self.job.method, self._setting(place))
            for place in range(len(self.fleet.devices))
        )
        return Team(methods[0], methods, self.fleet.device_of)

    @property
    def budget(self) -> Budget:
        return Budget.parse(self.job.budget)

    @cached_property
    def _shared(self) -> tuple[float | None, float | None]:
        """Mean budget over clients, and the largest dense cost; ``None`` with one device."""
        fleet = self.fleet
        if len(fleet.devices) == 1:
            return None, None
        dense_j = [device.prices.dense_j for device in fleet.devices]
        budgets_j = [self.budget.joules(whole_j) for whole_j in dense_j]
        mean_j = sum(budgets_j[kind] for kind in fleet.device_of) / len(fleet.device_of)
        return mean_j, max(dense_j)

    def _setting(self, device: int) -> Setting:
        job, prices = self.job, self.fleet.devices[device].prices
        mean_budget_j, dearest_j = self._shared
        return Setting(
            costs=prices,
            layout=self.layout,
            budget_j=self.budget.joules(prices.dense_j),
            plan=job.plan,
            clients=job.clients,
            per_round=job.per_round or job.clients,
            rounds=job.rounds,
            classes=self.data.classes,
            public=self._split[1],
            seed=job.seed,
            mean_budget_j=mean_budget_j,
            dearest_j=dearest_j,
        )
