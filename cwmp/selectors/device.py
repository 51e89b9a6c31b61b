"""The search over an update that lives on a GPU: it stays there, the host decides.

The device proposes an interval of scores and gathers what reaches it; one copy brings counts
and the entries in doubt to the host, where `cwmp.kernels.crossing` finds the cut, as it does for
updates in memory; the device then gathers what the cut keeps. So the selection is the same on
both, whatever the device proposes and however it rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cwmp.kernels import cuda
from cwmp.kernels.crossing import Cut, longest_prefix
from cwmp.kernels.cuda_bracket import Charges, Sampler
from cwmp.kernels.energy import message_energy
from cwmp.kernels.keep import Kept
from cwmp.kernels.magnitudes import ALL_BITS, Bits, Floats, threshold_bits
from cwmp.kernels.sample import Lines
from cwmp.kernels.scan import FLOAT32, Candidates, Chunks, Sources
from cwmp.kernels.simd import INFINITY_BITS
from cwmp.kernels.vectors import LANES
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.device_reading import DeviceReading, on_host
from cwmp.selectors.reading import TORCH_KINDS, Reading
from cwmp.selectors.search import Pass, Search

if TYPE_CHECKING:
    from torch import Tensor, device

_TURNS = 5
_WIDER = 0.5
_SPARE = 2**15
_NO_LIMIT = 0x7FFFFFFF


@dataclass
class DeviceCandidates(Candidates):
    """Candidates, one chunk a layer; on the device, or here where `memory_here` is set.

    Attributes:
        gathered: the pairs on the device.
        number: how many there are, whether they found room or not.
        memory_here: what the addresses point into.
    """

    gathered: Any = None
    number: int = 0
    memory_here: tuple[Any, ...] = ()


@dataclass(frozen=True)
class _Look:
    """What one copy to the host has brought: all candidates counted, and those in doubt.

    Attributes:
        is_whole, has_band: whether all candidates found room, and all in doubt.
        more: what else was asked for.
    """

    found: DeviceCandidates
    band: DeviceCandidates
    is_whole: bool
    has_band: bool
    more: list[Any]


class DeviceSearch(Search):
    """A `Search` over updates on one device.

    Args:
        costs: prepared costs.
        where: the device.
        threads: of what is left to the host.
    """

    def __init__(self, costs: SelectionCosts, where: device, threads: int | None = None) -> None:
        super().__init__(costs, threads)
        sizes = self.table.parameters.tolist()
        self.layout = cuda.Layout(sizes, where)
        self.sampler = Sampler(self.layout)
        self.charges = Charges(self.table, costs.message_j, where)
        self.layers = Chunks(
            np.arange(len(sizes)), np.zeros(len(sizes), dtype=np.int64), self.table.parameters
        )
        self.shares = (3.0, 0.25)

    def read(self, layers: Sequence[Tensor]) -> DeviceReading:
        """*layers* laid out on the device."""
        kind = np.array([TORCH_KINDS[str(layer.dtype)] for layer in layers], dtype=np.int8)
        nothing = np.zeros(kind.size, dtype=np.int64)
        rows = self.layout.lay_out(layers)
        return DeviceReading(Sources(nothing, kind, nothing), tuple(layers), (), rows, self)

    def prefix(self, reading: Reading, weights: Floats, budget_j: float) -> tuple[Pass, Cut]:
        """As `Search.prefix`: one wait for the device, seldom more.

        What the sample missed is looked at again with a wider interval. Where so many entries
        share a score that they are a large part of the update, it is copied to the host.
        """
        if not isinstance(reading, DeviceReading):
            return super().prefix(reading, weights, budget_j)
        there = cuda.on_device(weights, reading.rows)
        guess = self.sampler.guess(reading.rows, self.charges, there, budget_j)
        expected = self._expected(budget_j)
        room, band_room = self._rooms(expected)
        look = self._look(reading, guess.low, guess.high, (room, band_room), guess)
        (low, high), *proposed = (part.numpy() for part in look.more)
        bits = [_int32(threshold_bits(float(score), weights)) for score in (low, high)]
        agreed = all(np.array_equal(a, b) for a, b in zip(bits, proposed, strict=True))
        for turn in range(_TURNS):
            if look.is_whole and agreed:
                cut, low, high = self._cut(reading, look, (low, high), turn, weights, budget_j)
                if cut is not None:
                    self._learn(look, expected)
                    return self._passed(reading, look.found), cut
            elif look.found.number > max(4 * room, self.layout.entries // 4):
                break
            agreed, room = True, max(room, look.found.number)
            bits = [_int32(threshold_bits(float(score), weights)) for score in (low, high)]
            limits = [cuda.on_device(part, reading.rows) for part in bits]
            look = self._look(reading, limits[0], limits[1], (room, room))
        here = on_host(reading.holders, self.names, self.shapes)
        return super().prefix(here, weights, budget_j)

    def scan(self, reading: Reading, low: Bits, expected: int, tied: Bits | None = None) -> Pass:
        """As `Search.scan`, with the candidates brought to the host."""
        if not isinstance(reading, DeviceReading):
            return super().scan(reading, low, expected, tied)
        limit = cuda.on_device(_int32(low), reading.rows)
        room = min(self.layout.entries, expected + expected // 4 + _SPARE)
        look = self._look(reading, limit, None, (room, room))
        while not look.is_whole:
            room = look.found.number
            look = self._look(reading, limit, None, (room, room))
        return self._passed(reading, look.band)

    def sampled(self, reading: Reading) -> tuple[Sources, Lines]:
        """As `Search.sampled`: the lines copied to the host, one after another."""
        if not isinstance(reading, DeviceReading):
            return super().sampled(reading)
        lines = reading.rows.view(-1, LANES)[self._line_places]
        reading.brought[-1] = here = cuda.to_host([lines])[0]
        layers = len(self.names)
        address = np.full(layers, here.data_ptr(), dtype=np.int64)
        sources = Sources(
            address, np.full(layers, FLOAT32, dtype=np.int8), np.zeros(layers, dtype=np.int64)
        )
        start = LANES * np.arange(self.lines.start.size, dtype=np.int64)
        return sources, self.lines._replace(start=start)

    def kept(self, done: Pass, cut: Cut, dense: NDArray[np.bool_]) -> Kept:
        """As `Search.kept`: gathered on the device and copied, with the layers kept whole."""
        reading, found = done.reading, done.found
        if not isinstance(reading, DeviceReading):
            return super().kept(done, cut, dense)
        whole = np.flatnonzero(dense).tolist()
        layers = [reading.holders[number] for number in whole]
        if not isinstance(found, DeviceCandidates) or found.memory_here:
            if layers:
                reading.brought.update(zip(whole, cuda.to_host(layers), strict=True))
            return super().kept(done, cut, dense)
        pairs, counts = self.pairs(reading, found, cut, dense)
        here = cuda.to_host([*pairs, *layers]) if pairs or layers else []
        reading.brought.update(zip(whole, here[len(pairs) :], strict=True))
        index, value, squares = (part.numpy() for part in here[:3]) if pairs else _NOTHING
        ends = np.concatenate(([0], np.cumsum(counts)))
        return Kept(index, value, ends, cuda.layer_squares(squares, value, ends))

    def pairs(
        self,
        reading: DeviceReading,
        found: DeviceCandidates,
        cut: Cut,
        dense: NDArray[np.bool_],
    ) -> tuple[cuda.Pairs | tuple[()], NDArray[np.int64]]:
        """What *cut* keeps of layers that are not *dense*, on the device; how much of each."""
        counts = np.where(dense, 0, cut.counts)
        number = int(counts.sum())
        if number == 0:
            return (), counts
        low = cuda.on_device(_int32(np.where(dense, ALL_BITS, cut.low)), reading.rows)
        limit = cuda.on_device(np.where(dense, 0, cut.tie_limit), reading.rows)
        return cuda.keep(found.gathered, self.layout, low, limit, number), counts

    def _look(
        self,
        reading: DeviceReading,
        low: Tensor,
        high: Tensor | None,
        rooms: tuple[int, int],
        more: Sequence[Tensor] = (),
    ) -> _Look:
        """Gather what reaches *low*, and bring what lies under *high* to the host."""
        found, sums = cuda.collect(reading.rows, self.layout, low, rooms[0])
        band = found if high is None else cuda.below(found, self.layout, high, rooms[1])
        index, value = cuda.pairs(band, self.layout)
        parts = [found.ends, found.number, band.ends, band.number, *sums, index, value, *more]
        here = cuda.to_host(parts)
        ends, number, band_ends, band_number, squares, largest = (x.numpy() for x in here[:6])
        first = self.layout.row_starts[:-1]
        layer_sums = (
            np.add.reduceat(squares, first),
            np.maximum.reduceat(largest, first).astype(np.uint32),
        )
        counted = self._candidates(np.diff(ends, prepend=0), *layer_sums)
        counted.gathered, counted.number = found, int(number[0])
        doubtful = self._candidates(np.diff(band_ends, prepend=0), *layer_sums)
        doubtful.gathered, doubtful.number = band, int(band_number[0])
        doubtful = self._held(doubtful, here[6], here[7])
        if doubtful.largest.max() >= INFINITY_BITS:
            reading.check_finite(self.names)
        fits = counted.number <= rooms[0], doubtful.number <= rooms[1]
        return _Look(counted, doubtful, *fits, here[8:])

    def _candidates(
        self, count: NDArray[np.int64], squares: Floats, largest: Bits
    ) -> DeviceCandidates:
        nowhere = np.zeros_like(count)
        return DeviceCandidates(
            self.layers, nowhere, nowhere, count, squares, np.zeros_like(count), largest
        )

    def _passed(self, reading: DeviceReading, found: DeviceCandidates) -> Pass:
        return Pass(reading, found, found.squares)

    def _cut(
        self,
        reading: DeviceReading,
        look: _Look,
        interval: tuple[float, float],
        turn: int,
        weights: Floats,
        budget_j: float,
    ) -> tuple[Cut | None, float, float]:
        """The cut; where the budget does not end in *interval*, the one to look at next."""
        low, high = interval
        budget = (weights, self.table, self.costs.message_j, budget_j)
        found, band = look.found, look.band
        sure = found.count - band.count
        if not look.has_band:
            band = self._fetched(found)
            found, sure = band, np.zeros_like(sure)
        cut = longest_prefix(found, band, *budget)
        if cut is not None:
            return cut, low, high
        if message_energy(self.table, self.costs.message_j, sure) > budget_j:
            return None, high, np.inf
        if low == 0:  # all that is not zero fits
            count = look.found.count
            return Cut(threshold_bits(0.0, weights), np.zeros_like(count), count), low, high
        return None, low * _WIDER if turn < _TURNS - 2 else 0.0, low

    def _fetched(self, found: DeviceCandidates) -> DeviceCandidates:
        """*found* with its pairs on the host."""
        index, value = cuda.pairs(found.gathered, self.layout)
        return self._held(found, *cuda.to_host([index[: found.number], value[: found.number]]))

    def _held(self, found: DeviceCandidates, index: Tensor, value: Tensor) -> DeviceCandidates:
        offset = 4 * (np.cumsum(found.count) - found.count)
        return replace(
            found,
            index_at=index.data_ptr() + offset,
            value_at=value.data_ptr() + offset,
            memory_here=(index, value),
        )

    def _expected(self, budget_j: float) -> int:
        """Entries that the budget pays for where every layer keeps the same share."""
        sizes = self.table.parameters
        fits, too_many = 0.0, 1.0
        for _ in range(24):
            share = (fits + too_many) / 2
            counts = np.ceil(share * sizes).astype(np.int64)
            if message_energy(self.table, self.costs.message_j, counts) <= budget_j:
                fits = share
            else:
                too_many = share
        return int(too_many * sizes.sum())

    def _rooms(self, expected: int) -> tuple[int, int]:
        """Room for candidates and for those in doubt, as rounds before have needed it."""
        of_expected, of_found = self.shares
        room = min(self.layout.entries, int(of_expected * expected) + _SPARE)
        return room, min(room, int(of_found * room) + _SPARE)

    def _learn(self, look: _Look, expected: int) -> None:
        number, doubtful = look.found.number, look.band.number
        self.shares = (1.25 * number / max(expected, 1), 1.5 * doubtful / max(number, 1))

    @cached_property
    def _line_places(self) -> Tensor:
        places = (self.layout.starts[self.lines.layer] + self.lines.start) // LANES
        return cuda.on_device(places, self.layout.first)


def prefix_on_device(
    search: DeviceSearch, layers: Sequence[Tensor], weights: Floats, budget_j: float
) -> dict[str, tuple[Tensor, Tensor]] | None:
    """The longest prefix of falling |g| / w_l within the budget, left on the device.

    Args:
        layers: tensors on the search's device, of the costs' shapes and in their order.
        weights: w_l, as for `cwmp.selectors.prefix.select_prefix`.

    Returns:
        Name -> (positions as int32, values as float32) of the layers that keep something;
        ``None`` where so many entries share a score that the host would have to read them all.

    Raises:
        UpdateError: the update holds NaN or inf.
    """
    reading = search.read([layer.detach() for layer in layers])
    done, cut = search.prefix(reading, search.affordable(weights, budget_j), budget_j)
    if not isinstance(done.found, DeviceCandidates):
        return None
    pairs, counts = search.pairs(reading, done.found, cut, np.zeros(weights.size, dtype=np.bool_))
    ends = np.cumsum(counts)
    return {
        search.names[number]: (pairs[0][begin:end], pairs[1][begin:end])
        for number, (begin, end) in enumerate(zip(ends - counts, ends, strict=True))
        if pairs and end > begin
    }


_NOTHING = (
    np.empty(0, dtype=np.int32),
    np.empty(0, dtype=np.float32),
    np.empty(0, dtype=np.float64),
)


def _int32(bits: Bits) -> NDArray[np.int32]:
    """Thresholds as the device compares them; what no magnitude reaches stays that."""
    return np.minimum(bits, _NO_LIMIT).astype(np.int32)
