"""What a method is made from, and how its name is written: ``NAME[:ARGUMENTS][+FEEDBACK]``.

``topk``, ``cwmp:1,1``, ``atomo:svd``, ``topk+ef``, ``cwmp+sapef:0.85``: arguments follow a colon,
separated by commas; what becomes of entries that are not sent follows a plus.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cwmp.fl.training import LocalPlan
from cwmp.payload import PayloadLayout
from cwmp.selectors.costs import SelectionCosts
from profiler.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

FEEDBACKS = ("none", "ef", "sapef", "saef")
_NAME = re.compile(r"[A-Za-z][\w.-]*")


@dataclass(frozen=True, slots=True)
class Feedback:
    """What becomes of what is not sent.

    Attributes:
        kind: ``none`` forgets it; ``ef`` adds it to the next update; ``sapef`` also starts
            the next local training a step alpha along it; ``saef`` is sapef with alpha = 1.
        alpha: in [0, 1]; 0 for none and ef.
    """

    kind: str = "none"
    alpha: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Feedback:
        """``none``, ``ef``, ``saef``, or ``sapef:ALPHA``.

        Raises:
            InputError: another name, or an alpha outside [0, 1].
        """
        kind, _, given = text.partition(":")
        if kind not in FEEDBACKS or (given and kind != "sapef"):
            raise InputError(
                f"unknown feedback {text!r}; choose none, ef, saef or sapef:ALPHA (such as "
                "sapef:0.85)"
            )
        if kind != "sapef":
            return cls(kind, 1.0 if kind == "saef" else 0.0)
        try:
            alpha = float(given)
        except ValueError:
            alpha = -1.0
        if not 0 <= alpha <= 1:
            raise InputError(f"sapef takes an alpha in [0, 1], such as sapef:0.85, not {text!r}")
        return cls(kind, alpha)

    @property
    def remembers(self) -> bool:
        """Whether a residual waits at the client."""
        return self.kind != "none"

    def __str__(self) -> str:
        return f"sapef:{self.alpha:g}" if self.kind == "sapef" else self.kind


@dataclass(frozen=True, slots=True)
class MethodName:
    """A method as it is written.

    Attributes:
        name: of the registry, or of an entry point.
        arguments: as written after the colon, separated by commas.
        feedback: of what is not sent.

    >>> MethodName.parse("cwmp:1,1+sapef:0.85")
    MethodName(name='cwmp', arguments=('1', '1'), feedback=Feedback(kind='sapef', alpha=0.85))
    """

    name: str
    arguments: tuple[str, ...] = ()
    feedback: Feedback = Feedback()

    @classmethod
    def parse(cls, text: str) -> MethodName:
        """Read a name; whether such a method exists is the registry's business.

        Raises:
            InputError: it is not written so.
        """
        method, plus, feedback = text.strip().partition("+")
        name, colon, given = method.partition(":")
        arguments = tuple(part.strip() for part in given.split(",")) if colon else ()
        if not _NAME.fullmatch(name) or not all(arguments) or (plus and not feedback):
            raise InputError(
                f"cannot read the method {text!r}: write NAME, NAME:ARGUMENTS or NAME+FEEDBACK, "
                "such as topk, cwmp:1,1 or topk+ef"
            )
        return cls(name, arguments, Feedback.parse(feedback) if plus else Feedback())

    def __str__(self) -> str:
        arguments = f":{','.join(self.arguments)}" if self.arguments else ""
        feedback = f"+{self.feedback}" if self.feedback.remembers else ""
        return f"{self.name}{arguments}{feedback}"


@dataclass(frozen=True)
class Setting:
    """What a method may know of the federation it is made for.

    Attributes:
        costs: the prices of the device that runs it.
        layout: the model's layers and buffers, float32 on the wire.
        budget_j: joules that a client may declare a round, for uplink and one update.
        plan: how clients train.
        clients: how many there are; ``per_round`` of them are asked each round.
        rounds: how many there will be.
        classes: labels of the data.
        public: examples that everybody has, without labels that anyone may use: (x, y) where
            the problem has some, for the methods that distil; y is for the server's own
            assessment (a reference set) and ``None`` where there is none.
        seed: of the run; what is shared by all (seeds of a population, random bases) follows
            from it.
        mean_budget_j: the mean of ``budget_j`` over clients, and
        dearest_j: the largest dense cost, where devices differ; ``None``: all are this one.
    """

    costs: SelectionCosts
    layout: PayloadLayout
    budget_j: float
    plan: LocalPlan = field(default_factory=LocalPlan)
    clients: int = 1
    per_round: int = 1
    rounds: int = 1
    classes: int = 10
    public: tuple[Tensor, Tensor] | None = None
    seed: int = 0
    mean_budget_j: float | None = None
    dearest_j: float | None = None
