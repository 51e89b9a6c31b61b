"""What was injected, and what came of it: the one oracle of all faults.

A fault has two outcomes that are allowed. *Detected*: each read that it spoils raises one of our
errors, in one line, and no two readings with as many losses span it. *Harmless*: nothing raised,
and every difference of readings is the joules that were spent. Anything else fails the test.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

import pytest

from profiler.errors import CwmpError, MeterError
from profiler.meters.base import EnergyMeter, Reading

Outcome = Literal["detected", "harmless"]
Where = Literal["opening", "reading", "window", "session", "file"]
LONGEST_MESSAGE, LIMIT_S = 600, 8.0


@dataclass
class Ledger:
    """Every fault of this run once: (meter, fault, where it was injected) -> its outcome."""

    entries: dict[tuple[str, str, str], Outcome] = field(default_factory=dict)

    def add(self, meter: str, fault: str, where: Where, outcome: Outcome) -> None:
        """Count one; the same fault must not be injected twice under one name."""
        key = (meter, fault, where)
        assert key not in self.entries, f"{key} was injected already"
        assert outcome in ("detected", "harmless")
        self.entries[key] = outcome

    def line(self) -> str:
        """For the end of pytest's output."""
        keys, outcomes = list(self.entries), list(self.entries.values())
        distinct = {(meter, fault) for meter, fault, _ in keys}
        places = sum(where in ("session", "window") for _, _, where in keys)
        return (
            f"{len(distinct)} distinct faults injected over {len({key[0] for key in keys})} meters "
            f"and files, {len(keys)} times in all: detected {outcomes.count('detected')}, harmless "
            f"{outcomes.count('harmless')} (read rightly), in sessions and windows {places}"
        )


class Hang(BaseException):
    """A call took longer than any read may."""


@contextmanager
def time_limit(seconds: float = LIMIT_S) -> Iterator[None]:
    """Raise `Hang` in a block that takes longer; interrupts even a blocked ``open``."""

    def ring(*_: object) -> None:
        raise Hang(f"longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    left_s, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left_s)
        signal.signal(signal.SIGALRM, before)


def check_message(error: CwmpError, says: Sequence[str] = ()) -> None:
    """One line of reasonable length that names what or where."""
    text = str(error)
    assert text.strip() and len(text.splitlines()) == 1, f"not one line: {text!r}"
    assert len(text) <= LONGEST_MESSAGE and text.isprintable(), f"unfit to print: {text[:900]!r}"
    assert not says or any(word in text for word in says), f"none of {says} in {text!r}"


@dataclass
class Trial:
    """A meter read again and again beside the truth.

    Attributes:
        rail: whose joules are known.
        true_j: joules spent so far, by the stand-in.
        step_j: how far a difference of two readings may be off.
        says: words of which each message names one.
    """

    rail: str
    true_j: Callable[[], float]
    step_j: float
    says: tuple[str, ...] = ()
    readings: list[tuple[Reading, float]] = field(default_factory=list)
    errors: list[CwmpError] = field(default_factory=list)

    def open(self, opening: Callable[[], EnergyMeter]) -> EnergyMeter | None:
        """The meter, or ``None`` where it was refused as it should be."""
        try:
            with time_limit():
                meter = opening()
        except CwmpError as error:
            check_message(error, self.says)
            self.errors.append(error)
            return None
        self.readings.append((Reading(0.0, {self.rail: 0.0}), self.true_j()))
        return meter

    def read(self, meter: EnergyMeter) -> bool:
        """Read once; whether it answered."""
        try:
            with time_limit():
                reading = meter.read()
        except MeterError as error:
            check_message(error, self.says)
            self.errors.append(error)
            return False
        self.readings.append((reading, self.true_j()))
        return True

    def check(self) -> Outcome:
        """No difference that can be formed is wrong."""
        for (start, start_j), (end, end_j) in combinations(self.readings, 2):
            if start.losses == end.losses:
                shown_j = end.energy_j[self.rail] - start.energy_j[self.rail]
                assert shown_j == pytest.approx(end_j - start_j, abs=self.step_j), "a wrong joule"
        return "detected" if self.errors else "harmless"


def follow(
    trial: Trial,
    opening: Callable[[], EnergyMeter],
    advance: Callable[[], None],
    inject: Callable[[], None],
    mend: Callable[[], None],
    *,
    lasting: bool = False,
) -> Outcome:
    """Inject a fault between two reads of an open meter, mend it, and judge every reading.

    Args:
        lasting: the meter may go on refusing after the fault is mended; it must be opened again.
    """
    meter = trial.open(opening)
    assert meter is not None, trial.errors
    try:
        for _ in range(2):
            advance()
            assert trial.read(meter), trial.errors
        inject()
        for _ in range(3):
            advance()
            trial.read(meter)
        mend()
        answered = []
        for _ in range(6):
            advance()
            answered.append(trial.read(meter))
    finally:
        with time_limit():
            meter.close()
    assert all(answered[-2:]) or (lasting and not any(answered)), trial.errors[-1:]
    return trial.check()


def open_spoilt(
    trial: Trial,
    opening: Callable[[], EnergyMeter],
    advance: Callable[[], None],
    inject: Callable[[], None],
    mend: Callable[[], None],
) -> Outcome:
    """Inject a fault, open the meter; where it opens, mend and judge every reading."""
    inject()
    meter = trial.open(opening)
    mend()
    if meter is None:
        return trial.check()
    try:
        for _ in range(5):
            advance()
            trial.read(meter)
    finally:
        with time_limit():
            meter.close()
    return trial.check()
