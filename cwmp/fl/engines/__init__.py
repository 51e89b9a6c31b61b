"""Ways to run a federation; each moves bytes and knows no method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cwmp.fl.engines.base import Engine
from cwmp.fl.engines.local import LocalEngine
from profiler.errors import InputError

if TYPE_CHECKING:
    from cwmp.fl.job import Job

__all__ = ["ENGINES", "Engine", "LocalEngine", "make_engine"]

ENGINES = ("local", "flower")


def make_engine(name: str, job: Job | None = None) -> Engine:
    """The engine called *name*; ``flower``, a simulation, needs the *job* that it will run.

    Raises:
        InputError: no such engine, or no job.
        MissingExtraError: Flower is not installed.
    """
    if name == "local":
        return LocalEngine()
    if name != "flower":
        raise InputError(f"unknown engine {name!r}; choose {', '.join(ENGINES)}")
    if job is None:
        raise InputError("the flower engine sends no objects to its nodes: give it the job")
    from cwmp.fl.engines.flower import FlowerEngine

    return FlowerEngine(job)
