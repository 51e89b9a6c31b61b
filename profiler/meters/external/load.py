"""A load that a meter can recognise: a pseudo-random pattern of busy and resting stretches.

A maximal-length sequence of 31 chips is as unlike a shifted copy of itself as a sequence can be,
so there is one place in a stream of watts where it fits (Golomb, *Shift Register Sequences*, 1967).
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from profiler.errors import InputError, MissingExtraError

CHIPS = 31
_BUFFER_BYTES = 1 << 18
_SHAPE, _BATCH = 2048, 4

Load = Callable[[float, Callable[[], float]], None]
"""Keeps the device busy until a time of the given clock."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """When the device was busy, by ``time.perf_counter``.

    Attributes:
        edges_s: begin and end of each busy stretch in turn, increasing, shape (2 m,).
        chip_s: the shortest stretch.
    """

    edges_s: tuple[float, ...]
    chip_s: float


def maximal_length_sequence(rotation: int = 0) -> tuple[bool, ...]:
    """31 chips of the shift register x^5 + x^2 + 1, begun *rotation* chips into it."""
    register, chips = 0b00001, []
    for _ in range(CHIPS):
        chips.append(bool(register & 1))
        feedback = (register ^ (register >> 2)) & 1
        register = (register >> 1) | (feedback << 4)
    start = rotation % CHIPS
    return tuple(chips[start:] + chips[:start])


def play(
    chips: Sequence[bool],
    chip_s: float,
    load: Load,
    *,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Pattern:
    """Be busy in the true *chips*, each *chip_s* long, rest in the others; note when that was."""
    edges_s: list[float] = []
    until_s = clock()
    for busy, group in groupby(chips):
        until_s += chip_s * len(list(group))
        if busy:
            edges_s.append(clock())
            load(until_s, clock)
            edges_s.append(clock())
        else:
            sleep(max(until_s - clock(), 0.0))
    return Pattern(tuple(edges_s), chip_s)


def load_for(device: str) -> Load:
    """What keeps *device* busy: a thread a core on ``cpu``, matrix products on ``cuda:N``.

    Raises:
        InputError: another kind of device.
        MissingExtraError: a GPU is asked for, but PyTorch is not installed.
    """
    kind = device.partition(":")[0]
    if kind == "cpu":
        return busy_cores
    if kind == "cuda":
        return _busy_gpu(device)
    raise InputError(f"external: no load is known for the device {device!r}; add #offset=none")


def busy_cores(until_s: float, clock: Callable[[], float] = time.perf_counter) -> None:
    """Hash in one thread for each core this process may use; hashing lets go of the GIL."""
    buffer = bytes(_BUFFER_BYTES)

    def burn() -> None:
        while clock() < until_s:
            hashlib.sha256(buffer).digest()

    threads = [
        threading.Thread(target=burn, name="cwmp-load", daemon=True) for _ in range(_cores() - 1)
    ]
    for thread in threads:
        thread.start()
    burn()
    for thread in threads:
        thread.join()


def _busy_gpu(device: str) -> Load:
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError(
            "a load pattern on a GPU needs PyTorch: pip install torch, or add #offset=none"
        ) from error
    try:
        matrix: Any = torch.rand(_SHAPE, _SHAPE, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"external: cannot put a load on {device}: {error}") from error

    def multiply(until_s: float, clock: Callable[[], float]) -> None:
        while clock() < until_s:
            for _ in range(_BATCH):
                torch.mm(matrix, matrix)
            torch.cuda.synchronize(matrix.device)

    multiply(time.perf_counter(), time.perf_counter)  # kernels are loaded before the pattern
    return multiply


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
