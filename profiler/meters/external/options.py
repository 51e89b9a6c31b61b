"""What the user says of a meter of their own: ``external:PLACE#key=value,key=value``.

The options stand after the last ``#``, where a URL's fragment stands, which no server is ever
sent; neither ``#`` nor ``,`` needs quotes in a shell.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from profiler.errors import InputError

EXAMPLE = "--meter external:plug.csv#offset=none or --meter external:http://HOST/path#period=1s"
POWER_UNITS_W = {"w": 1.0, "mw": 1e-3, "uw": 1e-6, "µw": 1e-6, "kw": 1e3}
ENERGY_UNITS_J = {
    "j": 1.0,
    "mj": 1e-3,
    "uj": 1e-6,
    "µj": 1e-6,
    "kj": 1e3,
    "wh": 3600.0,
    "mwh": 3.6,
    "kwh": 3.6e6,
}
TIME_UNITS_S = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
"""By name in lower case: ``mW`` and ``mJ`` are thousandths, in whatever case they are written."""
_QUANTITY = re.compile(r"([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*([^\d\s]*)")


@dataclass(frozen=True, slots=True)
class ExternalOptions:
    """Where a stream comes from and how it is read; `parse_argument` makes one.

    Attributes:
        place: a path or an ``http(s)`` URL.
        time, power, energy: names of columns or keys; ``None``: found by their usual names.
        unit: of the power or energy, when its name does not end in one.
        time_unit: of numeric times, likewise.
        period_s: seconds between samples: polls of a URL (default 1); else observed.
        offset: ``auto``: a load pattern is played and looked for in the stream; ``none``; or the
            seconds that make Unix time of this host out of the stream's.
        lag_s: seconds by which the meter is known to be late, beside what is observed.
        accuracy: half-width of its gain as a share; ``None``: not stated.
        max_w: more than it can show; a larger figure is a fault.
        negative: whether watts below 0 are believed (a supply that can take power back).
        name: of the meter, for traces.
        wait_s: the longest wait for the first samples.
    """

    place: str
    time: str | None = None
    power: str | None = None
    energy: str | None = None
    unit: str | None = None
    time_unit: str | None = None
    period_s: float | None = None
    offset: Literal["auto", "none"] | float = "auto"
    lag_s: float = 0.0
    accuracy: float | None = None
    max_w: float = 10e3
    negative: bool = False
    name: str = "external meter"
    wait_s: float = 30.0

    @property
    def is_url(self) -> bool:
        """Whether `place` is polled over the network."""
        return "://" in self.place


def parse_argument(argument: str) -> ExternalOptions:
    """The place and options in what follows ``external:``.

    Raises:
        InputError: no place, standard input, a URL that is not http or https, or an option that
            does not exist or cannot be used.
    """
    place, mark, text = argument.rpartition("#")
    if not mark or Path(argument).exists():
        place, text = argument, ""
    given: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        parse = _OPTIONS.get(key.strip())
        if parse is None or not equals:
            raise InputError(
                f"external: no option {part!r}; choose from {', '.join(_OPTIONS)}, as key=value"
            )
        field, convert = parse
        if field in given:
            raise InputError(f"external: the option {key.strip()} is given twice")
        given[field] = convert(key.strip(), value.strip())
    _check_place(place)
    options = ExternalOptions(place, **given)
    if options.power is not None and options.energy is not None:
        raise InputError("external: name a power or an energy column, not both")
    return options


def _check_place(place: str) -> None:
    if not place:
        raise InputError(f"external needs a stream, as in {EXAMPLE}")
    if place in ("-", "/dev/stdin"):
        raise InputError(
            "external cannot read standard input, which belongs to the command that is measured; "
            "make a pipe (mkfifo watts), let the meter's program write to it and give its path"
        )
    if "://" not in place:
        return
    try:
        url = urlsplit(place)
        port = url.port
    except ValueError as error:
        raise InputError(f"external: {place!r} is not a URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.hostname or port == 0:
        raise InputError(f"external: {place!r} is not an http or https URL; as in {EXAMPLE}")
    if url.username is not None or url.password is not None:
        raise InputError(
            "external: a URL must not carry a password, which every process list would show; "
            "let a small script fetch the watts and write them to a pipe"
        )
    if not place.isascii() or any(character <= " " for character in place):
        raise InputError(f"external: {place!r} has a character that URLs must escape (%20)")


def _text(key: str, value: str) -> str:
    if not value:
        raise InputError(f"external: the option {key} is empty")
    return value


def _seconds(key: str, value: str) -> float:
    number, unit = _quantity(key, value, "s")
    if unit not in TIME_UNITS_S:
        raise InputError(f"external: {key}={value} is not a time, as in 0.1, 100ms or 2s")
    return number * TIME_UNITS_S[unit]


def _above_zero(key: str, value: str) -> float:
    seconds = _seconds(key, value)
    if seconds <= 0:
        raise InputError(f"external: {key}={value} must be above 0")
    return seconds


def _not_negative(key: str, value: str) -> float:
    seconds = _seconds(key, value)
    if seconds < 0:
        raise InputError(f"external: {key}={value} must not be below 0")
    return seconds


def _offset(key: str, value: str) -> Literal["auto", "none"] | float:
    if value == "auto":
        return "auto"
    return "none" if value == "none" else _seconds(key, value)


def _share(key: str, value: str) -> float:
    number, unit = _quantity(key, value, "")
    share = number / 100 if unit == "%" else number
    if unit not in ("", "%") or not 0 < share < 1:
        raise InputError(f"external: {key}={value} is not a share, as in 2% or 0.02")
    return share


def _watts(key: str, value: str) -> float:
    number, unit = _quantity(key, value, "w")
    if unit not in POWER_UNITS_W or number <= 0:
        raise InputError(f"external: {key}={value} is not a power, as in 500W")
    return number * POWER_UNITS_W[unit]


def _yes(key: str, value: str) -> bool:
    if value not in ("yes", "no"):
        raise InputError(f"external: {key} is yes or no, not {value!r}")
    return value == "yes"


def _one_of(*tables: dict[str, float]) -> Callable[[str, str], str]:
    known = [unit for table in tables for unit in table]

    def parse(key: str, value: str) -> str:
        if value.lower() not in known:
            raise InputError(f"external: no {key} {value!r}; choose from {', '.join(known)}")
        return value.lower()

    return parse


def _quantity(key: str, value: str, unit: str) -> tuple[float, str]:
    match = _QUANTITY.fullmatch(value)
    if match is None or not isfinite(float(match[1])):
        raise InputError(f"external: {key}={value} is not a number")
    return float(match[1]), match[2].lower() or unit


_OPTIONS: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "time": ("time", _text),
    "power": ("power", _text),
    "energy": ("energy", _text),
    "unit": ("unit", _one_of(POWER_UNITS_W, ENERGY_UNITS_J)),
    "time_unit": ("time_unit", _one_of(TIME_UNITS_S)),
    "period": ("period_s", _above_zero),
    "offset": ("offset", _offset),
    "lag": ("lag_s", _not_negative),
    "accuracy": ("accuracy", _share),
    "max": ("max_w", _watts),
    "negative": ("negative", _yes),
    "name": ("name", _text),
    "wait": ("wait_s", _above_zero),
}
