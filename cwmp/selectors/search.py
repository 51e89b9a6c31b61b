"""The search that every fast rule shares: read once, find the cut, collect what it keeps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cwmp.kernels.crossing import Cut, chunk_thresholds, longest_prefix
from cwmp.kernels.energy import dense_forms, energy_table, message_energy, opening_energies
from cwmp.kernels.keep import Kept, below, keep, per_layer
from cwmp.kernels.magnitudes import ALL_BITS, Bits, Floats, threshold_bits
from cwmp.kernels.sample import TIE_WIDTH, Bracket, Lines, bracket, lines_of
from cwmp.kernels.scan import (
    Candidates,
    Integers,
    Scratch,
    Sources,
    Wanted,
    chunks_of,
    runs_of,
    scan,
)
from cwmp.kernels.simd import INFINITY_BITS
from cwmp.kernels.threads import threads_for
from cwmp.kernels.ties import cut_among_ties
from cwmp.selection import LayerSelection, Selection
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.reading import Reading
from profiler.errors import UpdateError

_WIDER = 0.6


@dataclass(frozen=True)
class Pass:
    """One pass over an update.

    Attributes:
        reading: the update; after a pass that added it to a residual, the residual.
        found: the candidates.
        total: sum of g^2 of each layer; shape (L,).
    """

    reading: Reading
    found: Candidates
    total: Floats


class Search:
    """Costs laid out for the kernels, once; scratch memory that rounds share.

    Args:
        costs: prepared costs.
        threads: of a pass; ``None`` for as many as pay.
    """

    def __init__(self, costs: SelectionCosts, threads: int | None = None) -> None:
        self.costs = costs
        self.names = [layer.name for layer in costs.layers]
        self.shapes = [layer.shape for layer in costs.layers]
        self.table = energy_table(costs)
        sizes = self.table.parameters.tolist()
        self.chunks = chunks_of(sizes)
        self.lines = lines_of(sizes)
        self.opening_j = opening_energies(self.table)
        self.threads = threads_for(sum(sizes), threads)
        self.runs = runs_of(self.chunks.size, self.threads)
        self.scratch = Scratch()

    def affordable(self, weights: Floats, budget_j: float) -> Floats:
        """*weights*, infinite for layers of which not one entry fits in the budget."""
        return np.where(self.costs.message_j + self.opening_j <= budget_j, weights, np.inf)

    def prefix(self, reading: Reading, weights: Floats, budget_j: float) -> tuple[Pass, Cut]:
        """The longest prefix of falling |g| / w_l within the budget: one pass, seldom two.

        Raises:
            UpdateError: the update holds NaN or inf.
        """
        budget = (weights, self.table, self.costs.message_j, budget_j)
        guess = bracket(reading.sources, self.lines, *budget)
        if guess.tied:
            done, cut = self._prefix_of_ties(reading, guess, weights, budget_j)
            if cut is not None:
                return done, cut
            self.release(done)
            reading = done.reading
        score, expected = guess.low, guess.expected
        while True:
            low = threshold_bits(score, weights)
            done = self.scan(reading, low, expected)
            band = below(
                done.found, threshold_bits(guess.high, weights), self.scratch, self.threads
            )
            cut = longest_prefix(done.found, band, *budget)
            done.found.memory.extend(band.memory)
            if cut is None:
                counts = per_layer(done.found, done.found.count, low.size).astype(np.int64)
                if not self._fits(counts, budget_j):  # what scores more than the band does not
                    cut = longest_prefix(done.found, done.found, *budget)
                elif score == 0:
                    cut = Cut(low, np.zeros_like(counts), counts, done.found.count)
            if cut is not None:
                return done, cut
            if score == 0:
                self._must_fit(counts, budget_j)
            self.release(done)
            reading = done.reading
            score = score * _WIDER if score > guess.low * _WIDER**3 else 0.0
            expected *= 2

    def largest(self, reading: Reading) -> float:
        """The largest |g| of the update alone, its residual left as it is.

        Raises:
            UpdateError: the update holds NaN or inf.
        """
        nothing = np.zeros(self.chunks.layer.size, dtype=np.uint32)
        wanted = Wanted(np.full_like(nothing, ALL_BITS), nothing, nothing)
        done = self._pass(reading.alone(), wanted, 0)
        self.release(done)
        return float(done.found.largest.max().view(np.float32))

    def scan(self, reading: Reading, low: Bits, expected: int, tied: Bits | None = None) -> Pass:
        """Keep what reaches each layer's threshold *low*, and count the magnitudes *tied*.

        Raises:
            UpdateError: the update holds NaN or inf.
        """
        layer = self.chunks.layer
        ties = np.zeros_like(low) if tied is None else tied
        wanted = Wanted(low[layer], ties[layer], np.where(ties > 0, ties + 1, 0)[layer])
        return self._pass(reading, wanted, expected)

    def _pass(self, reading: Reading, wanted: Wanted, expected: int) -> Pass:
        found = scan(
            reading.sources,
            self.chunks,
            wanted,
            self.scratch,
            expected=expected,
            runs=self.runs,
        )
        if found.largest.max() >= INFINITY_BITS:
            reading.check_finite(self.names)
            reading.summed().check_finite(self.names)
        total = per_layer(found, found.squares, self.table.parameters.size)
        return Pass(reading.summed(), found, total)

    def _prefix_of_ties(
        self, reading: Reading, guess: Bracket, weights: Floats, budget_j: float
    ) -> tuple[Pass, Cut | None]:
        """The prefix where very many entries share a score: they are counted, and a second pass
        collects those that are kept. No cut where the budget does not end among or above them.
        """
        low = threshold_bits(guess.tied, weights)
        above = threshold_bits(guess.tied * (1 + TIE_WIDTH), weights)
        budget = (weights, self.table, self.costs.message_j, budget_j)
        tied = np.where(above - low == 1, low, 0).astype(np.uint32)
        done = self.scan(reading, above, guess.expected // 8, tied)
        if (above - low > 1).any():
            return done, None
        cut = longest_prefix(done.found, done.found, *budget)
        if cut is not None:
            return done, cut
        cut = cut_among_ties(done.reading.sources, done.found, above, tied, *budget)
        if cut is None:
            return done, None
        chunks = self.chunks
        low, split = chunk_thresholds(
            chunks.layer, chunks.start, chunks.size, cut.low, cut.tie_limit
        )
        low = np.where(split >= 0, low - 1, low).astype(np.uint32)
        nothing = np.zeros_like(low)
        self.release(done)
        wanted = Wanted(low, nothing, nothing)
        return self._pass(done.reading, wanted, int(cut.counts.sum())), cut

    def release(self, done: Pass) -> None:
        """Give the memory of a pass back; its candidates are gone."""
        self.scratch.give_back(done.found.memory)

    def sampled(self, reading: Reading) -> tuple[Sources, Lines]:
        """Where the lines of a sample of *reading* lie."""
        return reading.sources, self.lines

    def kept(self, done: Pass, cut: Cut, dense: NDArray[np.bool_]) -> Kept:
        """What *cut* keeps; of layers that are *dense* it need not be listed."""
        return keep(done.found, cut, self.threads)

    def selection(
        self,
        done: Pass,
        cut: Cut,
        budget_j: float,
        *,
        bound: float | None = None,
        price: float | None = None,
    ) -> Selection:
        """What *cut* keeps; a layer that is cheaper as one dense vector is kept whole."""
        dense = dense_forms(self.table, cut.counts)
        kept = self.kept(done, cut, dense)
        captured, layers = 0.0, []
        for number in np.flatnonzero(cut.counts).tolist():
            part = slice(int(kept.ends[number]), int(kept.ends[number + 1]))
            name, shape = self.names[number], self.shapes[number]
            if dense[number]:
                values = done.reading.values(number).copy()
                index = np.arange(values.size, dtype=np.int32)
                layers.append(LayerSelection(name, shape, index, values, "dense"))
                captured += float(done.total[number])
            else:
                values = done.reading.narrowed(number, kept.value[part])
                layers.append(LayerSelection(name, shape, kept.index[part], values))
                captured += float(kept.captured[number])
        counts = np.where(dense, self.table.parameters, cut.counts)
        if budget_j > 0:  # price mode has none
            self._must_fit(np.where(dense, counts, np.diff(kept.ends)), budget_j)
        return Selection(
            layers=tuple(layers),
            energy_j=message_energy(self.table, self.costs.message_j, counts),
            budget_j=budget_j,
            captured=captured,
            total=float(done.total.sum()),
            bound=bound,
            price=price,
        )

    def _fits(self, counts: Integers, budget_j: float) -> bool:
        return message_energy(self.table, self.costs.message_j, counts) <= budget_j

    def _must_fit(self, counts: Integers, budget_j: float) -> None:
        """Raise rather than spend more than the budget, whatever went wrong before."""
        if not self._fits(counts, budget_j):
            raise UpdateError(
                "the entries of this update cannot be told apart by score, so that no selection "
                "within the budget was found: rescale it, or bring the costs closer together"
            )
