"""Round records as plain JSON values and back, exactly: floats keep every bit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cwmp.fl.rounds import RoundRecord
from profiler.errors import FileFormatError
from profiler.trace import describe


@cache
def _adapter() -> TypeAdapter[tuple[RoundRecord, ...]]:
    return TypeAdapter(tuple[RoundRecord, ...])


def records_to_json(records: Sequence[RoundRecord]) -> list[Any]:
    """Values that `json.dumps` takes; a NaN or infinite loss as the text that Python gives it."""
    values: list[Any] = _adapter().dump_python(tuple(records), mode="json")
    return values


def records_from_json(values: Any, what: str) -> tuple[RoundRecord, ...]:
    """What `records_to_json` gave; *what* names it in errors.

    Raises:
        FileFormatError: it is something else.
    """
    try:
        return _adapter().validate_python(values)
    except ValidationError as error:
        raise FileFormatError(f"{what} holds no rounds: {describe(error)}") from error
