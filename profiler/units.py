"""Numbers for people: SI prefixes, intervals. Files keep plain SI."""

from __future__ import annotations

from collections.abc import Iterable
from math import floor, isfinite, log10
from statistics import median

_PREFIXES = {
    -18: "a",
    -15: "f",
    -12: "p",
    -9: "n",
    -6: "u",
    -3: "m",
    0: "",
    3: "k",
    6: "M",
    9: "G",
    12: "T",
}


def si_exponent(value: float) -> int:
    """The multiple of three that puts |value| in [1, 1000), as far as prefixes go; 0 for 0."""
    if value == 0 or not isfinite(value):
        return 0
    exponent = 3 * floor(log10(abs(value)) / 3)
    if round(abs(value) / 10**exponent, 9) >= 1000:
        exponent += 3
    return min(max(exponent, min(_PREFIXES)), max(_PREFIXES))


def common_exponent(values: Iterable[float]) -> int:
    """The exponent that suits the middle one of *values*: one unit for a column."""
    finite = [abs(value) for value in values if value and isfinite(value)]
    return si_exponent(median(finite)) if finite else 0


def prefix(exponent: int) -> str:
    """The SI prefix of 10**exponent, ``n`` for -9; ``u`` stands for micro."""
    return _PREFIXES[exponent]


def format_si(value: float | None, unit: str, digits: int = 3) -> str:
    """``1.23e-08, "J"`` as ``12.3 nJ``; ``-`` for an absent value."""
    if value is None:
        return "-"
    rounded = float(f"{value:.{digits}g}")
    exponent = si_exponent(rounded)
    return f"{format_scaled(value, exponent, digits)} {prefix(exponent)}{unit}"


def format_scaled(value: float, exponent: int, digits: int = 3) -> str:
    """*value* / 10**exponent with *digits* significant digits, never in powers of ten
    between a thousandth and a million."""
    scaled = float(f"{value / 10.0**exponent:.{digits}g}")
    if scaled == 0:
        return "0"
    magnitude = floor(log10(abs(scaled)))
    if not -4 < magnitude < 6:
        return f"{scaled:.{digits - 1}e}"
    return f"{scaled:.{max(digits - 1 - magnitude, 0)}f}"
