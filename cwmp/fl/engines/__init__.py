"""Ways to run a federation; each moves bytes and knows no method."""

from __future__ import annotations

from cwmp.fl.engines.base import Engine
from cwmp.fl.engines.local import LocalEngine
from profiler.errors import InputError

__all__ = ["ENGINES", "Engine", "LocalEngine", "make_engine"]

ENGINES = {"local": LocalEngine}


def make_engine(name: str) -> Engine:
    """The engine called *name*.

    Raises:
        InputError: no such engine.
    """
    if name not in ENGINES:
        raise InputError(f"unknown engine {name!r}; choose {', '.join(ENGINES)}")
    return ENGINES[name]()
