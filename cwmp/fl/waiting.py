"""How long a client is busy in a round, and how long it then waits for the slowest.

busy = catch-up and upload on the link + training + the rest of its work, with::

    link     bytes * 8 / R, or whole frames' time on air
    training example_s * examples where the device says how long one takes, else E_train / power_w
    rest     E / power_w: selecting and encoding

    waiting_i = max over the others of busy_j - busy_i, or 0

What comes after the slowest upload (the download and applying it) keeps all equally busy.
Limits of a wait are those of the busiest others less its own, each at its worst end: joules of
one cost file err together, so this is too wide, never too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from costmodels.composition.links import ASSUMED_FACTOR, BITS, Link
from costmodels.costfile import Origin
from cwmp.fl.ledger import Joules, weakest


class Seconds(NamedTuple):
    """A time with its interval and origin."""

    value: float
    low: float
    high: float
    origin: Origin = "modelled"

    def plus(self, other: Seconds) -> Seconds:
        """Both, limits added like values."""
        return Seconds(
            self.value + other.value,
            self.low + other.low,
            self.high + other.high,
            weakest((self.origin, other.origin)),
        )


NO_TIME = Seconds(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Transfer:
    """A link in one direction.

    Attributes:
        link: of the table.
        rate_bps: of the payload; ``None`` takes the link's, assumed to within a factor of 2.
    """

    link: Link
    rate_bps: float | None = None

    def seconds(self, payload_bytes: int) -> Seconds:
        """How long *payload_bytes* take; no time for none."""
        if payload_bytes == 0:
            return NO_TIME
        if self.link.frame is not None:
            on_air_s = self.link.airtime_s(payload_bytes)
            return Seconds(on_air_s, on_air_s, on_air_s)
        if self.rate_bps is not None:
            given_s = payload_bytes * BITS / self.rate_bps
            return Seconds(given_s, given_s, given_s)
        usual_s = self.link.airtime_s(payload_bytes)
        return Seconds(usual_s, usual_s / ASSUMED_FACTOR, usual_s * ASSUMED_FACTOR, "assumed")


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a device is.

    Attributes:
        power_w: watts that its cost file's joules are spent at while it computes.
        example_s: seconds an example trained; ``None`` takes them from the joules.
        uplink, downlink: ``None`` where transfers take no time that is known of.
    """

    power_w: float | None = None
    example_s: float | None = None
    uplink: Transfer | None = None
    downlink: Transfer | None = None

    def busy(
        self,
        trained: Joules | None,
        rest: Joules | None,
        *,
        examples: float,
        up_bytes: int,
        down_bytes: int,
    ) -> Seconds | None:
        """From being asked to the end of the upload; ``None`` where it is not known.

        Args:
            trained, rest: joules of training, and of selecting and encoding.
            examples: that went forward and backward.
            up_bytes: of the upload.
            down_bytes: of what had to be received first.
        """
        total = NO_TIME
        if self.example_s is not None:
            training_s = self.example_s * examples
            total = total.plus(Seconds(training_s, training_s, training_s))
            if self.power_w is not None and rest is not None:
                total = total.plus(_at(rest, self.power_w))
        elif self.power_w is None or trained is None or rest is None:
            return None
        else:
            total = _at(trained, self.power_w).plus(_at(rest, self.power_w))
        if self.uplink is not None:
            total = total.plus(self.uplink.seconds(up_bytes))
        if self.downlink is not None:
            total = total.plus(self.downlink.seconds(down_bytes))
        return total


def waits(busy: Sequence[Seconds]) -> list[Seconds]:
    """How long each waits for the slowest of the others; nobody waits alone."""
    value = _most_of_others([each.value for each in busy])
    low = _most_of_others([each.low for each in busy])
    high = _most_of_others([each.high for each in busy])
    origin = weakest(each.origin for each in busy) if busy else "modelled"
    return [
        Seconds(
            max(0.0, value[i] - own.value),
            max(0.0, low[i] - own.high),
            max(0.0, high[i] - own.low),
            origin,
        )
        for i, own in enumerate(busy)
    ]


def _most_of_others(values: Sequence[float]) -> list[float]:
    """For each place the largest value of the other places; 0 where there is none."""
    first = second = 0.0
    where = -1
    for place, value in enumerate(values):
        if value >= first:
            first, second, where = value, first, place
        elif value > second:
            second = value
    return [second if place == where else first for place in range(len(values))]


def _at(energy: Joules, power_w: float) -> Seconds:
    origin = weakest((energy.origin, "modelled"))
    return Seconds(energy.value / power_w, energy.low / power_w, energy.high / power_w, origin)
