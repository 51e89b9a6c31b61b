"""Deep Gradient Compression (Lin et al. 2018, arXiv 1712.01887), over local updates.

Per client and entry, with g its local update, m and v zero at first::

    m <- mu m + g          momentum correction
    v <- v + m             what waits, velocity included
    send v where |v| is among the largest; m <- 0 and v <- 0 there   (momentum factor masking)

mu = 0 is Top-K with error feedback, bit for bit. The largest are exact and global, as many as
the joules pay for: the paper's sample of 1 % is a way to find them fast, not another rule, and its
clipping of gradients is left to the training plan. A step that comes round again and again moves
the model by 1 / (1 - mu) of it in the long run, as momentum does: choose the learning rate with
that in mind.

Warm-up: the paper lowers the density from 25 % exponentially over the first epochs. With W rounds
of warm-up (``dgc:MOMENTUM,W``) round t <= W may spend D (B/D)^(t/(W+1)) joules, from the dense
cost D down to the budget B. Those rounds declare more than B, so that W is 0 by default, and in
comparisons at equal joules a round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cwmp.fl.algorithms.arguments import at_most, number, refuse_feedback
from cwmp.fl.algorithms.base import ClientTask, Memory
from cwmp.fl.algorithms.setting import MethodName, Setting
from cwmp.fl.algorithms.sparse import SparseAveraging
from cwmp.fl.training import LocalResult
from cwmp.selection import Selection
from cwmp.selectors.top_k import TopK

_USAGE = "dgc, dgc:MOMENTUM or dgc:MOMENTUM,ROUNDS, such as dgc:0.9 or dgc:0.9,4"
_MOMENTUM, _WAITING = "momentum.", "waiting."


@dataclass(frozen=True)
class DeepGradientCompression(SparseAveraging):
    """Averaging of the largest entries of accumulated velocities.

    Attributes:
        momentum: mu, in [0, 1).
        warm_up: rounds until the budget is down to `budget_j`.

    A client remembers ``momentum.LAYER`` and ``waiting.LAYER``, m and v of each layer.
    """

    momentum: float = 0.9
    warm_up: int = 0

    def round_budget_j(self, round_number: int) -> float:
        """Joules that a client may declare in a round: D (B/D)^(t/(W+1)), B after the warm-up."""
        dense_j = self.costs.dense_j
        if round_number > self.warm_up or self.budget_j >= dense_j:
            return self.budget_j
        share = (self.budget_j / dense_j) ** (round_number / (self.warm_up + 1))
        return float(dense_j * share)

    def _select(self, local: LocalResult, task: ClientTask) -> tuple[Selection, Memory]:
        mu = np.float32(self.momentum)
        velocity, waiting = {}, {}
        with np.errstate(over="ignore", invalid="ignore"):  # the selector refuses these
            for name, update in local.delta.items():
                before = task.memory.get(_MOMENTUM + name)
                velocity[name] = update.copy() if before is None else mu * before + update
                kept = task.memory.get(_WAITING + name)
                waiting[name] = velocity[name].copy() if kept is None else kept + velocity[name]
        chosen = self.selector.select(waiting, self.round_budget_j(task.round))
        left = {name: array.copy() for name, array in waiting.items()}
        for layer in chosen.layers:
            velocity[layer.name].reshape(-1)[layer.indices] = 0
            left[layer.name].reshape(-1)[layer.indices] = 0
        memory = {_MOMENTUM + name: array for name, array in velocity.items()}
        return chosen, memory | {_WAITING + name: array for name, array in left.items()}


def make(name: MethodName, setting: Setting) -> DeepGradientCompression:
    """``dgc[:MOMENTUM[,ROUNDS]]``, momentum 0.9 and no warm-up by default.

    Raises:
        InputError: arguments that are not these, or feedback: v is one.
    """
    refuse_feedback(name, "it has its own memory of what is not sent")
    given = at_most(name, 2, _USAGE)
    momentum = number(given[0], 0, 1, name, _USAGE) if given else 0.9
    warm_up = number(given[1], 0, 1e6, name, _USAGE) if len(given) > 1 else 0
    return DeepGradientCompression(
        TopK(setting.costs),
        setting.budget_j,
        setting.costs,
        setting.layout,
        momentum=momentum,
        warm_up=int(warm_up),
    )
