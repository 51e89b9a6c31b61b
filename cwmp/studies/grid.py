"""The runs of a study: every place of its grid as a job with labels.

Runs of one seed share weights, partition, sampling and order of examples, whatever the method,
the budget and the device: they are paired. The folder holds every cost file that the runs name,
under a name that says its content, so that it stands alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from costmodels.costfile import CostFile
from cwmp.fl.algorithms.setting import MethodName
from cwmp.fl.fleet import DeviceSpec
from cwmp.fl.job import Job
from cwmp.studies.sources import as_dear_as, read_source, shuffled, uniform
from cwmp.studies.spec import StudySpec, topk_beside
from cwmp.studies.spec_parts import CostSource, FleetSource
from profiler.errors import InputError, OutputError
from profiler.files import write_atomic

WHOLE = "100%"
SHUFFLE_SEED = 0
"""One permutation for all seeds: shuffled costs are one made-up device."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One run of a study, before it is run.

    Attributes:
        job: what is run.
        labels: its place in the grid: ``device`` (the name of the fleet), ``alpha``, ``seed``,
            ``method``, ``budget``, and ``control``: "" but for controls.
    """

    job: Job
    labels: Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """A study made ready.

    Attributes:
        spec: the study.
        data: what the runs train on, its path made absolute.
        fleets: the devices of each fleet, by name.
        costs: their cost files, by the name of the fleet; one a kind.
        tasks: every run, seed by seed, so that an interruption leaves whole comparisons.
    """

    spec: StudySpec
    data: str
    fleets: Mapping[str, tuple[DeviceSpec, ...]]
    costs: Mapping[str, tuple[CostFile, ...]]
    tasks: tuple[Planned, ...]


def plan_study(spec: StudySpec, directory: Path, folder: Path, data: str | None = None) -> Plan:
    """Write the cost files of *spec* into *directory* and list its runs.

    Args:
        spec: the study.
        directory: of the results; made if it is not there.
        folder: of the study's file: its paths are relative to it.
        data: in the place of the study's, relative to the working directory.

    Raises:
        InputError: a partition, data or costs that no run could use.
        InputFileError, FileFormatError: a file that cannot be read.
        LayerMismatchError: costs of another model.
        OutputError: the folder cannot be made or written.
    """
    named = resolved(spec.data, folder) if data is None else resolved(data, Path.cwd())
    directory = directory.resolve()
    try:
        (directory / "costs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {directory}: {error.strerror or error}") from error
    fleets: dict[str, tuple[DeviceSpec, ...]] = {}
    costs: dict[str, tuple[CostFile, ...]] = {}
    read: dict[Path, CostFile] = {}
    for fleet in spec.devices:
        kinds: tuple[CostSource, ...] = fleet.kinds or (fleet,)
        files = tuple(read_source(kind, folder, spec.model, named, read) for kind in kinds)
        costs[fleet.name] = files
        fleets[fleet.name] = _specs(fleet, files, directory)
    writer = _Grid(spec, named, directory, fleets, costs)
    tasks = tuple(task for seed in range(spec.seeds) for task in writer.seed(seed))
    return Plan(spec, named, fleets, costs, tasks)


def check_partitions(plan: Plan) -> None:
    """Deal the data once for every alpha and seed, and fit every fleet to the model.

    Raises:
        InputError: a partition that leaves a client without data, more classes asked of the
            model than the data have, or devices that do not add up to the clients.
        LayerMismatchError: costs of another model.
    """
    from cwmp.fl.data import load_data
    from cwmp.fl.fleet import Fleet
    from cwmp.fl.partition import dirichlet_partition
    from cwmp.fl.public import set_aside

    spec, data = plan.spec, load_data(plan.data)
    for seed in range(spec.seeds):
        private, _ = set_aside(data, spec.public, seed)
        for alpha in spec.alphas:
            dirichlet_partition(private.y_train, spec.clients, alpha, seed)
    trainer = plan.tasks[0].job.trainer()
    for devices in plan.fleets.values():
        Fleet.of(devices, spec.clients, trainer)


def resolved(data: str, folder: Path) -> str:
    """*data* with its path, if it has one, made absolute."""
    name, colon, path = data.partition(":")
    return f"{name}:{(folder / path).resolve()}" if colon else data


class _Grid:
    """Makes jobs; what they share is said once."""

    def __init__(
        self,
        spec: StudySpec,
        data: str,
        directory: Path,
        fleets: Mapping[str, tuple[DeviceSpec, ...]],
        costs: Mapping[str, tuple[CostFile, ...]],
    ) -> None:
        self.spec, self.fleets = spec, fleets
        self.common: dict[str, Any] = {
            "data": data,
            "model": spec.model,
            "clients": spec.clients,
            "per_round": spec.per_round,
            "rounds": spec.rounds,
            "public": spec.public,
            **spec.training.model_dump(),
        }
        self.controls = dict(_control_fleets(spec, fleets, costs, directory))

    def seed(self, seed: int) -> Iterator[Planned]:
        spec = self.spec
        for device in self.fleets:
            for alpha in spec.alphas:
                for method in spec.rules:
                    for budget in spec.shares if spec.takes_budget(method) else (WHOLE,):
                        yield self._planned(device, alpha, seed, method, budget)
        controls = spec.controls
        if controls is None or seed >= (controls.seeds or spec.seeds):
            return
        alpha = controls.alpha or spec.alphas[0]
        for control, (device, fleet) in self.controls.items():
            method = str(MethodName.parse(controls.method))
            methods = (topk_beside(method), method) if control == "uniform" else (method,)
            for method in methods:
                for budget in spec.control_shares(controls):
                    yield self._planned(device, alpha, seed, method, budget, control, fleet)

    def _planned(
        self,
        device: str,
        alpha: float,
        seed: int,
        method: str,
        budget: str,
        control: str = "",
        fleet: tuple[DeviceSpec, ...] | None = None,
    ) -> Planned:
        job = Job.parse(
            **self.common,
            method=method,
            budget=budget,
            alpha=alpha,
            seed=seed,
            devices=fleet or self.fleets[device],
        )
        labels = {
            "device": device,
            "alpha": alpha,
            "seed": seed,
            "method": method,
            "budget": budget,
            "control": control,
        }
        return Planned(job, labels)


def _control_fleets(
    spec: StudySpec,
    fleets: Mapping[str, tuple[DeviceSpec, ...]],
    costs: Mapping[str, tuple[CostFile, ...]],
    directory: Path,
) -> Iterator[tuple[str, tuple[str, tuple[DeviceSpec, ...]]]]:
    """(control, (device, fleet)): the device's fleet, selecting by other costs."""
    controls = spec.controls
    if controls is None:
        return
    device = controls.device or spec.devices[0].name
    files = costs[device]
    made: dict[str, tuple[CostFile, ...]] = {}
    if controls.uniform:
        made["uniform"] = tuple(map(uniform, files))
    if controls.shuffled:
        made["shuffled"] = tuple(shuffled(file, SHUFFLE_SEED) for file in files)
    if controls.other_device is not None:
        other = costs[controls.other_device]
        if len(other) not in (1, len(files)):
            raise InputError(
                f"controls.other_device: {controls.other_device} has {len(other)} kinds of "
                f"device, {device} has {len(files)}: they cannot be exchanged"
            )
        others = other if len(other) == len(files) else other * len(files)
        made["other_device"] = tuple(map(as_dear_as, others, files))
    for control, chosen in made.items():
        kinds = tuple(
            DeviceSpec(
                **kind.model_dump(exclude={"select_costs"}),
                select_costs=_store(file, directory, f"{device}-{kind.name}-{control}"),
            )
            for kind, file in zip(fleets[device], chosen, strict=True)
        )
        yield control, (device, kinds)


def _specs(
    fleet: FleetSource, files: tuple[CostFile, ...], directory: Path
) -> tuple[DeviceSpec, ...]:
    if not fleet.kinds:
        return (
            DeviceSpec(
                name=fleet.name,
                costs=_store(files[0], directory, fleet.name),
                **fleet.equipment,
            ),
        )
    return tuple(
        DeviceSpec(
            name=kind.name,
            costs=_store(file, directory, f"{fleet.name}-{kind.name}"),
            clients=kind.clients,
            **kind.equipment,
        )
        for kind, file in zip(fleet.kinds, files, strict=True)
    )


def _store(costs: CostFile, directory: Path, name: str) -> Path:
    """Write the file under its name and content; one that is there already is the same."""
    # dates of making differ between two equal files; what is spent by does not
    timeless = costs.model_dump_json(exclude={"created_utc", "provenance", "software"})
    digest = hashlib.sha256(timeless.encode()).hexdigest()[:12]
    plain = "".join(letter if letter.isalnum() else "-" for letter in name)[:80]
    path = directory / "costs" / f"{plain}-{digest}.json"
    if not path.exists():
        write_atomic(path, (costs.model_dump_json(indent=1) + "\n").encode(), force=True)
    return path
