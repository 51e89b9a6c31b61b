"""What the DDP hook keeps on one rank: residuals, budget, and what was spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from costmodels.costfile import CostFile
from cwmp.codec import encode
from cwmp.feedback import ErrorFeedback, as_received
from cwmp.integrations.arguments import AnyBudget, Rule, budget_of, rule_of
from cwmp.integrations.exchange import Outcome
from cwmp.integrations.prices import prices_of
from cwmp.payload import PayloadLayout, ValueType
from cwmp.selectors import CostWeighted
from cwmp.selectors.costs import LayerPrice, SelectionCosts
from cwmp.selectors.fit import prepared
from profiler.errors import InputError, LayerMismatchError
from profiler.layers import layers_of


@dataclass(frozen=True)
class Bucket:
    """What the layers of one bucket are sent with.

    Attributes:
        layout: of its messages.
        feedback: its selector, with what waits in these layers.
        budget_j: its share of a round.
        dense_j: what sending all of it declares.
    """

    layout: PayloadLayout
    feedback: ErrorFeedback
    budget_j: float
    dense_j: float


class CwmpState:
    """What `cwmp_hook` keeps on one rank: the residual, the budget, and what was spent.

    Args:
        model: the module that trains, before or after it is wrapped in DDP.
        costs: prices of its trainable parameters, by their names in ``named_parameters()``;
            layers that do not train are left out.
        budget: of one rank and round: a share of the dense cost (``"10%"``) or joules
            (``"2 mJ"`` or
            ``0.002``), for all buckets together.
        rule: makes the selector of a bucket from its costs, e.g. the class `TopK`.
        process_group: as DDP's; ``None`` for the default group.
        start_after: rounds with dense all-reduce before selection starts.
        value_type: the type of values on the wire; what it loses waits in the residual.
        seed: of rules that draw; each rank draws its own numbers.

    Attributes:
        rounds: backward passes so far.
        bytes_sent: by this rank: payloads, and gradients of dense rounds as they are. The
            collective pads payloads to the longest of all ranks and adds 16 bytes a bucket.
        energy_j: declared joules of this rank's messages, dense rounds included: what sending
            the selections and applying them entry by entry costs at a receiver that works so.
            The optimizer's step on DDP's bucket, which is dense again, is not in it.

    Raises:
        LayerMismatchError: a trainable parameter has no price, or one of another shape.
        BudgetError: a budget that cannot be spent.
        InputError: a negative *start_after*, or a rule that makes no selectors.
    """

    def __init__(
        self,
        model: nn.Module,
        costs: CostFile | SelectionCosts,
        budget: AnyBudget,
        rule: Rule = CostWeighted,
        *,
        process_group: Any = None,
        start_after: int = 0,
        value_type: ValueType = "float32",
        seed: int = 0,
    ) -> None:
        if start_after < 0:
            raise InputError(f"start_after is {start_after}; dense rounds are 0 or more")
        module = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
        shapes = {layer.name: layer.shape for layer in layers_of(module)}
        self.costs = prices_of(PayloadLayout(shapes, value_type=value_type), prepared(costs))
        self.budget = budget_of(budget)
        self.budget_j = self.budget.joules(self.costs.dense_j)
        self.costs.check_budget(self.budget_j)
        self.rule = rule_of(rule)
        self.process_group = process_group
        self.start_after = start_after
        self.value_type: ValueType = value_type
        self.seed = seed
        self.rounds = 0
        self.bytes_sent = 0
        self.energy_j = 0.0
        # The parameters themselves are kept so that their ids stay theirs.
        self._names = {id(p): (name, p) for name, p in module.named_parameters()}
        self._buckets: dict[tuple[str, ...], Bucket] = {}
        self._waiting: dict[str, NDArray[np.float32]] = {}
        self._draws: np.random.Generator | None = None

    def __repr__(self) -> str:
        return (
            f"CwmpState(budget={str(self.budget)!r}, rule={self.rule!r}, "
            f"start_after={self.start_after}, value_type={self.value_type!r}, seed={self.seed})"
        )

    @property
    def residual_norm(self) -> float:
        """sqrt(sum e^2) over all layers of this rank."""
        squares = [np.square(e, dtype=np.float64).sum() for e in self._residual().values()]
        return float(np.sqrt(sum(squares)))

    def state_dict(self) -> dict[str, Any]:
        """This rank's residual by layer, as tensors on the CPU, and its counts; save one a rank.

        There is nothing else in it, so that ``torch.load`` takes it with ``weights_only=True``.
        """
        return {
            "residual": {name: torch.from_numpy(e.copy()) for name, e in self._residual().items()},
            "rounds": self.rounds,
            "bytes_sent": self.bytes_sent,
            "energy_j": self.energy_j,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave on this rank; its residual as tensors or arrays.

        Raises:
            LayerMismatchError, UpdateError: a residual of another model, or with NaN.
            InputError: counts are missing.
        """
        missing = {"residual", "rounds", "bytes_sent", "energy_j"} - state.keys()
        if missing:
            raise InputError(f"the state to load lacks {min(missing)!r}: load a whole state_dict()")
        checked = ErrorFeedback(self.rule(self.costs))
        residual = dict(state["residual"])
        if residual:  # layers that had no bucket yet wait with zeros
            checked.load_state_dict(self._zeros(self.costs.layers) | residual)
        self._buckets.clear()
        self._waiting = checked.state_dict()
        self.rounds = int(state["rounds"])
        self.bytes_sent = int(state["bytes_sent"])
        self.energy_j = float(state["energy_j"])

    def _residual(self) -> dict[str, NDArray[np.float32]]:
        held = dict(self._waiting)
        for bucket in self._buckets.values():
            held |= bucket.feedback.state_dict()
        return held

    def _zeros(self, layers: Sequence[LayerPrice]) -> dict[str, NDArray[np.float32]]:
        return {layer.name: np.zeros(layer.shape, np.float32) for layer in layers}

    def names_of(self, parameters: Sequence[Tensor]) -> tuple[str, ...]:
        """The layers that *parameters* are.

        Raises:
            LayerMismatchError: one is not the model's.
        """
        unknown = [tuple(p.shape) for p in parameters if id(p) not in self._names]
        if unknown:
            raise LayerMismatchError(
                f"DDP reduces a parameter of shape {unknown[0]} that the state's model lacks: "
                "give CwmpState the module that DDP wraps"
            )
        return tuple(self._names[id(p)][0] for p in parameters)

    def bucket(self, names: Sequence[str]) -> Bucket:
        """The bucket of these layers; made anew, with their residuals, when DDP regroups them."""
        wanted = set(names)
        ordered = tuple(layer.name for layer in self.costs.layers if layer.name in wanted)
        if ordered not in self._buckets:
            regrouped = [held for held in self._buckets if not wanted.isdisjoint(held)]
            for held in regrouped:
                self._waiting |= self._buckets.pop(held).feedback.state_dict()
            self._buckets[ordered] = self._made(ordered)
        return self._buckets[ordered]

    def _made(self, names: tuple[str, ...]) -> Bucket:
        priced = {layer.name: layer for layer in self.costs.layers}
        layers = tuple(priced[name] for name in names)
        layout = PayloadLayout({x.name: x.shape for x in layers}, value_type=self.value_type)
        costs = SelectionCosts(layers, self.costs.message_j)
        share = SelectionCosts(layers).dense_j / SelectionCosts(self.costs.layers).dense_j
        feedback = ErrorFeedback(self.rule(costs), as_received(self.value_type))
        feedback.load_state_dict(
            {n: self._waiting.pop(n, zeros) for n, zeros in self._zeros(layers).items()}
        )
        return Bucket(layout, feedback, share * self.budget_j, costs.dense_j)

    def _generator(self) -> np.random.Generator:
        if self._draws is None:
            rank = dist.get_rank(self.process_group)
            self._draws = np.random.default_rng([self.seed, rank])
        return self._draws

    def outcome(self, bucket: Bucket, gradients: Mapping[str, Tensor]) -> Outcome:
        """This rank's payload, counted; or why there is none, with the residual as it was."""
        try:
            selection = bucket.feedback.select(
                gradients, bucket.budget_j, generator=self._generator()
            )
            payload = encode(selection.layers, bucket.layout)
        except Exception as error:  # the other ranks wait for word, whatever went wrong here
            return Outcome.of_error(error)
        self.bytes_sent += len(payload)
        self.energy_j += float(selection.energy_j)
        return Outcome(payload)
