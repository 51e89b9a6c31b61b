"""Where a run under one price stands: what the server keeps between rounds, as JSON."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from profiler.errors import FileFormatError
from profiler.trace import describe

Count = Annotated[int, Field(ge=0)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ControllerState(BaseModel):
    """Where a run stands: all that the server has to keep, and what it broadcasts.

    Attributes:
        price: lambda to broadcast, weighted g^2 per joule.
        round: rounds that are over.
        spent_j: joules spent so far.
        forecast_j: joules that the last curve promises for the coming round at `price`, by
            client and before `correction`; ``None`` before any report.
        correction: joules really spent over joules forecast, smoothed over the rounds: meters
            that disagree with the costs, and updates that grow or shrink.
        bracketed: whether the last curve reached the joules wanted, so that `price` is between
            two prices that clients answered for.
        clients, left_out: who reported last, and how many of them the price kept nothing of.

    >>> state = ControllerState(price=0.1, round=3, spent_j=2.5)
    >>> ControllerState.from_json(state.to_json()) == state
    True
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_name: Literal["cwmp.controller"] = "cwmp.controller"
    version: Literal[1] = 1
    price: Positive
    round: Count = 0
    spent_j: NonNegative = 0.0
    forecast_j: NonNegative | None = None
    correction: Positive = 1.0
    bracketed: bool = False
    clients: Count = 0
    left_out: Count = 0

    def to_json(self) -> str:
        """The state as JSON; floats come back as they were, bit for bit."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> ControllerState:
        """Read a state that `to_json` wrote.

        Raises:
            FileFormatError: not JSON, another schema or version, or values that cannot be.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise FileFormatError(f"not the state of a price controller: {describe(error)}") from (
                error
            )
