"""What every energy meter is: named rails, cumulative joules, one clock.

A meter's ``read`` returns joules *since it was opened*, already in SI units, with wraps
of the hardware counter removed. A block's energy is then a difference of two readings,
whatever the hardware below.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from profiler.errors import CounterFaultError, InputError

Origin = Literal["measured", "modelled", "assumed"]
Covers = Literal["cpu", "gpu"]


@dataclass(frozen=True, slots=True)
class Rail:
    """One energy counter of a meter.

    Attributes:
        name: unique within the meter: ``package-0``, ``dram-0``, ``gpu-0``, ``cpu``.
        domain: what it powers: ``package``, ``dram``, ``core``, ``psys``, ``gpu``, ``cpu`` ...
        counted: whether the default "this device" set includes it.
        excluded_because: why not, when it is not ("lies inside package-0").
    """

    name: str
    domain: str
    counted: bool = True
    excluded_because: str | None = None


@dataclass(frozen=True, slots=True)
class Systematic:
    """An error that no repetition averages out: a counter's gain, a sensor's offset.

    Attributes:
        relative: half-width as a share of the energy; 0.05 is +- 5 %. No difference cancels it.
        cause: what it comes from, in a few words, with its source.
        absolute_w: half-width as a constant power, 0.3 for +- 0.3 W; it cancels in differences of
            windows of equal length.
    """

    relative: float
    cause: str
    absolute_w: float = 0.0

    def __post_init__(self) -> None:
        bounds = (self.relative, self.absolute_w)
        if not (all(0 <= each < float("inf") for each in bounds) and any(bounds) and self.cause):
            raise InputError(f"a systematic term needs a positive share and a cause, got {self}")

    @property
    def bound(self) -> str:
        """As it is printed: ``+- 5 %``, ``+- 0.3 W``, or both."""
        share = [f"+- {100 * self.relative:.2g} %"] if self.relative else []
        return " ".join([*share, *([f"+- {self.absolute_w:.2g} W"] if self.absolute_w else [])])


@dataclass(frozen=True, slots=True)
class MeterInfo:
    """What a meter is, fixed from opening to closing.

    Attributes:
        name: the source's name as ``--meter`` takes it.
        device: the hardware it meters, as it names itself; never a host name.
        origin: ``measured`` for a counter, ``modelled`` for a formula.
        rails: every rail that can be read.
        selected: the names of the rails that make up "this device"; their sum is the energy.
        assumptions: one sentence each, for readers of a trace (watts per core, ...).
        max_read_gap_s: the longest time between two reads that still tells one wrap of a
            counter from two; ``None`` where no counter wraps.
        covers: where work must run to show in these joules: ``cpu`` (processors, memory, a
            whole machine) or ``gpu`` (those boards alone). Work that runs elsewhere leaves
            only the rest of an idle device here, so its joules must not be taken from this meter.
        lag_s: how old the content of a counter's newest step may be: a sensor that shows the mean
            of the last second lags by one. A window's quiet is longer by that much.
        longest_step_s: the longest that a counter takes to step, where a probe of a second would
            see none; ``None`` where probing finds its period.
        scope: what the joules include or leave out, one sentence each ("the carrier board is
            outside these rails"); selected rails that overlap are told here by themselves.
        systematic: errors beside the interval; they add up linearly, see `systematic_j`. Empty
            where a measured energy's gain is not known.
    """

    name: str
    device: str
    origin: Origin
    rails: tuple[Rail, ...]
    selected: tuple[str, ...]
    assumptions: tuple[str, ...] = ()
    max_read_gap_s: float | None = None
    covers: Covers = "cpu"
    lag_s: float = 0.0
    longest_step_s: float | None = None
    scope: tuple[str, ...] = ()
    systematic: tuple[Systematic, ...] = ()

    def __post_init__(self) -> None:
        told = [each for each in overlaps(self.rails, self.selected) if each not in self.scope]
        object.__setattr__(self, "scope", (*self.scope, *told))

    @property
    def systematic_share(self) -> float | None:
        """The sum of `systematic`'s shares of the energy; ``None`` where nothing is known of it.

        Joules that are not measured have no gain: without terms, theirs is 0.
        """
        if self.origin == "measured" and not self.systematic:
            return None
        return sum(term.relative for term in self.systematic)

    @property
    def systematic_sentences(self) -> tuple[str, ...]:
        """`systematic` as it is printed; one that says so where it is unknown."""
        if self.systematic_share is None:
            return ("unknown (nothing is published of this meter's gain)",)
        return tuple(f"{term.bound} ({term.cause})" for term in self.systematic)

    def systematic_j(self, energy_j: float, duration_s: float) -> float | None:
        """Joules by which *energy_j* of *duration_s* may be off; ``None`` where it is unknown."""
        share = self.systematic_share
        if share is None:
            return None
        return share * abs(energy_j) + sum(each.absolute_w for each in self.systematic) * duration_s


@dataclass(frozen=True, slots=True)
class Reading:
    """Joules since the meter was opened, by rail, at one instant of ``time.perf_counter``.

    Attributes:
        losses: how often a counter has lost joules since opening (it was reset, or not read in
            time); the read that found out raised. `energy_between` subtracts only readings
            that agree in it.
        variance_j2: by rail, the variance that sampling a power has put into `energy_j` since
            opening; empty where a counter does the sum. See `sampling_variance_between`.
    """

    time_s: float
    energy_j: Mapping[str, float] = field(default_factory=dict)
    losses: int = 0
    variance_j2: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class EnergyMeter(Protocol):
    """An open energy source. Device work is synchronised inside ``read``."""

    @property
    def info(self) -> MeterInfo: ...

    def read(self) -> Reading:
        """Read every selected rail.

        Raises:
            MeterReadError: the source did not answer.
            CounterFaultError: the source answered with something impossible, or joules since
                the last read are lost; the next read counts on, with one more in
                `Reading.losses`.
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What looking for one energy source found; a line of ``cwmp devices``.

    Attributes:
        source: the source's name as ``--meter`` takes it.
        usable: whether ``open`` would succeed.
        path: the path, library or module that was tried.
        device: the hardware found, or ``None``.
        rails: the rails found.
        unit: the unit and resolution of the raw counter ("uJ", "mJ", "CPU seconds").
        cause: why it is not usable.
        remedy: what the user can do about it.
    """

    source: str
    usable: bool
    path: str
    device: str | None = None
    rails: tuple[Rail, ...] = ()
    unit: str | None = None
    cause: str | None = None
    remedy: str | None = None


class MeterSource(Protocol):
    """A kind of meter: it can look for itself and open itself. One a file; see `meters`."""

    @property
    def name(self) -> str: ...

    def discover(self) -> Sequence[SourceReport]:
        """Look, without side effects and without raising for absent hardware."""
        ...

    def open(
        self, argument: str = "", *, device: str = "cpu", rails: Sequence[str] | None = None
    ) -> EnergyMeter:
        """Open the source.

        Args:
            argument: what follows the colon in ``--meter NAME:ARGUMENT``.
            device: the torch device that does the work, ``cpu`` or ``cuda:0``.
            rails: the rails that make up "this device"; ``None`` takes the counted ones.

        Raises:
            MeterNotFoundError: there is none.
            MeterPermissionError: there is one, but it may not be read.
        """
        ...


def first_reading(meter: EnergyMeter) -> Reading:
    """A reading to count from, whatever the counters lost before it.

    Nothing need be read while nothing is measured, so a counter that wrapped unseen or was reset
    meanwhile is no fault of the measurement that begins: it is read once more.

    Raises:
        MeterReadError, CounterFaultError: as `EnergyMeter.read`; the second read failed too.
    """
    try:
        return meter.read()
    except CounterFaultError:
        return meter.read()


def energy_between(start: Reading, end: Reading, rails: Iterable[str]) -> float:
    """Joules spent on *rails* from *start* to *end*.

    Raises:
        InputError: a rail is missing from a reading; an absent rail is never counted as 0.
        CounterFaultError: a counter lost joules in between.
    """
    if start.losses != end.losses:
        raise CounterFaultError(
            f"a counter was reset or not read in time in the {end.time_s - start.time_s:.3g} s "
            "measured, and its joules are lost; repeat the measurement"
        )
    total_j = 0.0
    for rail in rails:
        if rail not in start.energy_j or rail not in end.energy_j:
            raise InputError(f"rail {rail!r} is missing from a reading; it was not selected")
        total_j += end.energy_j[rail] - start.energy_j[rail]
    return total_j


def sampling_variance_between(start: Reading, end: Reading, rails: Iterable[str]) -> float:
    """J^2 that sampling a power adds to the variance of `energy_between`; 0 for counters."""
    return sum(
        max(end.variance_j2.get(rail, 0.0) - start.variance_j2.get(rail, 0.0), 0.0)
        for rail in rails
    )


def choose_rails(available: Sequence[Rail], wanted: Sequence[str] | None) -> tuple[str, ...]:
    """The names of the rails that make up "this device".

    Raises:
        InputError: a wanted rail does not exist, is named twice, or none is left.
    """
    names = [rail.name for rail in available]
    if wanted is None:
        chosen = tuple(rail.name for rail in available if rail.counted)
    else:
        chosen = tuple(wanted)
        for rail in chosen:
            if rail not in names:
                raise InputError(f"no rail {rail!r}; this meter has {', '.join(names)}")
        if len(set(chosen)) != len(chosen):
            raise InputError(f"a rail is named twice in {', '.join(chosen)}")
    if not chosen:
        raise InputError(f"no rail is selected; choose from {', '.join(names)}")
    return chosen


def overlaps(available: Sequence[Rail], selected: Sequence[str]) -> tuple[str, ...]:
    """A sentence for each selected rail whose joules are in others that are selected, too."""
    domains = {rail.name: rail.domain for rail in available if rail.name in selected}
    sentences = []
    for rail in available:
        because = rail.excluded_because
        if rail.name not in domains or because is None:
            continue
        others = [name for name in domains if name != rail.name and _names(because, name)]
        if "the packages" in because:
            others = [name for name, domain in domains.items() if domain == "package"]
        if others:
            times = "may be counted twice" if "may " in because else "counted twice"
            are = "are" if len(others) > 1 else "is"
            added = f"{' + '.join(others)} {are} added too"
            gap = ": " if because.startswith(tuple(others)) else " "
            sentences.append(f"{rail.name}{gap}{because}; {added}: {times}")
    return tuple(sentences)


def _names(because: str, rail: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(rail)}(?![\w-])", because) is not None
