"""A session under a time limit: what is refused, shortened and gone on with."""

from __future__ import annotations

import time

import pytest
from stand_ins.sessions import profile_known, read_journal
from stand_ins.simulated_device import DepositMeter, KnownOperation

from profiler import design, session
from profiler.errors import InputError
from profiler.meters.fake import FakeMeter

pytestmark = pytest.mark.usefixtures("short_probe")


def test_a_limit_that_leaves_no_interval_is_refused_before_anything_is_measured(tmp_path):
    meter = DepositMeter()
    operation = KnownOperation(meter)
    path = tmp_path / "t.journal"
    with pytest.raises(InputError, match=r"--max-time is 0.01 s, but 3 cells take at least"):
        profile_known(meter=meter, extra_operations=[operation], max_time_s=0.01, journal=path)
    assert operation.prepared == [] and not path.exists()


def test_a_slow_counter_is_not_taken_for_one_without_steps(monkeypatch):
    monkeypatch.setattr(session, "_PROBE_S", 0.8)
    meter = FakeMeter(5.0, period_s=0.15)
    with pytest.raises(InputError, match=r"fake, whose counter steps every 0\.\d+ s"):
        profile_known(meter=meter, extra_operations=[KnownOperation(DepositMeter())], max_time_s=2)


def test_slow_calls_are_refused_while_sizing_and_resumed_with_more_time(tmp_path):
    path = tmp_path / "t.journal"
    meter = DepositMeter()
    slow = {"extra_operations": [KnownOperation(meter, [10, 100, 1000], call_s=0.03)]}
    asked = {"meter": meter, "journal": path, "precision": 0.2, **slow}
    with pytest.raises(InputError, match=r"--max-time is 0.8 s.*cells sized so far.*--resume"):
        profile_known(**asked, max_time_s=0.8)
    measured = read_journal(path)
    assert 1 <= len(measured.sizing) <= 3 and measured.blocks == []
    trace = profile_known(**asked, max_time_s=60.0, resume=True)
    assert (trace.blocks.groupby("k").size() >= design.PILOT_BLOCKS).all()


def test_a_pilot_that_the_time_ends_is_remarked_and_goes_on_when_given_more(tmp_path):
    path = tmp_path / "t.journal"
    meter = DepositMeter()
    stalls = {"left": 1}

    def stall(standing) -> None:
        if standing.stage == "pilot" and stalls["left"]:
            stalls["left"] -= 1
            time.sleep(2.0)

    asked = {
        "meter": meter,
        "extra_operations": [KnownOperation(meter, [10, 100])],
        "journal": path,
        "precision": 0.2,
    }
    for resume in (False, True):
        trace = profile_known(**asked, max_time_s=1.8, progress=stall, resume=resume)
        assert (trace.blocks.groupby("k").size() == 2).all()
        assert set(trace.blocks["stage"]) == {"pilot"}
        assert set(trace.blocks["flags"]) == {"time-capped"}
        assert any("ended the pilot early" in remark for remark in trace.metadata.remarks)
    trace = profile_known(**asked, max_time_s=60.0, resume=True)
    assert (trace.blocks[trace.blocks["stage"] == "pilot"].groupby("k").size() == 6).all()
    assert trace.metadata.remarks == () and set(trace.blocks["flags"]) == {""}


def test_a_time_cap_scales_the_blocks_down_and_is_flagged():
    meter = DepositMeter()
    operation = KnownOperation(meter, scatter=0.5)
    trace = profile_known(meter=meter, extra_operations=[operation], max_time_s=2.0, precision=0.01)
    assert set(trace.blocks["flags"]) == {"time-capped"}
    assert any(
        remark.startswith("time-capped: in 3 of 3 cells") for remark in trace.metadata.remarks
    )
    assert trace.blocks["start_s"].max() < 2.0
    assert trace.blocks.groupby("k").size().min() >= design.PILOT_BLOCKS
