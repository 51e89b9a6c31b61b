"""Waiting for what a thread or another process will bring about."""

from __future__ import annotations

import time

import pytest

from profiler.meters.base import EnergyMeter


def eventually_raises(meter: EnergyMeter, kind: type[Exception], says: str) -> None:
    """Reading *meter* raises that before five seconds are over."""
    until_s = time.perf_counter() + 5
    with pytest.raises(kind, match=says):
        while time.perf_counter() < until_s:
            meter.read()
            time.sleep(0.005)
