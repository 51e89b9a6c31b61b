"""Streams of real files, pipes and servers, written by another process, as meters."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import floor, sqrt
from pathlib import Path

import numpy as np
import pytest
from stand_ins.eventually import eventually_raises
from stand_ins.streams import CYCLE_S, LOAD_W, REST_W, FileWriter, Plan, Program
from stand_ins.streams import energy_j as true_energy_j

from profiler.errors import (
    CounterFaultError,
    FileFormatError,
    InputError,
    InputFileError,
    MeterNotFoundError,
    MeterReadError,
)
from profiler.meters import find_meter
from profiler.meters.base import energy_between, sampling_variance_between
from profiler.meters.external import meter as external
from profiler.meters.external.meter import ExternalMeter, ExternalSource, open_stream
from profiler.meters.external.options import parse_argument

RAILS = ("external",)
WINDOWS = 5


@contextmanager
def _program(plan: Plan, folder: Path) -> Iterator[str]:
    """The place where a program of that kind hands on its samples."""
    target = folder / "stream"
    if plan.kind == "pipe":
        os.mkfifo(target)
    elif plan.kind == "file":
        target.write_bytes(b"")
    with Program(Plan(**{**vars(plan), "target": str(target)})) as program:
        url = f"http://127.0.0.1:{program.port}/watts"
        yield url if plan.kind == "http" else str(target)


@pytest.fixture
def short_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    """The streams of these tests are fast: shorter chips, and no long wait for an echo."""
    monkeypatch.setattr(external, "_SHORTEST_CHIP_S", 0.03)
    monkeypatch.setattr(external, "LATEST_S", 0.3)


def _windows(meter: ExternalMeter, count: int) -> tuple[list[float], list[float]]:
    """Errors of so many windows around one pulse each, in J, and what was stated of them."""
    errors_j, stated_j = [], []
    while len(errors_j) < count:
        cycle = floor(time.perf_counter() / CYCLE_S) + 1
        time.sleep(max(cycle * CYCLE_S + 0.08 - time.perf_counter(), 0.0))
        start = meter.read()
        time.sleep(max(cycle * CYCLE_S + 0.38 - time.perf_counter(), 0.0))
        end = meter.read()
        if start.time_s > cycle * CYCLE_S + 0.1 or end.time_s > (cycle + 1) * CYCLE_S + 0.1:
            continue  # this process was held up: the window has another pulse in it, or none
        if start.losses != end.losses:
            continue
        true_j = true_energy_j(start.time_s, end.time_s)
        errors_j.append(energy_between(start, end, RAILS) - true_j)
        variance_j2 = sampling_variance_between(start, end, RAILS)
        stated_j.append(sqrt(variance_j2 + (REST_W * 0.015) ** 2 / 6))
    return errors_j, stated_j


@pytest.mark.parametrize(
    ("plan", "options"),
    [
        (Plan("file"), ""),
        (Plan("pipe", json_lines=True), ""),
        (Plan("http"), ",period=10ms"),
        (Plan("http", json_lines=True, stamped=False), ",period=10ms,lag=30ms"),
        (Plan("file", counts_energy=True), ""),
    ],
    ids=["file", "pipe", "http", "http-undated", "file-energy"],
)
def test_energy_of_known_windows_is_right_within_what_is_stated(
    plan: Plan, options: str, tmp_path: Path
) -> None:
    with _program(plan, tmp_path) as place:
        meter = find_meter(f"external:{place}#offset=none{options}")
        errors_j, stated_j = _windows(meter, WINDOWS)
        meter.close()
    assert 0.02 < meter.info.lag_s < 0.5
    mean_j, error_j = np.mean(errors_j), sqrt(sum(value**2 for value in stated_j)) / WINDOWS
    assert abs(mean_j) < 4 * error_j
    assert error_j < 0.5


@pytest.mark.usefixtures("short_pattern")
@pytest.mark.parametrize(
    "plan",
    [Plan("pipe", clock_s=-3e4), Plan("file", stamped=False, period_s=0.03)],
    ids=["dated", "undated"],
)
def test_the_load_pattern_finds_how_late_the_stream_is(plan: Plan, tmp_path: Path) -> None:
    busy = tmp_path / "busy"
    busy.write_bytes(b"0")

    def load(until_s: float, clock: Callable[[], float]) -> None:
        busy.write_bytes(b"1")
        time.sleep(max(until_s - clock(), 0.0))
        busy.write_bytes(b"0")

    with _program(Plan(**{**vars(plan), "busy": str(busy), "pulses": False}), tmp_path) as place:
        meter = open_stream(parse_argument(place), "cpu", RAILS, load)
        meter.close()
    # Handed on 15 to 30 ms after it was taken.
    assert 0.03 < meter.info.lag_s < 0.4
    pattern = next(sentence for sentence in meter.info.scope if "load pattern" in sentence)
    shown_w = float(pattern.partition("added ")[2].partition(" W")[0])
    assert shown_w == pytest.approx(LOAD_W, rel=0.2)


@pytest.mark.usefixtures("short_pattern")
def test_a_stream_that_does_not_feel_the_load_is_refused(tmp_path: Path) -> None:
    with (
        _program(Plan("pipe"), tmp_path) as place,
        pytest.raises(MeterNotFoundError, match="is it the right meter"),
    ):
        open_stream(parse_argument(place), "cpu", RAILS, lambda until_s, _: time.sleep(0.05))


def test_scope_and_cover_follow_what_was_asked(tmp_path: Path) -> None:
    with _program(Plan("file"), tmp_path) as place:
        meter = find_meter(f"external:{place}#offset=none", device="cuda:0")
        meter.close()
    assert meter.info.covers == "gpu" and [term.cause for term in meter.info.systematic] == [
        "rate of the external meter's clock"
    ]
    scope = " ".join(meter.info.scope)
    assert "power supply" in scope and "accuracy was not stated" in scope
    assert "was not measured" in scope and place not in scope


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[FileWriter]:
    found = FileWriter(tmp_path / "plug.csv")
    yield found
    found.stop()


@pytest.mark.parametrize(
    ("line", "kind", "says"),
    [
        ("garbage\n", CounterFaultError, "1 cells"),
        ("{time!r},nan\n", CounterFaultError, "not a number"),
        ("{time!r},1e7\n", CounterFaultError, "over 10000 W"),
        ("{time!r},-3\n", CounterFaultError, "negative=yes"),
        ("5,20\n", CounterFaultError, "went back"),
    ],
)
def test_a_bad_sample_is_one_error_and_a_loss(
    writer: FileWriter, line: str, kind: type[Exception], says: str
) -> None:
    meter = find_meter(f"external:{writer.path}#offset=none")
    before = meter.read()
    writer.watts = line.strip().partition(",")[2] or "20"
    writer.append(line.format(time=time.time()))
    time.sleep(0.02)
    writer.watts = "20"
    eventually_raises(meter, kind, says)
    time.sleep(0.1)
    after = None
    for _ in range(10):
        try:
            after = meter.read()
            break
        except CounterFaultError:
            time.sleep(0.02)
    meter.close()
    assert after is not None and after.losses > before.losses
    with pytest.raises(CounterFaultError, match="lost"):
        energy_between(before, after, RAILS)


def test_a_file_that_is_truncated_ends_the_measurement(writer: FileWriter) -> None:
    meter = find_meter(f"external:{writer.path}#offset=none")
    writer.stop()
    os.truncate(writer.path, 3)
    for _ in range(2):
        eventually_raises(meter, MeterReadError, "truncated")
    meter.close()


@pytest.mark.parametrize("again", [True, False])
def test_a_file_that_is_replaced_or_removed_ends_the_measurement(
    writer: FileWriter, again: bool
) -> None:
    meter = find_meter(f"external:{writer.path}#offset=none")
    writer.stop()
    writer.path.rename(writer.path.with_suffix(".1"))
    if again:
        writer.path.write_text("time_s,power_w\n")
    for _ in range(2):
        eventually_raises(meter, MeterReadError, "replaced|No such file")
    meter.close()


def test_a_stream_that_falls_silent_is_no_energy(writer: FileWriter) -> None:
    meter = find_meter(f"external:{writer.path}#offset=none")
    writer.stop()
    eventually_raises(meter, MeterReadError, "silent")
    with pytest.raises(MeterReadError, match="silent"):
        meter.read()
    meter.close()


def test_a_pipe_whose_writer_leaves_ends_the_measurement(tmp_path: Path) -> None:
    with _program(Plan("pipe"), tmp_path) as place:
        meter = find_meter(f"external:{place}#offset=none")
        meter.read()
    for _ in range(2):
        eventually_raises(meter, MeterReadError, "closed it")
    meter.close()


def test_a_stated_offset_is_believed_unless_it_is_absurd(writer: FileWriter) -> None:
    meter = find_meter(f"external:{writer.path}#offset=0")
    assert meter.info.lag_s < 0.3
    meter.close()
    with pytest.raises(InputError, match="before they were taken"):
        find_meter(f"external:{writer.path}#offset=60s")


def test_a_wrong_unit_of_time_is_noticed(writer: FileWriter) -> None:
    with pytest.raises(InputError, match="time_unit=ms"):
        find_meter(f"external:{writer.path}#offset=none,time_unit=ms")


def test_what_cannot_be_followed_is_refused(tmp_path: Path) -> None:
    source = ExternalSource()
    assert source.discover() == ()
    with pytest.raises(InputFileError, match="start the meter's program"):
        source.open(str(tmp_path / "absent.csv"))
    with pytest.raises(InputError, match="neither a file nor a pipe"):
        source.open(str(tmp_path))
    quiet = tmp_path / "quiet.csv"
    quiet.write_text("time_s,power_w\n")
    with pytest.raises(MeterReadError, match="sent 0 samples"):
        source.open(f"{quiet}#offset=none,wait=0.2")
    quiet.write_text("time_s,volts\n1,2\n")
    with pytest.raises(FileFormatError, match="no power among"):
        source.open(f"{quiet}#offset=none,wait=5")


def test_undated_samples_that_come_together_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "burst.csv"
    path.write_text("power_w\n")
    stop = threading.Event()

    def burst() -> None:
        while not stop.wait(0.05):
            with path.open("a") as stream:
                stream.write("20\n" * 5)

    thread = threading.Thread(target=burst, daemon=True)
    thread.start()
    try:
        with pytest.raises(InputError, match="add a column time_s"):
            find_meter(f"external:{path}#offset=none")
    finally:
        stop.set()
        thread.join()
