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
    MethodCase("dense:fp16", budget="75%"),
    MethodCase("dense:fp16+ef", budget="75%"),
    MethodCase("topk"),
    MethodCase("topk+ef"),
    MethodCase("topk+sapef:0.85"),
    MethodCase("topk+saef"),
    MethodCase("topk:tensor"),
    MethodCase("topk:tensor+ef"),
    MethodCase("random"),
    MethodCase("random+sapef:0.5"),
    MethodCase("cwmp"),
    MethodCase("cwmp:1,1"),
    MethodCase("cwmp:fixed"),
    MethodCase("cwmp:marginal+ef"),
    MethodCase("cwmp+sapef:0.85"),
    MethodCase("cwmp-price", capped=False),
    MethodCase("cwmp-price+ef", capped=False),
    MethodCase("prunefl+saef"),
    MethodCase("dgc", budget="10%", job={"lr": 0.005}),
    MethodCase("dgc:0.5,2", budget="10%", capped=False),
    MethodCase("hard", budget="10%", capped=False),
    MethodCase("hard:0.01", capped=False),
    MethodCase("atomo:entries"),
    MethodCase("atomo:svd"),
    MethodCase("atomo:fourier"),
)
OTHERS = (
    MethodCase("evofed:256", budget="100%", job={"lr": 0.001}),
    MethodCase("evofed:256,0.01,0.1", budget="15%"),
    MethodCase("fedmd", too_little=None, job={"public": 40}),
    MethodCase("kta", too_little=None, job={"public": 40}),
    MethodCase("kta:2,1", too_little=None, job={"public": 40}),
    MethodCase("cahfp"),
    MethodCase("cahfp:0.25", capped=False, too_little=None),
    MethodCase("spfl", too_little=None),
    MethodCase("kernel", too_little=None),
    MethodCase("kernel:mean", too_little=None),
)

CASES = (*SPARSIFIERS, *OTHERS)
