"""What clients say about their spending: a curve of joules against the price of energy.

A client that is told a price returns, with its payload, what it spent and what it would have
spent at a few prices around it: 24 numbers by default, 104 bytes. Curves add up, so that a
server (or any aggregator below it) holds one sum whatever the number of clients.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, isfinite, log

from cwmp.selection import Selection
from profiler.errors import InputError

_HEADER = struct.Struct("<2sBBf")
_MAGIC = b"SJ"
_VERSION = 1
_MOST_BINS = 255
_SLACK = 1e-6
"""By how much a curve may rise: rounding to float32, and nothing else."""


@dataclass(frozen=True, slots=True)
class PriceGrid:
    """The prices that clients answer for: evenly spaced in log, the broadcast one in the middle.

    Attributes:
        bins: how many, 2 to 255.
        ratio: each price over the one before, above 1. The grid reaches a factor of
            ratio^(bins / 2) up and down, and so does the price from one round to the next.

    Raises:
        InputError: bins or a ratio outside these limits.

    >>> PriceGrid(bins=4, ratio=2.0).prices(8.0)
    (2.0, 4.0, 8.0, 16.0)
    """

    bins: int = 24
    ratio: float = 1.5

    def __post_init__(self) -> None:
        if not 2 <= self.bins <= _MOST_BINS:
            raise InputError(f"a price grid has 2 to {_MOST_BINS} bins, not {self.bins}")
        if not 1 < self.ratio <= 16:
            raise InputError(f"the ratio of a price grid is above 1 and up to 16, not {self.ratio}")

    @property
    def centre(self) -> int:
        """Where the broadcast price stands in `prices`."""
        return self.bins // 2

    def prices(self, price: float) -> tuple[float, ...]:
        """The grid around *price*, ascending; shape (bins,)."""
        return tuple(price * self.ratio ** (bin - self.centre) for bin in range(self.bins))


@dataclass(frozen=True, slots=True)
class SpendReport:
    """One client's round: joules spent, and joules at each price of the grid.

    Attributes:
        client: its name, for messages about it.
        spent_j: joules that the round really cost it, by its meter if it has one.
        curve_j: declared joules at the grid's prices, never rising; shape (bins,).

    Raises:
        InputError: a number that is negative, NaN or infinite, or a curve that rises; the
            message names the client. Nothing of such a report may be added.

    >>> report = SpendReport("phone", spent_j=1.5, curve_j=(4.0, 1.5, 0.0))
    >>> len(report.to_bytes())
    20
    >>> SpendReport.from_bytes("phone", report.to_bytes()) == report
    True
    """

    client: str
    spent_j: float
    curve_j: tuple[float, ...]

    def __post_init__(self) -> None:
        for joules in (self.spent_j, *self.curve_j):
            if not (isfinite(joules) and joules >= 0):
                raise InputError(
                    f"client {self.client!r} reports {joules} J; refuse this report: joules are "
                    "finite and not negative"
                )
        for before, after in zip(self.curve_j, self.curve_j[1:], strict=False):
            if after > before * (1 + _SLACK):
                raise InputError(
                    f"client {self.client!r} reports a spend that rises with the price, from "
                    f"{before:.4g} J to {after:.4g} J; refuse this report"
                )

    @classmethod
    def of(
        cls,
        client: str,
        selection: Selection,
        curve_j: Sequence[float],
        *,
        cap_j: float | None = None,
        metered_j: float | None = None,
    ) -> SpendReport:
        """The report of a *selection*, with *curve_j* of `PriceSelector.spend_j`.

        Args:
            cap_j: the client's cap, above which no price makes it spend.
            metered_j: what a meter saw; ``None`` reports the declared joules.
        """
        spent_j = selection.energy_j if metered_j is None else metered_j
        capped = tuple(curve_j) if cap_j is None else tuple(min(j, cap_j) for j in curve_j)
        return cls(client, spent_j, capped)

    def to_bytes(self) -> bytes:
        """Header of 4 bytes, then spent and curve as little-endian float32: 8 + 4 bins bytes.

        Raises:
            InputError: joules beyond float32.
        """
        bins = len(self.curve_j)
        try:
            header = _HEADER.pack(_MAGIC, _VERSION, bins, self.spent_j)
            return header + struct.pack(f"<{bins}f", *self.curve_j)
        except (struct.error, OverflowError) as error:
            raise InputError(
                f"client {self.client!r} cannot report {bins} bins of up to "
                f"{max((self.spent_j, *self.curve_j)):.4g} J: {error}"
            ) from error

    @classmethod
    def from_bytes(cls, client: str, data: bytes) -> SpendReport:
        """Read what `to_bytes` wrote; *client* is who the connection says it is.

        Raises:
            InputError: not a report, cut short or too long, or values that cannot be.
        """
        if len(data) < _HEADER.size or data[:2] != _MAGIC:
            raise InputError(
                f"client {client!r} sent {len(data)} bytes that are no spend report; refuse them"
            )
        _, version, bins, spent_j = _HEADER.unpack_from(data)
        if version != _VERSION or len(data) != _HEADER.size + 4 * bins:
            raise InputError(
                f"client {client!r} sent a spend report of version {version} with {len(data)} "
                f"bytes for {bins} bins; refuse it"
            )
        return cls(client, spent_j, struct.unpack_from(f"<{bins}f", data, _HEADER.size))


@dataclass(frozen=True, slots=True)
class SpendTotal:
    """The sum of many reports; sums of sums are sums, so that aggregators can form a tree.

    Attributes:
        clients: how many reported.
        left_out: how many of them spent nothing.
        spent_j: joules spent by all.
        curve_j: joules of all at each price of the grid; shape (bins,).

    >>> phone, watch = SpendReport("phone", 1.5, (4.0, 1.5)), SpendReport("watch", 0.0, (1.0, 0.0))
    >>> SpendTotal.of(phone) + SpendTotal.of(watch)
    SpendTotal(clients=2, left_out=1, spent_j=1.5, curve_j=(5.0, 1.5))
    """

    clients: int
    left_out: int
    spent_j: float
    curve_j: tuple[float, ...]

    @classmethod
    def of(cls, report: SpendReport) -> SpendTotal:
        """The sum of one."""
        return cls(1, int(report.spent_j == 0), report.spent_j, report.curve_j)

    def __add__(self, other: SpendTotal) -> SpendTotal:
        pairs = zip(self.curve_j, other.curve_j, strict=True)
        return SpendTotal(
            self.clients + other.clients,
            self.left_out + other.left_out,
            self.spent_j + other.spent_j,
            tuple([one + two for one, two in pairs]),
        )


def solve(
    prices: Sequence[float], curve_j: Sequence[float], target_j: float
) -> tuple[float, float, bool]:
    """The price at which a falling curve spends *target_j*, by log-log interpolation.

    Never outside *prices*: above the curve the highest price that spends as much as the lowest
    one does (so that a price does not sink once everything is sent), below it the highest price.

    Returns:
        The price, the joules that the curve has there, and whether the target lay within.
    """
    if target_j > curve_j[0]:
        last = max(i for i, joules in enumerate(curve_j) if joules >= curve_j[0] * (1 - 1e-9))
        sated = curve_j[0] > 0
        # More than the two lowest prices spend alike: everything is sent, no price buys more.
        return prices[last if sated else 0], curve_j[0], sated and last > 1
    if target_j <= curve_j[-1]:
        return prices[-1], curve_j[-1], target_j == curve_j[-1]
    high = next(i for i, joules in enumerate(curve_j) if joules < target_j)
    more, less = curve_j[high - 1], curve_j[high]
    span = log(more) - log(less) if less > 0 else 0.0
    share = (log(more) - log(target_j)) / span if span > 0 else (more - target_j) / more
    step = log(prices[high] / prices[high - 1])
    return prices[high - 1] * exp(share * step), target_j, True
