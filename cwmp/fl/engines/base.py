"""What an engine is: it moves bytes between clients and a server; it knows no method."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cwmp.fl.algorithms.base import Algorithm, Memory
from cwmp.fl.algorithms.team import Team
from cwmp.fl.rounds import Federation, RoundRecord
from cwmp.fl.training import ModelState


@dataclass(frozen=True)
class Standing:
    """Where a run stands between two rounds: all that the next one follows from.

    Attributes:
        round: the last one that ended; 0 before the first.
        state: the shared model.
        memories: what each client keeps, by client.
        messages: what the server last sent to one client alone, by client.
        server: what the server keeps.
        norm, buffer_norm: the largest median norm of a round's updates, and of the buffers
            sent, so far; ``None`` where there were none (`cwmp.fl.engines.guard`).
    """

    round: int
    state: ModelState
    memories: Mapping[int, Memory] = field(default_factory=dict)
    messages: Mapping[int, bytes] = field(default_factory=dict)
    server: Memory = field(default_factory=dict)
    norm: float | None = None
    buffer_norm: float | None = None


Available = Callable[[int, int], str]
"""(round, client) -> why the client cannot take part (``battery``); empty if it can."""

Keep = Callable[[Standing], None]
"""Called after each round, before its record is yielded."""


class Engine(Protocol):
    """Runs a federation round by round."""

    def run(
        self,
        federation: Federation,
        method: Algorithm | Team,
        *,
        available: Available | None = None,
        start: Standing | None = None,
        keep: Keep | None = None,
    ) -> Iterator[RoundRecord]:
        """Yield a record as each round ends, from where *start* left off.

        A client whose upload does not come or is refused is named in `RoundRecord.absent`, and
        the round goes on with the others. *available* is asked at the start of each round,
        after the record of the round before was taken.

        Raises:
            BudgetError: the method's budget opens no layer.
            UpdateError: training diverged.
            RoundError: a round in which no client's update arrived; the model is as the last
                round left it.
        """
        ...
