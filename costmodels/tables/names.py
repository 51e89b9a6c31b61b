"""Saying that a name is unknown, with the nearest one that is."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_SHOWN = 20


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the closest of *known*, or ``;``."""
    spelled = {candidate.casefold(): candidate for candidate in known}
    found = get_close_matches(name.casefold(), list(spelled), n=1, cutoff=0.6)
    return f"; did you mean {spelled[found[0]]!r}?" if found else ";"


def listed(known: Iterable[str]) -> str:
    """The names, separated by commas, the tail of a long list left out."""
    names = list(known)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
