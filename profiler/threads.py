"""How many threads torch computes with: the same when a model is profiled and when it trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

SMALL_MODEL = 1_000_000
"""Parameters below which one thread is used."""


def thread_count(parameters: int) -> int:
    """One thread for a small model, torch's own number for others.

    Threads that wait for each other's few microseconds of work cost more than they save, and
    on a busy host one of them waits, spinning, for as long as the other is descheduled.
    """
    import torch

    return 1 if parameters < SMALL_MODEL else torch.get_num_threads()


@contextmanager
def threads_for(parameters: int) -> Iterator[None]:
    """Let torch use `thread_count` threads inside the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(thread_count(parameters))
    try:
        yield
    finally:
        torch.set_num_threads(before)
