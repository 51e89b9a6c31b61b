"""A device whose every joule is known: operations deposit them, the meter shows them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from profiler.meters.base import MeterInfo, Rail, Reading
from profiler.workloads import Cell, OperationName, Pattern, Workload


class SimulatedDevice:
    """A meter with a clock of its own, stepping every *period_s*.

    Energy is piecewise linear in time, so the counter's value at its last step is exact.
    """

    def __init__(self, idle_w: float = 5.0, period_s: float = 0.0) -> None:
        self.now_s = 0.0
        self.idle_w, self.period_s = idle_w, period_s
        self._times, self._joules = [0.0], [0.0]
        self.info = MeterInfo(
            "simulated", "simulated device", "assumed", (Rail("cpu", "cpu"),), ("cpu",)
        )

    def spend(self, seconds: float, energy_j: float) -> None:
        """Let *seconds* pass in which *energy_j* flow, idle power included."""
        self.now_s += seconds
        self._times.append(self.now_s)
        self._joules.append(self._joules[-1] + energy_j)

    def sleep(self, seconds: float) -> None:
        self.spend(seconds, self.idle_w * seconds)

    def read(self) -> Reading:
        shown_s = self.now_s
        if self.period_s:
            shown_s = np.floor(self.now_s / self.period_s + 1e-9) * self.period_s
        return Reading(self.now_s, {"cpu": float(np.interp(shown_s, self._times, self._joules))})

    def close(self) -> None: ...


class SimulatedWorkload:
    """Calls of fixed length and power on a `SimulatedDevice`."""

    def __init__(self, device: SimulatedDevice, call_s: float, call_j: float) -> None:
        self.device, self.call_s, self.call_j = device, call_s, call_j

    def run(self, repetitions: int) -> None:
        self.device.spend(repetitions * self.call_s, repetitions * self.call_j)

    def reference(self, repetitions: int) -> None:
        self.device.sleep(repetitions * self.call_s / 10)

    def close(self) -> None: ...


class DepositMeter:
    """A counter in real time that shows what operations deposit, and nothing else.

    Args:
        faults: number of a read, from 1 -> what it raises.
    """

    def __init__(self, faults: Callable[[int], Exception | None] = lambda read: None) -> None:
        self.energy_j = 0.0
        self.reads = 0
        self.faults = faults
        self.info = MeterInfo(
            "deposit", "simulated device", "assumed", (Rail("cpu", "cpu"),), ("cpu",)
        )

    def read(self) -> Reading:
        self.reads += 1
        if fault := self.faults(self.reads):
            raise fault
        return Reading(time.perf_counter(), {"cpu": self.energy_j})

    def close(self) -> None: ...


class KnownOperation:
    """E(k) = a + c k, deposited with a scatter a block; a call takes *call_s*.

    Args:
        scatter: as a share of the energy at the middle k; in joules it is the same for all, for
            their windows are of one length.
        hook: called at the start of each ``run``.
    """

    implementation = "a deposit of a + c k joules"
    scope = ("joules that nobody spent",)

    def __init__(
        self,
        meter: DepositMeter,
        counts: Sequence[int] = (10, 100, 1000),
        *,
        a_j: float = 2e-6,
        c_j: float = 5e-9,
        scatter: float = 0.02,
        call_s: float = 2e-4,
        layer: str = "net.weight",
        pattern: Pattern = "random",
        hook: Callable[[], None] = lambda: None,
    ) -> None:
        self.meter, self.counts = meter, counts
        self.a_j, self.c_j, self.scatter, self.call_s = a_j, c_j, scatter, call_s
        self.layer, self.pattern, self.hook = layer, pattern, hook
        self.prepared: list[tuple[int, int]] = []

    @property
    def name(self) -> OperationName:
        return "encode"

    def cells(self) -> tuple[Cell, ...]:
        return tuple(
            Cell("encode", self.layer, "payload", (1000,), "float32", 1000, k, self.pattern)
            for k in self.counts
        )

    def energy_j(self, k: int) -> float:
        """The truth."""
        return self.a_j + self.c_j * k

    def prepare(self, cell: Cell, seed: int) -> Workload:
        self.prepared.append((cell.k, seed))
        return _Deposit(self, cell.k, np.random.default_rng(seed))


class _Deposit:
    def __init__(self, operation: KnownOperation, k: int, generator: np.random.Generator) -> None:
        self.operation = operation
        middle = sorted(operation.counts)[len(operation.counts) // 2]
        scatter_j = operation.scatter * operation.energy_j(middle) * generator.standard_normal()
        self.call_j = max(operation.energy_j(k) + scatter_j, 0.0)

    def run(self, repetitions: int) -> None:
        self.operation.hook()
        time.sleep(repetitions * self.operation.call_s)
        self.operation.meter.energy_j += repetitions * self.call_j

    def reference(self, repetitions: int) -> None: ...

    def close(self) -> None: ...
