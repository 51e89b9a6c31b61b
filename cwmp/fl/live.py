"""A run's real joules beside what its ledger says of the same work.

The whole process is measured while it runs, above what the machine draws at rest, as
``cwmp measure`` does. Of the ledger only what really ran in this process is set against it::

    ledger_j = train + select + encode + update by the server + update by one client a round
    ratio    = measured_j / ledger_j

Clients of one process hold bit-equal models, so a download is applied once, and nothing is sent.
The measurement also holds what no phase is: evaluation, decoding, reading data, the interpreter;
not the imports, where `warm_up` came before it.
A ratio above 1 is expected of a run of tiny models; near 1 the costs tell the whole story.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from costmodels.costfile import Origin
from cwmp.fl.ledger import Entry, Joules, Ledger, Phase, Total, sum_phases
from profiler.errors import MeterError
from profiler.listing import quantity
from profiler.measure import Repetition, energy_above_rest, repeat_measured, systematic_j
from profiler.meters.base import EnergyMeter
from profiler.probe import ProbeResult

T = TypeVar("T")

RAN_HERE: tuple[Phase, ...] = ("train", "select", "encode", "update")
"""The phases that a run in one process really does."""


def warm_up(data: str) -> None:
    """Import what reads *data* and trains: seconds of work that are no part of a run.

    Raises:
        InputError, InputFileError, FileFormatError: data that cannot be read.
    """
    import torch

    from cwmp.fl.data import load_data

    load_data(data)
    torch.zeros(1)


class Watched(NamedTuple):
    """What came of an action that was measured.

    Attributes:
        result: what it returned.
        repetition: its window and the rest before it; ``None`` where the meter failed in it.
        error: what the meter said then; else empty.
    """

    result: Any
    repetition: Repetition | None
    error: str


def watch(
    action: Callable[[], T],
    meter: EnergyMeter,
    *,
    probe: ProbeResult | None = None,
    idle_s: float = 1.0,
    sleep: Callable[[float], None] = time.sleep,
    draw: Callable[[], float] = random.random,
) -> Watched:
    """Run *action* once, measured, after a rest of *idle_s*.

    Args:
        action: what to run.
        meter: an open meter.
        probe: of this meter, for the interval.
        idle_s: seconds of rest, whose power is subtracted.
        sleep: rests.
        draw: as in `profiler.window.meter_window`.

    Raises:
        MeterReadError, CounterFaultError: a read failed before *action* ran; what it returned is
            never lost to a meter.
        InputError: a rest that is negative or not finite.
    """
    done: list[T] = []
    try:
        (repetition,) = repeat_measured(
            lambda: done.append(action()),
            meter,
            idle_s=idle_s,
            probe=probe,
            sleep=sleep,
            draw=draw,
        )
    except MeterError as error:
        if not done:
            raise
        return Watched(done[0], None, str(error))
    return Watched(done[0], repetition, "")


def ran_here(ledgers: Iterable[Ledger]) -> Total:
    """The joules of what runs of one process really did, of the phases that are priced."""
    cells: list[Entry] = []
    for ledger in ledgers:
        for _, part in ledger.rounds():
            applied = False
            for entry in part.of_phases(RAN_HERE).entries:
                if (entry.phase, entry.party) == ("update", "client"):
                    if applied:
                        continue
                    applied = True
                cells.append(entry)
    phases = Ledger(tuple(cells)).by_phase()
    return sum_phases({phase: phases[phase] for phase in RAN_HERE})


@dataclass(frozen=True, slots=True)
class LiveReport:
    """Model against measurement.

    Attributes:
        meter: the meter's name.
        origin: of its joules; a modelled meter says how two models agree and no more.
        measured_j: above rest; may be negative where a run drew less than its counter shows.
        low_j, high_j: 95 % of it by the counter's steps and its gain; ``None``: not known, as
            of a model that does not say how far it is off. How one run differs from the next is
            not in them.
        ledger: what the ledger says of the same work.
        duration_s: of the run.
    """

    meter: str
    origin: Origin
    measured_j: float
    low_j: float | None
    high_j: float | None
    ledger: Total
    duration_s: float

    @classmethod
    def of(
        cls, meter: EnergyMeter, repetition: Repetition, ledgers: Iterable[Ledger]
    ) -> LiveReport:
        """From a measured run and the ledgers of the runs in it."""
        estimate = energy_above_rest([repetition])
        measured_j = estimate.mean if estimate else repetition.run.energy_j
        half_j = estimate.half_width if estimate else None
        gain_j = systematic_j([repetition])
        judged = meter.info.origin == "measured" or bool(meter.info.systematic)
        known = judged and half_j is not None and gain_j is not None
        slack_j = (half_j or 0.0) + (gain_j or 0.0)
        return cls(
            meter=meter.info.name,
            origin=meter.info.origin,
            measured_j=measured_j,
            low_j=measured_j - slack_j if known else None,
            high_j=measured_j + slack_j if known else None,
            ledger=ran_here(ledgers),
            duration_s=repetition.run.duration_s,
        )

    @property
    def ratio(self) -> float | None:
        """Measured over ledger; ``None`` where either is not above 0."""
        energy = self.ledger.energy
        if energy is None or energy.value <= 0 or self.measured_j <= 0:
            return None
        return self.measured_j / energy.value

    @property
    def ratio_interval(self) -> tuple[float, float] | None:
        """Each at its worst end; ``None`` where an interval is not known or reaches 0."""
        energy = self.ledger.energy
        if self.ratio is None or energy is None or energy.low <= 0:
            return None
        if self.low_j is None or self.high_j is None:
            return None
        return max(0.0, self.low_j) / energy.high, self.high_j / energy.low

    def sentence(self) -> str:
        """One line for people."""
        span = _span(self.low_j, self.high_j)
        head = (
            f"Live: {quantity(self.measured_j, 'J')} above rest{span} in "
            f"{quantity(self.duration_s, 's')}, {self.origin} by the meter {self.meter!r}; "
        )
        energy = self.ledger.energy
        if energy is None:
            return f"{head}the ledger prices none of what ran here."
        text = f"{head}the ledger has {_said(energy)} for what ran here"
        if self.ledger.lacks:
            text += f", without {', '.join(self.ledger.lacks)}"
        if self.ratio is not None:
            text += f": {self.ratio:.3g} times as much was {self.origin}"
            if self.ratio_interval is not None:
                text += f" ({self.ratio_interval[0]:.3g} to {self.ratio_interval[1]:.3g})"
        if self.origin != "measured":
            text += (
                f". No counter: {self.origin} joules against {energy.origin} ones tell how two "
                "models agree, not what this machine drew"
            )
        return f"{text}."

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for JSON."""
        energy = self.ledger.energy
        return {
            "meter": self.meter,
            "origin": self.origin,
            "measured_j": self.measured_j,
            "measured_low_j": self.low_j,
            "measured_high_j": self.high_j,
            "ledger_j": energy.value if energy else None,
            "ledger_low_j": energy.low if energy else None,
            "ledger_high_j": energy.high if energy else None,
            "ledger_origin": energy.origin if energy else None,
            "lacks": list(self.ledger.lacks),
            "ratio": self.ratio,
            "ratio_interval": list(self.ratio_interval) if self.ratio_interval else None,
            "duration_s": self.duration_s,
        }


def _said(energy: Joules) -> str:
    return f"{quantity(energy.value, 'J')}{_span(energy.low, energy.high)} {energy.origin}"


def _span(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return " (interval unknown)"
    return f" ({quantity(low, 'J')} to {quantity(high, 'J')})"
