"""Recordings: written, read back, played, and refused when they are not what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import (
    FileFormatError,
    InputError,
    InputFileError,
    MeterReadError,
    OutputExistsError,
)
from profiler.meters.base import Covers, Rail, Systematic
from profiler.meters.fake import FakeMeter, ManualClock
from profiler.meters.recording import Recording, load_recording, record, save_recording
from profiler.meters.replay import ReplayMeter, ReplaySource
from profiler.meters.sampled import SampledMeter

GOLDEN = Path(__file__).resolve().parents[1] / "golden"

HEADER = {
    "schema": "cwmp.recording",
    "version": 1,
    "device": "bench supply",
    "origin": "measured",
    "rails": [{"name": "board", "domain": "board", "counted": True, "excluded_because": None}],
    "assumptions": [],
}


def _write(path: Path, *rows: str, header: dict[str, object] | None = None) -> Path:
    first = json.dumps({**HEADER, **(header or {})})
    path.write_text("\n".join([f"# {first}", "time_s,board", *rows, ""]))
    return path


def _recording(times_s: tuple[float, ...], joules: tuple[float, ...]) -> Recording:
    rails = (Rail("board", "board"),)
    return Recording("bench supply", "measured", rails, (), times_s, {"board": joules})


def test_recording_and_replay_tell_the_same_story(tmp_path: Path) -> None:
    clock = ManualClock()
    source = FakeMeter(
        {"package-0": 20.0, "dram-0": 3.0}, clock=clock, origin="measured", device="bench supply"
    )
    path = tmp_path / "supply.csv"
    record(source, path, duration_s=0.5, interval_s=0.001, sleep=clock.advance)
    replay_clock = ManualClock()
    meter = ReplayMeter(load_recording(path), clock=replay_clock)
    assert meter.info.origin == "measured"
    assert meter.info.device == "bench supply"
    for _ in range(49):
        replay_clock.advance(0.01)
        energy_j = meter.read().energy_j
        assert energy_j["package-0"] == pytest.approx(20.0 * replay_clock.now_s, abs=0.021)
        assert energy_j["dram-0"] == pytest.approx(3.0 * replay_clock.now_s, abs=0.0031)


@given(st.lists(st.tuples(st.floats(0.001, 1.0), st.floats(0.0, 5.0)), min_size=1, max_size=20))
def test_a_value_holds_until_the_next(steps: list[tuple[float, float]]) -> None:
    times_s, joules = [3.0], [100.0]
    for gap_s, step_j in steps:
        times_s.append(times_s[-1] + gap_s)
        joules.append(joules[-1] + step_j)
    clock = ManualClock()
    meter = ReplayMeter(_recording(tuple(times_s), tuple(joules)), clock=clock)
    for share in (0.0, 0.1, 0.37, 0.5, 0.99):
        clock.now_s = share * (times_s[-1] - times_s[0])
        rows = [row for row, when in enumerate(times_s) if when <= 3.0 + clock.now_s]
        assert meter.read().energy_j["board"] == joules[rows[-1]] - 100.0


def test_a_recording_ends() -> None:
    clock = ManualClock()
    meter = ReplayMeter(_recording((0.0, 1.0), (0.0, 2.0)), clock=clock)
    clock.advance(1.0)
    assert meter.read().energy_j == {"board": 2.0}
    clock.advance(0.001)
    with pytest.raises(MeterReadError, match="recording is over"):
        meter.read()


def test_rows_in_which_nothing_moved_are_left_out(tmp_path: Path) -> None:
    clock = ManualClock()
    meter = FakeMeter(10.0, period_s=0.1, clock=clock)
    recording = record(
        meter, tmp_path / "r.csv", duration_s=1.0, interval_s=0.01, sleep=clock.advance
    )
    assert 10 <= len(recording.times_s) <= 12
    assert recording.times_s[-1] >= 1.0


def test_file_round_trip_is_exact(tmp_path: Path) -> None:
    recording = _recording((0.0, 0.1 + 0.2, 1.0), (0.0, 1e-6 / 3.0, 2.5))
    save_recording(recording, tmp_path / "r.csv")
    assert load_recording(tmp_path / "r.csv") == recording


@pytest.mark.parametrize("covers", get_args(Covers))
def test_what_the_joules_are_of_is_recorded_and_played(tmp_path: Path, covers: Covers) -> None:
    clock = ManualClock()
    source = FakeMeter(covers=covers, clock=clock)
    path = tmp_path / "r.csv"
    record(source, path, duration_s=0.1, interval_s=0.01, sleep=clock.advance)
    assert ReplaySource().open(str(path)).info.covers == covers


def test_recording_that_does_not_say_is_of_a_processor(tmp_path: Path) -> None:
    assert load_recording(_write(tmp_path / "old.csv", "0,0", "1,5")).covers == "cpu"


def test_what_the_meter_said_of_its_joules_is_recorded_and_played(tmp_path: Path) -> None:
    term = Systematic(0.02, "gain, by the datasheet")
    recording = Recording(
        "bench supply",
        "measured",
        (Rail("board", "board"),),
        (),
        (0.0, 1.0),
        {"board": (0.0, 2.0)},
        scope=("the carrier board is outside",),
        systematic=(term,),
        lag_s=0.75,
    )
    path = tmp_path / "r.csv"
    save_recording(recording, path)
    assert load_recording(path) == recording
    info = ReplaySource().open(str(path)).info
    assert (info.scope, info.systematic, info.lag_s) == (recording.scope, (term,), 0.75)


class _Constant:
    def watts(self) -> dict[str, float]:
        return {"board": 10.0}

    def close(self) -> None:
        pass


@pytest.mark.parametrize("sampled", [True, False])
def test_recording_of_a_sampled_power_says_what_is_lost(tmp_path: Path, sampled: bool) -> None:
    clock = ManualClock()
    fake = FakeMeter({"board": 10.0}, clock=clock)
    meter = SampledMeter(fake.info, _Constant(), 0.01, clock=clock, background=False)

    def pass_by(seconds: float) -> None:
        clock.advance(seconds)
        meter.sample()

    path = tmp_path / "r.csv"
    record(meter if sampled else fake, path, duration_s=0.1, interval_s=0.01, sleep=pass_by)
    scope = " ".join(load_recording(path).scope)
    assert ("sampling a power was not recorded" in scope) == sampled


def test_recording_of_the_first_version_is_still_read() -> None:
    recording = load_recording(GOLDEN / "recording-v1.csv")
    assert recording.covers == "gpu"
    assert recording.assumptions == ("the supply is ideal",)
    assert [rail.counted for rail in recording.rails] == [True, False]
    assert recording.energy_j == {"board": (0.0, 2.25, 4.75), "fan": (0.0, 0.125, 0.25)}
    assert (recording.scope, recording.systematic, recording.lag_s) == ((), (), 0.0)


def test_recording_over_a_file_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("precious")
    meter = FakeMeter(faults={1: AssertionError("the meter was read")})
    with pytest.raises(OutputExistsError):
        record(meter, path, duration_s=1.0)
    assert path.read_text() == "precious"


@pytest.mark.parametrize(("duration_s", "interval_s"), [(0.0, 0.1), (1.0, 0.0), (-1.0, 0.1)])
def test_recording_needs_times(tmp_path: Path, duration_s: float, interval_s: float) -> None:
    with pytest.raises(InputError):
        record(FakeMeter(), tmp_path / "r.csv", duration_s=duration_s, interval_s=interval_s)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("rows", "header", "says"),
    [
        (["0,0", "1,1"], {"version": 2}, "version 2"),
        (["0,0", "1,1"], {"schema": "something"}, "not a recording"),
        (["0,0", "1,1"], {"origin": "guessed"}, "guessed"),
        (["0,0", "1,1"], {"covers": "moon"}, "moon"),
        (["0,0", "1,1"], {"rails": []}, "rails"),
        (["0,0", "1,1"], {"scope": "all of it"}, "scope"),
        (["0,0", "1,1"], {"scope": [1]}, "scope"),
        (["0,0", "1,1"], {"lag_s": -1.0}, "lag_s"),
        (["0,0", "1,1"], {"lag_s": float("nan")}, "lag_s"),
        (["0,0", "1,1"], {"systematic": [{"relative": -1, "cause": "x"}]}, "systematic"),
        (["0,0", "1,1"], {"systematic": [{"share": 1}]}, "not a recording"),
        (["0,0"], {}, "two rows"),
        (["0,0", "1,nan"], {}, "nan in row 1"),
        (["0,0", "inf,1"], {}, "inf in row 1"),
        (["0,5", "1,4"], {}, "falls in row 1"),
        (["0,0", "0,1"], {}, "row 1"),
        (["0,0", "1"], {}, "one for each rail"),
        (["0,0", "1,x"], {}, "not a recording"),
    ],
)
def test_bad_recordings_are_refused_by_name(
    tmp_path: Path, rows: list[str], header: dict[str, object], says: str
) -> None:
    path = _write(tmp_path / "bad.csv", *rows, header=header)
    with pytest.raises(FileFormatError, match=says) as caught:
        load_recording(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"time_s,board\n0,0\n", b"\xff\xfe", b"# [1]\n"])
def test_files_that_are_no_recording_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(FileFormatError):
        load_recording(path)


def test_source_opens_a_file_and_needs_one(tmp_path: Path) -> None:
    path = _write(tmp_path / "good.csv", "0,0", "1000,5")
    meter = ReplaySource().open(str(path), device="cuda:0")
    assert meter.info.name == "replay"
    assert meter.read().energy_j == {"board": 0.0}
    with pytest.raises(InputError, match="replay:FILE"):
        ReplaySource().open()
    with pytest.raises(InputFileError):
        ReplaySource().open(str(tmp_path / "absent.csv"))
    assert ReplaySource().discover() == ()
