"""One window: its edges, and readings that cannot be right."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from stand_ins.simulated_device import SimulatedDevice

from profiler.errors import CounterFaultError
from profiler.gauge import Gauge, Window
from profiler.meters.base import MeterInfo, Rail, Reading


def test_the_standard_error_joins_both_edges():
    gauge = Gauge(SimulatedDevice(), period_s=1e-3, quantum_j=1e-6)
    assert gauge.edge_j(30.0) == pytest.approx(30e-3 / sqrt(6))
    assert gauge.edge_j(0.0) == pytest.approx(1e-6 / sqrt(6))
    assert Gauge(SimulatedDevice()).edge_j(30.0) == 0.0


@pytest.mark.parametrize(
    ("second", "message"),
    [(Reading(1.0, {"cpu": 4.0}), "-1 J"), (Reading(0.0, {"cpu": 5.0}), "in 0 s")],
)
def test_energy_or_time_that_runs_backwards_is_a_fault(second, message):
    class Backwards:
        info = MeterInfo("odd", "odd", "assumed", (Rail("cpu", "cpu"),), ("cpu",))
        readings = iter([Reading(0.0, {"cpu": 5.0}), second])

        def read(self):
            return next(self.readings)

    with pytest.raises(CounterFaultError, match=message):
        Gauge(Backwards()).window(lambda: None, np.random.default_rng(0))


def test_a_window_longer_than_a_wrap_can_be_told_is_a_fault():
    device = SimulatedDevice()
    device.info = MeterInfo(
        "rapl", "cpu", "measured", (Rail("cpu", "cpu"),), ("cpu",), max_read_gap_s=30.0
    )
    with pytest.raises(CounterFaultError, match="wrap unseen after 30 s"):
        Gauge(device, sleep=device.sleep).window(
            lambda: device.sleep(31.0), np.random.default_rng(0)
        )


def test_power_of_a_window():
    assert Window(0.0, 0.5, 2.0).power_w == 4.0
