"""What a study is, as a YAML file says it: fixed before anything runs, and checked whole.

Whatever decides what may be concluded is here and not on a command line: the endpoints, the
targets, the family of tests, the controls. Paths are relative to the YAML file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from cwmp.budget import Budget
from cwmp.fl.algorithms.setting import MethodName
from cwmp.fl.job import Count, PositiveFloat
from cwmp.studies.spec_parts import (
    Controls,
    EndpointName,
    Endpoints,
    Family,
    FleetSource,
    Name,
    Strict,
    Training,
)
from cwmp.studies.yaml_lines import Place, read_yaml, where
from profiler.errors import BudgetError, FileFormatError, InputError
from profiler.files import read_bytes

VERSION: Literal[1] = 1
MOST_TESTS = 25
"""With 10 pairs the smallest two-sided p is 2^-9; Holm lets it pass p = .05 in 25 tests."""
UNBUDGETED = frozenset(("dense", "fedmd", "kta", "evofed", "spfl", "kernel"))
"""Methods that send what they send: run once at 100 %, compared on cumulative joules. EvoFed is
among them because every receiver's update is dense, whatever goes up: no budget below that is met
by sending fewer fitness values."""
_BUDGET_OR_ARGUMENT = frozenset(("cahfp",))
"""Methods that follow the budget unless an argument says how much they send."""
_TO_BE_SAID = {"evofed": (3, "evofed:POPULATION,SIGMA,RATE, such as evofed:128,0.01,1")}
"""Methods whose arguments decide what comes out and have no value that suits every problem: a study
names as many, so that none is found by looking at its results."""


class StudySpec(Strict):
    """A study. `StudySpec.load` reads a YAML file; see docs/studies.md for each key."""

    version: Literal[1]
    name: Name
    question: str
    data: str
    model: str = "lenet"
    clients: Count = 10
    per_round: Count | None = None
    alphas: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    rounds: Count
    training: Training = Training()
    seeds: Count
    methods: Annotated[tuple[str, ...], Field(min_length=1)]
    budgets: tuple[str, ...] = ()
    unbudgeted: tuple[str, ...] = ()
    devices: Annotated[tuple[FleetSource, ...], Field(min_length=1)]
    controls: Controls | None = None
    endpoints: Endpoints
    family: Family
    references: Annotated[tuple[str, ...], Field(min_length=1)] = ("topk",)
    public: Annotated[int, Field(ge=0)] = 0
    engine: Literal["local"] = "local"

    @classmethod
    def load(cls, path: Path) -> StudySpec:
        """Read a study.

        Raises:
            InputFileError: the file is absent or unreadable.
            FileFormatError: not YAML, an unknown key, or a value that cannot be used; one line
                with the key, and the line of the file where it is known.
        """
        raw, lines = read_yaml(path, read_bytes(path))
        if raw.get("version") != VERSION:
            raise FileFormatError(
                f"{path} says version {raw.get('version')!r}; this release reads version {VERSION}"
            )
        try:
            spec = cls.model_validate(raw)
            spec.check()
        except ValidationError as error:
            raise FileFormatError(_refusal(path, error, lines)) from error
        except (InputError, BudgetError) as error:
            key, _, said = str(error).partition(": ")
            place = tuple(key.split("."))
            at = where(path, place, lines) if place in lines else f"{path}: {key}"
            raise FileFormatError(f"{at}: {said}" if said else f"{path}: {error}") from error
        return spec

    @property
    def rules(self) -> tuple[str, ...]:
        """The methods as results write them."""
        return tuple(map(_canonical, self.methods))

    @property
    def shares(self) -> tuple[str, ...]:
        """The budgets as results write them."""
        return tuple(str(Budget.parse(text)) for text in self.budgets)

    def takes_budget(self, method: str) -> bool:
        """Whether a method is run at each budget, or once with all it wants."""
        name = MethodName.parse(method)
        if name.name in UNBUDGETED or method in set(map(_canonical, self.unbudgeted)):
            return False
        return not (name.name in _BUDGET_OR_ARGUMENT and name.arguments)

    def control_shares(self, controls: Controls) -> tuple[str, ...]:
        """The budgets that the controls are run at."""
        return tuple(str(Budget.parse(text)) for text in controls.budgets or self.budgets)

    def check(self) -> None:
        """Refuse what each key alone allows but the study cannot use.

        Raises:
            InputError: named in one line.
            BudgetError: a budget that cannot be read.
        """
        for what, given in (
            ("method", self.rules),
            ("budget", self.shares),
            ("alpha", self.alphas),
            ("device", tuple(device.name for device in self.devices)),
        ):
            _refuse_twice(what, given)
        for name in map(MethodName.parse, self.rules):
            count, usage = _TO_BE_SAID.get(name.name, (0, ""))
            if len(name.arguments) < count:
                raise InputError(f"methods: a study says all arguments of {name.name}: {usage}")
        if self.per_round is not None and self.per_round > self.clients:
            raise InputError(
                f"per_round: {self.per_round} clients a round cannot be drawn from {self.clients}"
            )
        if not self.budgets and any(map(self.takes_budget, self.rules)):
            raise InputError("budgets: none is given, but there are methods that need one")
        _known("references", map(_canonical, self.references), self.rules)
        self._check_family()
        if self.controls is not None:
            self._check_controls(self.controls)
        if self.endpoints.reference.energy_j == "dense" and "dense" not in self.rules:
            raise InputError("endpoints.reference: 'dense' needs the method dense; or give joules")

    def _check_family(self) -> None:
        family, names = self.family, [device.name for device in self.devices]
        _known("family.methods", map(_canonical, family.methods), self.rules)
        _known("family.devices", family.devices or (), names)
        _known("family.alphas", family.alphas or (), self.alphas)
        _known("family.budgets", (str(Budget.parse(b)) for b in family.budgets or ()), self.shares)
        free = [name for name in map(_canonical, family.methods) if not self.takes_budget(name)]
        if free:
            raise InputError(f"family.methods: {free[0]} takes no budget to be tested at")
        tests = len(self.family_places())
        if not 1 <= tests <= MOST_TESTS:
            raise InputError(
                f"family: {family.name!r} has {tests} tests; 1 to {MOST_TESTS} can be told with "
                "10 seeds: name fewer methods, devices, alphas, budgets or endpoints"
            )

    def family_places(self) -> tuple[tuple[str, float, str, str, str, EndpointName], ...]:
        """(device, alpha, budget, method, reference, endpoint) of each test of the family."""
        family = self.family
        devices = family.devices or tuple(device.name for device in self.devices)
        budgets = tuple(str(Budget.parse(b)) for b in family.budgets or self.budgets)
        methods = tuple(map(_canonical, family.methods))
        references = tuple(map(_canonical, self.references))
        return tuple(
            (device, alpha, budget, method, other, endpoint)
            for device in devices
            for alpha in family.alphas or self.alphas
            for place, method in enumerate(methods)
            for budget in budgets
            for other in references
            if other != method and not (other in methods[:place] and method in references)
            for endpoint in self._endpoints_against(other)
        )

    def _endpoints_against(self, other: str) -> tuple[EndpointName, ...]:
        if self.family.unmatched is None or self.takes_budget(other):
            return self.family.endpoints
        return (self.family.unmatched,)

    def _check_controls(self, controls: Controls) -> None:
        names = [device.name for device in self.devices]
        _known("controls.device", [controls.device] if controls.device else [], names)
        _known("controls.other_device", [controls.other_device or names[0]], names)
        _known("controls.alpha", [controls.alpha] if controls.alpha else [], self.alphas)
        asked = (str(Budget.parse(b)) for b in controls.budgets or ())
        _known("controls.budgets", asked, self.shares)
        needed = [_canonical(controls.method)]
        needed += [topk_beside(controls.method)] if controls.uniform else []
        if controls.uniform and MethodName.parse(controls.method).name != "cwmp":
            raise InputError(
                f"controls.method: uniform costs make CWMP equal Top-K, not {controls.method}; "
                "name cwmp, or set uniform to false"
            )
        if controls.uniform or controls.shuffled or controls.other_device:
            _known("controls.method", needed, self.rules)
        if controls.seeds is not None and controls.seeds > self.seeds:
            raise InputError(
                f"controls.seeds: {controls.seeds} of the study's {self.seeds} seeds cannot be had"
            )


def topk_beside(method: str) -> str:
    """Top-K with the feedback of *method*: what CWMP must equal where all costs are one."""
    return str(MethodName("topk", (), MethodName.parse(method).feedback))


def _canonical(method: str) -> str:
    return str(MethodName.parse(method))


def _refusal(path: Path, error: ValidationError, lines: Mapping[Place, int]) -> str:
    """The first fault in one line: unknown keys first, which explain others that are missing."""
    faults = error.errors()
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    place: Place = ()
    for part in fault["loc"]:  # beyond keys of the document stand names of pydantic's own
        if (*place, part) in lines or fault["type"] == "missing":
            place = (*place, part)
    said = "no such key" if fault["type"] == "extra_forbidden" else fault["msg"]
    return f"{where(path, place, lines)}: {said.removeprefix('Value error, ')}"


def _refuse_twice(what: str, given: Sequence[Any]) -> None:
    twice = [value for value in given if given.count(value) > 1]
    if twice:
        raise InputError(f"{what}s: {twice[0]} is given twice")


def _known(key: str, asked: Any, known: Sequence[Any]) -> None:
    for value in asked:
        if value not in known:
            listed = ", ".join(map(str, known))
            raise InputError(f"{key}: {value} is not in the study, which has {listed}")
