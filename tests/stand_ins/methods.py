"""The federated methods that the conformance suite runs, one row each.

A row says how to run a method on a small problem and which promises hold for it. Add yours to
`CASES`: a test checks that every registered name has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cwmp.fl.algorithms.setting import MethodName


@dataclass(frozen=True)
class MethodCase:
    """A method and what is expected of it.

    Attributes:
        method: as `cwmp.fl.algorithms.MethodName` writes it.
        budget: a share at which the method can run and learn.
        capped: whether each client's declared joules stay within the budget every round.
        too_little: joules at which it is infeasible; ``None`` for methods that no budget stops.
        job: what else the job needs (``public``, ``lr``, ...).
        learns_in: rounds after which the loss of the easy problem is below the first one.
    """

    method: str
    budget: str = "50%"
    capped: bool = True
    too_little: str | None = "1e-12J"
    job: Mapping[str, Any] = field(default_factory=dict)
    learns_in: int = 3

    @property
    def name(self) -> str:
        return MethodName.parse(self.method).name


SPARSIFIERS = (
    MethodCase("dense", budget="100%"),
    MethodCase("topk"),
    MethodCase("topk+ef"),
    MethodCase("topk+sapef:0.85"),
    MethodCase("topk+saef"),
    MethodCase("random"),
    MethodCase("random+ef"),
    MethodCase("cwmp"),
    MethodCase("cwmp:1,1"),
    MethodCase("cwmp+ef"),
    MethodCase("cwmp+sapef:0.85"),
)
OTHERS: tuple[MethodCase, ...] = ()

CASES = (*SPARSIFIERS, *OTHERS)
