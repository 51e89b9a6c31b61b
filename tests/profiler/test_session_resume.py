"""A session that was interrupted, and one that goes on with it."""

from __future__ import annotations

import pytest
from stand_ins.sessions import profile_known
from stand_ins.simulated_device import DepositMeter, KnownOperation

from profiler import design
from profiler.errors import (
    FileFormatError,
    InputError,
    MeterReadError,
    OutputError,
    OutputExistsError,
)
from profiler.journal import Journal
from profiler.session import SessionInterrupted

pytestmark = pytest.mark.usefixtures("short_probe")


COARSE = {"precision": 0.2}


def _interrupt_after(runs: int):
    state = {"runs": 0}

    def hook() -> None:
        state["runs"] += 1
        if state["runs"] == runs:
            raise KeyboardInterrupt

    return hook


@pytest.mark.parametrize("runs", [45, 70])
def test_an_interrupted_session_keeps_its_blocks_and_is_resumed(tmp_path, runs):
    path = tmp_path / "t.journal"
    meter = DepositMeter()
    operation = KnownOperation(meter, [10, 100], scatter=0.1, hook=_interrupt_after(runs))
    with pytest.raises(SessionInterrupted) as stop:
        profile_known(meter=meter, extra_operations=[operation], journal=path, seed=4, **COARSE)
    partial_trace = stop.value.trace
    assert isinstance(stop.value, KeyboardInterrupt)
    assert partial_trace.metadata.remarks[0] == "interrupted"
    kept = partial_trace.blocks

    meter = DepositMeter()
    operation = KnownOperation(meter, [10, 100], scatter=0.1)
    ready = {"extra_operations": [operation], "seed": 4, "journal": path, **COARSE}
    with pytest.raises(OutputExistsError, match="--resume"):
        profile_known(meter=meter, **ready)
    with pytest.raises(FileFormatError, match="its seed is 4, now it is 5"):
        profile_known(meter=meter, **{**ready, "seed": 5}, resume=True)
    trace = profile_known(meter=meter, **ready, resume=True)
    assert trace.blocks["block"].tolist() == list(range(len(trace.blocks)))
    assert "interrupted" not in trace.metadata.remarks
    again = trace.blocks.set_index("block").loc[kept["block"], "energy_j"]
    assert again.tolist() == kept["energy_j"].tolist()
    assert trace.blocks["start_s"].is_monotonic_increasing
    pilot = trace.blocks[trace.blocks["stage"] == "pilot"]
    order = design.pilot_order([design.PILOT_BLOCKS] * 2, seed=4)
    assert pilot["k"].tolist() == [(10, 100)[cell] for cell in order]


def test_more_time_on_resume_adds_the_blocks_that_the_first_limit_refused(tmp_path):
    path = tmp_path / "t.journal"
    meter = DepositMeter()
    asked = {
        "meter": meter,
        "extra_operations": [KnownOperation(meter, [10, 100], scatter=0.4)],
        "journal": path,
        "precision": 0.1,
    }

    def wanted() -> int:
        book, measured = Journal.reopen(path)
        book.close()
        return sum(measured.plan["wanted"])

    first = profile_known(**asked, max_time_s=1.2)
    assert "time-capped" in first.metadata.remarks[0] and wanted() > len(first.blocks) + 20
    again = profile_known(**asked, max_time_s=1.2, resume=True)
    assert len(again.blocks) >= len(first.blocks)
    assert again.blocks["start_s"].max() < 1.2
    more = profile_known(**asked, max_time_s=2.0, resume=True)
    assert len(more.blocks) > len(again.blocks) + 10
    assert more.blocks["block"].tolist() == list(range(len(more.blocks)))
    assert more.blocks["start_s"].is_monotonic_increasing
    assert more.blocks["start_s"].max() < 2.0
    kept = more.blocks["energy_j"][: len(again.blocks)]
    assert kept.tolist() == again.blocks["energy_j"].tolist()
    assert "time-capped" in more.blocks["flags"].iloc[-1] or len(more.blocks) >= wanted()


def test_a_running_session_keeps_others_off_its_journal(tmp_path):
    path = tmp_path / "t.journal"
    meter = DepositMeter()
    seen = []

    def intrude(standing) -> None:
        if standing.stage != "pilot" or seen:
            return
        before = path.read_bytes()
        for how in ({"resume": True}, {"force": True}):
            other = DepositMeter()
            with pytest.raises(OutputError, match="in use by another session"):
                profile_known(
                    meter=other, extra_operations=[KnownOperation(other)], journal=path, **how
                )
        seen.append(path.read_bytes() == before)

    asked = {"meter": meter, "extra_operations": [KnownOperation(meter)], "journal": path}
    profile_known(**asked, precision=0.2, progress=intrude)
    assert seen == [True]


def test_force_replaces_a_journal_only_once_a_new_session_can_begin(tmp_path):
    path = tmp_path / "t.journal"
    path.write_text("precious")
    meter = DepositMeter()
    asked = {"meter": meter, "journal": path, "force": True}
    with pytest.raises(InputError, match="nothing to measure"):
        profile_known(**asked)
    with pytest.raises(InputError, match="--max-time"):
        profile_known(**asked, extra_operations=[KnownOperation(meter)], max_time_s=0.01)
    meter.faults = lambda read: MeterReadError("unplugged")
    with pytest.raises(MeterReadError):
        profile_known(**asked, extra_operations=[KnownOperation(meter)])
    assert path.read_text() == "precious"
    meter.faults = lambda read: None
    trace = profile_known(**asked, extra_operations=[KnownOperation(meter)], precision=0.2)
    book, measured = Journal.reopen(path)
    book.close()
    assert len(measured.blocks) == len(trace.blocks)


def test_an_interruption_before_the_first_block_has_no_trace():
    meter = DepositMeter()
    operation = KnownOperation(meter, hook=_interrupt_after(1))
    with pytest.raises(SessionInterrupted) as stop:
        profile_known(meter=meter, extra_operations=[operation])
    assert stop.value.trace is None
