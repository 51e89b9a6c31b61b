"""Scales from values to places on a picture, their ticks, and numbers as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from profiler.listing import quantity

_SPACE = "\u00a0"


@dataclass(frozen=True, slots=True)
class Scale:
    """From *low* .. *high* to *start* .. *end* (px), evenly or by the logarithm.

    >>> Scale(1.0, 100.0, 0.0, 200.0, log=True)(10.0)
    100.0
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        if self.log:
            share = log10(value / self.low) / log10(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def clipped(self, value: float) -> float:
        """The place of *value*, kept on the picture."""
        return self(min(max(value, self.low), self.high))

    def ticks(self, most: int = 7) -> list[float]:
        """Round values inside the scale, about *most* of them at most."""
        found = _log_ticks(self.low, self.high, most) if self.log else []
        return found if len(found) > 2 else self._even_ticks(most)

    def _even_ticks(self, most: int) -> list[float]:
        step = nice_step((self.high - self.low) / most)
        first, last = ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9)
        return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def scale_over(
    values: Sequence[float], start: float, end: float, *, log: bool = False, zero: bool = False
) -> Scale:
    """A scale that holds *values* with a little room; *zero* makes it start there.

    On a logarithmic scale values of 0 have no place: only the positive ones are held.
    """
    held = [value for value in values if value > 0] if log else list(values)
    low, high = (min(held), max(held)) if held else (1.0, 10.0)
    if log:
        room = max(10 ** (0.03 * log10(high / low)), 1.05)
        return Scale(low / room, high * room, start, end, log=True)
    low = min(low, 0.0) if zero else low
    room = 0.03 * (high - low) or 0.05 * abs(high) or 1.0
    return Scale(low if zero else low - room, high + room, start, end)


def nice_step(rough: float) -> float:
    """The least of 1, 2 and 5 times a power of ten that is not below *rough*."""
    power = 10.0 ** floor(log10(rough))
    return next(f * power for f in (1.0, 2.0, 5.0, 10.0) if f * power >= rough * (1 - 1e-9))


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    found: list[float] = []
    for steps in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), tuple(map(float, range(1, 10)))):
        ticks = [s * 10.0**d for d in decades for s in steps if low <= s * 10.0**d <= high]
        if len(ticks) > most and found:
            break
        found = ticks
    if len(found) > most:
        found = found[:: ceil(len(found) / most)]
    return found


def joules(value: float) -> str:
    """``2.35 mJ``, which no line breaks."""
    return quantity(value, "J").replace(" u", " µ").replace(" ", _SPACE)


def short_joules(value: float) -> str:
    """``20 mJ``: a tick needs no decimals that are zero."""
    figure, _, unit = joules(value).partition(_SPACE)
    return f"{float(figure):g}{_SPACE}{unit}"


def percent(share: float, digits: int = 3) -> str:
    """``81.3 %``."""
    return f"{100 * share:.{digits}g}{_SPACE}%"


def plain_number(value: float) -> str:
    """``1.25``, ``3e-05``."""
    return f"{value:.4g}"
