"""The search that every fast rule shares: read once, find the cut, collect what it keeps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cwmp.kernels.crossing import Cut, longest_prefix, threshold_bits
from cwmp.kernels.energy import dense_forms, energy_table, message_energy, opening_energies
from cwmp.kernels.keep import below, keep, per_layer
from cwmp.kernels.sample import bracket, lines_of
from cwmp.kernels.scan import (
    ALL_BITS,
    NO_BITS,
    Bits,
    Candidates,
    Floats,
    Scratch,
    chunks_of,
    scan,
)
from cwmp.kernels.simd import INFINITY_BITS
from cwmp.kernels.threads import threads_for
from cwmp.selection import LayerSelection, Selection
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.reading import Reading

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
        self.scratch = Scratch()

    def affordable(self, weights: Floats, budget_j: float) -> Floats:
        """*weights*, infinite for layers of which not one entry fits in the budget."""
        return np.where(self.costs.message_j + self.opening_j <= budget_j, weights, np.inf)

    def prefix(self, reading: Reading, weights: Floats, budget_j: float) -> tuple[Pass, Cut]:
        """The longest prefix of falling |g| / w_l within the budget: one pass, seldom two.

        Raises:
            UpdateError: the update holds NaN or inf.
        """
        message_j = self.costs.message_j
        guess = bracket(reading.sources, self.lines, weights, self.table, message_j, budget_j)
        score, expected = guess.low, guess.expected
        while True:
            low = threshold_bits(score, weights)
            done = self.scan(reading, low, expected)
            cut = self._cut(done.found, guess.high, weights, budget_j)
            if cut is None and score == 0:
                counts = per_layer(done.found, done.found.count, low.size).astype(np.int64)
                cut = Cut(low, np.zeros_like(counts), counts, done.found.count)
            if cut is not None:
                return done, cut
            self.release(done)
            reading = done.reading
            score = score * _WIDER if score > guess.low * _WIDER**3 else 0.0
            expected *= 2

    def scan(self, reading: Reading, low: Bits, expected: int) -> Pass:
        """Keep what reaches each layer's threshold *low*.

        Raises:
            UpdateError: the update holds NaN or inf.
        """
        lows = low[self.chunks.layer]
        high = np.where(lows == ALL_BITS, ALL_BITS, NO_BITS).astype(np.uint32)
        found = scan(
            reading.sources,
            self.chunks,
            lows,
            high,
            self.scratch,
            expected=expected,
            threads=self.threads,
        )
        if found.largest.max() >= INFINITY_BITS:
            reading.check_finite(self.names)
        return Pass(reading.summed(), found, per_layer(found, found.squares, low.size))

    def release(self, done: Pass) -> None:
        """Give the memory of a pass back; its candidates are gone."""
        self.scratch.give_back(done.found.memory)

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
        kept = keep(done.found, cut, self.threads)
        dense = dense_forms(self.table, cut.counts)
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
        return Selection(
            layers=tuple(layers),
            energy_j=message_energy(self.table, self.costs.message_j, counts),
            budget_j=budget_j,
            captured=captured,
            total=float(done.total.sum()),
            bound=bound,
            price=price,
        )

    def _cut(self, found: Candidates, score: float, weights: Floats, budget_j: float) -> Cut | None:
        """The prefix among *found*, where what scores *score* or more most probably fits."""
        budget = (weights, self.table, self.costs.message_j, budget_j)
        band = below(found, threshold_bits(score, weights), self.threads)
        return longest_prefix(found, band, *budget) or longest_prefix(found, found, *budget)
