"""Hard threshold with error feedback (Sahu et al. 2021, arXiv 2108.00951).

The paper asks for the smallest total error sum over rounds of |e_t|^2 at a given traffic of the
whole run, and finds that one absolute threshold h for all rounds beats a fixed k a round::

    u = e + g;   send u where |u| >= h;   e <- u where it is not sent

**How h follows from a joule budget.** The authors' code takes h = 1 / (2 sqrt k), k being the
entries to send a round; updates are not of norm 1 here, so that a client's first update sets the
scale: h = |g_1| / (2 sqrt k_1), with k_1 the entries that Top-K sends of it at the budget. Then h
stays. ``hard:H`` gives h itself.

**How the budget holds.** A client keeps an account: each of its rounds adds the budget B, what
it sends is taken out. A round sends what passes h, or if the account does not pay for that the
largest of it that fit; so after t rounds at most t B joules are declared, while a single round
may declare more than B from what quiet rounds left over. A layer that goes out dense is sent
whole, as everywhere: the rest of it rides for free. A round in which nothing passes sends the
empty message.

The total error so far, sum of |e_t|^2 over the client's rounds, is in its memory
(`HardThreshold.account`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cwmp.fl.algorithms.arguments import at_most, number, refuse_feedback
from cwmp.fl.algorithms.base import ClientTask, Memory
from cwmp.fl.algorithms.setting import MethodName, Setting
from cwmp.fl.algorithms.sparse import SparseAveraging
from cwmp.fl.training import LocalResult
from cwmp.selection import LayerSelection, Selection
from cwmp.selectors.top_k import TopK
from cwmp.selectors.updates import sum_of_squares

_USAGE = "hard or hard:H with a threshold above 0, such as hard:0.001"
_ACCOUNT, _WAITING = "account", "waiting."

Arrays = dict[str, NDArray[np.float32]]


class Account(NamedTuple):
    """What a client knows of its run so far.

    Attributes:
        threshold: h; 0 before the first update.
        rounds: that it took part in.
        spent_j: joules declared in them.
        total_error: sum over them of |e_t|^2, e_t what waits after a round.
    """

    threshold: float = 0.0
    rounds: float = 0.0
    spent_j: float = 0.0
    total_error: float = 0.0


@dataclass(frozen=True)
class HardThreshold(SparseAveraging):
    """Averaging of what passes an absolute threshold.

    Attributes:
        threshold: h; ``None`` takes it from the budget and a client's first update.

    A client remembers ``account`` (`Account`) and ``waiting.LAYER``, e of each layer.
    """

    threshold: float | None = None

    @staticmethod
    def account(memory: Memory) -> Account:
        """What a client's *memory* says of its run."""
        held = memory.get(_ACCOUNT)
        return Account() if held is None else Account(*(float(x) for x in held))

    def _select(self, local: LocalResult, task: ClientTask) -> tuple[Selection, Memory]:
        account = self.account(task.memory)
        waiting: Arrays = {}
        with np.errstate(over="ignore", invalid="ignore"):  # the selector refuses these
            for name, update in local.delta.items():
                kept = task.memory.get(_WAITING + name)
                waiting[name] = update.copy() if kept is None else kept + update
        h = account.threshold or self._first_threshold(waiting)
        chosen = self._passing(waiting, h, (account.rounds + 1) * self.budget_j - account.spent_j)
        left = {name: array.copy() for name, array in waiting.items()}
        for layer in chosen.layers:
            left[layer.name].reshape(-1)[layer.indices] = 0
        error = sum(sum_of_squares(array) for array in left.values())
        now = Account(
            h,
            account.rounds + 1,
            account.spent_j + chosen.energy_j,
            account.total_error + error,
        )
        memory = {_ACCOUNT: np.array(now), **{_WAITING + n: array for n, array in left.items()}}
        return chosen, memory

    def _first_threshold(self, update: Arrays) -> float:
        """|g| / (2 sqrt k), k what Top-K keeps at the budget; the least float for no update."""
        if self.threshold is not None:
            return self.threshold
        chosen = self.selector.select(update, self.budget_j)
        return max(sqrt(chosen.total) / (2 * sqrt(max(chosen.entries, 1))), 1e-300)

    def _passing(self, waiting: Arrays, h: float, allowed_j: float) -> Selection:
        """What passes *h*, or the largest of it for *allowed_j*; dense layers hold all they can."""
        limit = np.float64(h)
        passing = {
            name: np.where(np.abs(array) >= limit, array, np.float32(0))
            for name, array in waiting.items()
        }
        whole = sum(sum_of_squares(array) for array in waiting.values())
        self.costs.check_budget(self.budget_j)
        if not any(array.any() for array in passing.values()):
            self.selector.select(waiting, self.budget_j)  # refuses NaN
            return Selection((), self.costs.message_j, allowed_j, 0.0, whole)
        chosen = self.selector.select(passing, min(allowed_j, self.costs.dense_j))
        layers = tuple(_riding(layer, waiting) for layer in chosen.layers)
        captured = sum(sum_of_squares(layer.values) for layer in layers)
        return replace(chosen, layers=layers, captured=captured, total=whole)


def _riding(layer: LayerSelection, waiting: Arrays) -> LayerSelection:
    """*layer*; where it goes out dense, with all that waits in it."""
    if layer.form != "dense":
        return layer
    values = waiting[layer.name].reshape(-1)
    return replace(layer, indices=np.arange(prod(layer.shape)), values=values)


def make(name: MethodName, setting: Setting) -> HardThreshold:
    """``hard[:H]``.

    Raises:
        InputError: arguments that are not these, or feedback: e is one.
    """
    refuse_feedback(name, "error feedback is part of it")
    given = at_most(name, 1, _USAGE)
    threshold = number(given[0], 1e-300, float("inf"), name, _USAGE) if given else None
    return HardThreshold(
        TopK(setting.costs),
        setting.budget_j,
        setting.costs,
        setting.layout,
        threshold=threshold,
    )
