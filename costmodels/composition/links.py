"""What sending bits over a link costs, by published figures; always ``modelled``.

A transfer of b bits at R bit/s over a radio that stays connected while it lasts::

    E(b) = (base + slope R) b / R + a          = (slope + base / R) b + a
    a    = fixed_j where the source gives it, else tail_w * tail_s, else not known

``fixed_j`` is the energy of sending one packet and nothing else: waking the radio, the packet and
the whole tail are in it. It is never added to the tail, so the tail is counted once. The packet
itself is in ``a`` and again in ``slope``: 1500 bytes of Wi-Fi, the worst case, are 3.6 of the
40 mJ. Two transfers closer together than the tail share one, so ``a`` each is then too much.

Radios that send in frames of a fixed rate (BLE, LoRa) are on for a frame's time on air whatever
the load: ``E(b) = base * airtime * b / payload + a``, where ``a`` is half a frame, 0 to 1, for
the last one that is not full.

``costmodels.composition.link_table.LINKS`` holds the links by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isfinite
from typing import Literal, NamedTuple

from profiler.errors import InputError

Direction = Literal["uplink", "downlink", "both"]
Verified = Literal["primary-data", "primary-doc", "primary-code", "secondary", "assumed"]
ASSUMED_FACTOR = 2.0
"""What another device and network may differ by, up and down: a judgement, not a measurement."""

BITS = 8


class Bounds(NamedTuple):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    def scaled(self, by: float) -> Bounds:
        """Each of the three times *by*."""
        return Bounds(self.value * by, self.low * by, self.high * by)

    def plus(self, other: Bounds) -> Bounds:
        """Limits added like values: never too narrow, whatever the errors have in common."""
        return Bounds(self.value + other.value, self.low + other.low, self.high + other.high)


@dataclass(frozen=True, slots=True)
class Figure:
    """A published number with the range its source gives, if it gives one."""

    value: float
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        low, high = self.low or self.value, self.high or self.value
        if not (0 < low <= self.value <= high and isfinite(high)):
            raise InputError(f"{self.value} is not positive or outside [{low}, {high}]")

    @property
    def has_range(self) -> bool:
        """Whether the source gives one."""
        return self.low is not None or self.high is not None

    def bounds(self, factor: float) -> Bounds:
        """The source's range, or the value alone, widened by *factor* up and down."""
        low, high = self.low or self.value, self.high or self.value
        return Bounds(self.value, low / factor, high * factor)


@dataclass(frozen=True, slots=True)
class Frame:
    """The most that a frame carries of one's own bytes, and how long it is on air."""

    payload_bytes: int
    airtime_s: float


@dataclass(frozen=True, slots=True)
class Link:
    """A link's published energies. Bits are those of the payload.

    Attributes:
        name, technology, direction, device: what was measured or specified.
        slope_j_per_bit: what a bit adds at any rate; ``None`` where power does not rise with it.
        base_w: power while the transfer lasts, whatever its rate.
        rate_bps: the rate taken where none is given: round and assumed, but of a framed link,
            whose radio has only this one.
        citation, verified: where the figures come from, and how they were checked: in the
            measured data, in a maker's document or code, second-hand, or ``assumed``.
        whole_device: ``base_w`` contains the rest of the phone, or is drawn without traffic too;
            then it is left out unless asked for, and only the slope is the transfer's.
        tail_s, tail_w: how long the radio stays up after the last bit, and at what power.
        fixed_j: J of one packet sent alone, its tail included.
        frame: of links that send in frames of a fixed rate.
        factor: by how much intervals are wider than the source's range, or than the figure where
            it gives none; 1 where the range is over many devices.
        left_out: what the figures do not contain.
    """

    name: str
    technology: str
    direction: Direction
    device: str
    slope_j_per_bit: Figure | None
    base_w: float | None
    rate_bps: float
    citation: str
    verified: Verified
    whole_device: bool = False
    tail_s: float | None = None
    tail_w: Figure | None = None
    fixed_j: float | None = None
    frame: Frame | None = None
    factor: float = ASSUMED_FACTOR
    left_out: str = ""

    @property
    def origin(self) -> Literal["modelled"]:
        """No link of the table was measured on the user's device."""
        return "modelled"

    def counts_base(self, include_base: bool | None = None) -> bool:
        """Whether ``base_w`` is counted; by default where it is the transfer's own."""
        wanted = not self.whole_device if include_base is None else include_base
        return wanted and self.base_w is not None

    def byte_j(self, rate_bps: float | None = None, *, include_base: bool | None = None) -> Bounds:
        """J a payload byte, ``8 (slope + base / R)``, with its 95 % interval.

        Args:
            rate_bps: R, the payload rate; ``None`` takes the link's.
            include_base: count ``base_w``; ``None`` counts it where it is the transfer's
                own.

        Raises:
            InputError: a rate that is not positive, or given to a link that has only one, or
                nothing left to count.
        """
        rate = self._rate(rate_bps)
        parts = []
        if self.slope_j_per_bit is not None:
            parts.append(self.slope_j_per_bit.bounds(self.factor).scaled(BITS))
        if self.base_w is not None and self.counts_base(include_base):
            a_byte_s = BITS / rate
            if self.frame is not None:
                a_byte_s = self.frame.airtime_s / self.frame.payload_bytes
            parts.append(Figure(self.base_w * a_byte_s).bounds(self.factor))
        if not parts:
            raise InputError(f"{self.name!r} has a base power and no slope: count the base power")
        return parts[0] if len(parts) == 1 else parts[0].plus(parts[1])

    def transfer_j(self) -> Bounds | None:
        """J a transfer costs before its first byte; ``None`` where that is not known."""
        if self.frame is not None and self.base_w is not None:
            frame_j = self.base_w * self.frame.airtime_s
            return Bounds(frame_j / 2, 0.0, frame_j * self.factor)
        if self.fixed_j is not None:
            return Figure(self.fixed_j).bounds(self.factor)
        if self.tail_w is not None and self.tail_s is not None:
            return self.tail_w.bounds(self.factor).scaled(self.tail_s)
        return None

    def energy_j(
        self, bits: float, rate_bps: float | None = None, *, include_base: bool | None = None
    ) -> float:
        """E(bits) of one transfer; 0 for nothing sent. What is not known of ``a`` is left out.

        Raises:
            InputError: negative bits, or as `byte_j`.
        """
        if not (isfinite(bits) and bits >= 0):
            raise InputError(f"a transfer of {bits} bits: give 0 or more")
        byte_j = self.byte_j(rate_bps, include_base=include_base).value
        fixed = self.transfer_j()
        return (fixed.value if fixed else 0.0) + byte_j * bits / BITS if bits else 0.0

    def airtime_s(self, payload_bytes: int) -> float:
        """Seconds on air of *payload_bytes*: whole frames, or bits at the link's rate.

        A LoRa radio that may be on air 1 % of the time needs a hundred times as long.
        """
        if self.frame is None:
            return payload_bytes * BITS / self.rate_bps
        return ceil(payload_bytes / self.frame.payload_bytes) * self.frame.airtime_s

    def _rate(self, rate_bps: float | None) -> float:
        if rate_bps is None:
            return self.rate_bps
        if self.frame is not None and rate_bps != self.rate_bps:
            raise InputError(
                f"{self.name!r} sends at {self.rate_bps:g} bit/s and nothing else: "
                "leave the rate out"
            )
        if not (isfinite(rate_bps) and rate_bps > 0):
            raise InputError(f"a rate of {rate_bps} bit/s; it must be a positive number")
        return rate_bps


def lora_airtime_s(
    spreading_factor: int, phy_bytes: int, *, bandwidth_hz: float = 125e3, coding: int = 1
) -> float:
    """Time on air of a LoRa frame with explicit header, CRC and 8 symbols of preamble.

    Semtech SX1276/77/78/79 datasheet, time on air: ``T = T_sym (8 + 4.25 + n)`` with
    ``T_sym = 2^SF / BW`` and ``n = 8 + max(ceil((8 PL - 4 SF + 44) / (4 (SF - 2 DE))), 0)
    (CR + 4)``; DE, the low data rate optimisation, is on from symbols of 16 ms.
    """
    symbol_s = 2.0**spreading_factor / bandwidth_hz
    slow = 2 * (symbol_s > 16e-3)
    blocks = ceil((8 * phy_bytes - 4 * spreading_factor + 44) / (4 * (spreading_factor - slow)))
    return symbol_s * (12.25 + 8 + max(blocks, 0) * (coding + 4))
