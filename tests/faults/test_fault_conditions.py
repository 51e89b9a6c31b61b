"""The files beside the meter's: a clock or temperature that fails is not known, and no more.

Not counted among the faults of meters: nothing here is in a joule.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from ledger import time_limit
from stand_ins.kernel_files import without_privilege
from test_fault_files import FILE_FAULTS, FileFault
from texts import TEXT_FAULTS, TextFault

from profiler.conditions import HostObserver

EVERY = (*TEXT_FAULTS, *FILE_FAULTS)


@pytest.mark.parametrize("before", [True, False], ids=["before", "while observed"])
@pytest.mark.parametrize("fault", EVERY, ids=lambda fault: fault.name)
def test_a_clock_that_is_not_shown(
    tmp_path: Path, fault: TextFault | FileFault, before: bool
) -> None:
    path = tmp_path / "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"
    path.parent.mkdir(parents=True)
    path.write_text("2000000\n")
    observer = None if before else HostObserver(tmp_path)
    with ExitStack() as stack, time_limit():
        if isinstance(fault, TextFault):
            path.write_bytes(fault.distort(b"2000000\n"))
        else:
            fault.inject(path)
            if fault.refused:
                stack.enter_context(without_privilege())
        frequency_hz = (observer or HostObserver(tmp_path)).observe().frequency_hz
    path.parent.chmod(0o755) if path.parent.exists() else None
    assert frequency_hz is None or isinstance(frequency_hz, float)
    if isinstance(fault, TextFault) and fault.sound:
        assert frequency_hz == 2e9
