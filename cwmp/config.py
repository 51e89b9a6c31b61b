"""The configuration of a study: checked when it is made, and recorded in its results."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cwmp.budget import Budget
from profiler.errors import InputError
from profiler.trace import describe

Count = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_COMMA = re.compile(",")
_METHOD_COMMA = re.compile(r",(?!\s*[-+]?[\d.])")


class StudyConfig(BaseModel):
    """What is run. Use `StudyConfig.parse` for one-line errors.

    Attributes:
        costs: path of the cost file.
        data: ``digits`` or ``cifar10:PATH``.
        model: a name of `cwmp.fl.models.MODELS`, or ``module:callable``.
        clients, alpha: how many, and the Dirichlet concentration of their labels.
        rounds, local_epochs, batch_size, lr, momentum: federated averaging with local SGD.
        methods: names of `cwmp.selectors.make_selector`.
        budgets: each a share of the dense cost (``5%``) or joules a client and round.
        seeds: how many; they are 0, 1, ...
        score: (p, q) of the method ``cwmp``.
        engine: where clients run.
        feedback: what becomes of entries that are not sent; ``none`` forgets them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    costs: Path
    data: str = "digits"
    model: str = "lenet"
    clients: Count = 10
    alpha: PositiveFloat = 0.1
    rounds: Count = 20
    local_epochs: Count = 1
    batch_size: Count = 32
    lr: PositiveFloat = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.5
    methods: Annotated[tuple[str, ...], Field(min_length=1)] = ("dense", "topk", "random", "cwmp")
    budgets: tuple[str, ...] = ("1%", "5%", "20%")
    seeds: Count = 3
    score: tuple[float, float] = (2.0, 1.0)
    engine: Literal["local"] = "local"
    feedback: Literal["none"] = "none"

    @field_validator("methods", mode="before")
    @classmethod
    def _split_methods(cls, value: Any) -> Any:
        """``dense,cwmp:1,1,topk`` as written on a command line: exponents keep their comma."""
        return _split(_METHOD_COMMA, value)

    @field_validator("budgets", mode="before")
    @classmethod
    def _split_budgets(cls, value: Any) -> Any:
        return _split(_COMMA, value)

    @field_validator("score", mode="before")
    @classmethod
    def _split_score(cls, value: Any) -> Any:
        return _split(_COMMA, value)

    @classmethod
    def parse(cls, **values: Any) -> StudyConfig:
        """Make a configuration.

        Raises:
            InputError: a value that cannot be used, a method or budget given twice.
            BudgetError: a budget that is not positive, or above 100 %.
        """
        try:
            config = cls.model_validate(values)
        except ValidationError as error:
            raise InputError(f"cannot run with {describe(error)}") from error
        for name, given in (("method", config.rules), ("budget", config.parsed_budgets)):
            # as they are reported: 0.7mJ and 700uJ differ by a rounding and would be one row
            shown = [str(item) for item in given]
            twice = [text for text in shown if shown.count(text) > 1]
            if twice:
                raise InputError(f"the {name} {twice[0]} is given twice")
        if not config.budgets and config.methods != ("dense",):
            raise InputError("give at least one budget, such as --budgets 5%")
        return config

    @property
    def rules(self) -> tuple[str, ...]:
        """The methods with the score put in: ``cwmp`` at (1, 1) is ``cwmp:1,1``."""
        p, q = self.score
        weighted = "cwmp" if (p, q) == (2, 1) else f"cwmp:{p:g},{q:g}"
        return tuple(weighted if method == "cwmp" else method for method in self.methods)

    @property
    def parsed_budgets(self) -> tuple[Budget, ...]:
        return tuple(Budget.parse(text) for text in self.budgets)


def _split(comma: re.Pattern[str], value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in comma.split(value) if part.strip())
