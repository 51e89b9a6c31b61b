"""How many faults were injected: last, when all the others have run."""

from __future__ import annotations

from pathlib import Path

import pytest
from ledger import Ledger

LEAST = 200


def test_at_least_two_hundred_distinct_faults(
    ledger: Ledger, request: pytest.FixtureRequest
) -> None:
    files = {item.path for item in request.session.items}
    every = set(Path(__file__).parent.glob("test_fault_*.py"))
    if not every <= files or request.config.option.keyword:
        pytest.skip("only some of the faults were asked for")
    assert len({(meter, fault) for meter, fault, _ in ledger.entries}) >= LEAST
    meters = {meter.partition(" ")[0] for meter, _, _ in ledger.entries}
    assert meters >= {
        *("rapl", "perf", "pyjoules", "nvml", "amd", "hwmon", "ina3221", "pmic", "battery"),
        *("external", "replay", "modelled", "fake", "journal"),
    }
    assert set(ledger.entries.values()) <= {"detected", "harmless"}
    assert {where for _, _, where in ledger.entries} == {
        *("opening", "reading", "window", "session", "file")
    }
