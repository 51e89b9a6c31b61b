"""Jetson boards: which rails count, and joules from sampled power."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from stand_ins.boards import BoardTree

from profiler.errors import (
    CounterFaultError,
    InputError,
    MeterNotFoundError,
    MeterReadError,
)
from profiler.meters import find_meter
from profiler.meters.base import Reading, energy_between, sampling_variance_between
from profiler.meters.fake import ManualClock
from profiler.meters.ina3221 import SOURCE, Ina3221Meter
from profiler.meters.ina3221_rails import scan

ORIN_NX = {1: ("VDD_IN", 9.0), 2: ("VDD_CPU_GPU_CV", 4.0), 3: ("VDD_SOC", 2.0)}
ORIN_AGX = {1: ("VDD_GPU_SOC", 6.0), 2: ("VDD_CPU_CV", 3.0), 3: ("VIN_SYS_5V0", 5.0)}
ORIN_AGX_MEMORY = {1: ("NC", 0.0), 2: ("VDDQ_VDD2_1V8AO", 1.0), 3: ("NC", 0.0)}


def _counted(tree: BoardTree) -> dict[str, str | None]:
    """Each rail and why it does not count."""
    return {each.rail.name: each.rail.excluded_because for each in scan(tree.root)}


class Simulated:
    """A meter whose samples, and the board's time, are told."""

    def __init__(self, tree: BoardTree, **how: object) -> None:
        self.tree, self.clock = tree, ManualClock()
        self.meter = Ina3221Meter(
            scan(tree.root),
            clock=self.clock,
            background=False,
            **how,  # type: ignore[arg-type]
        )

    def run(self, samples: int) -> Reading:
        for _ in range(samples):
            self.clock.advance(self.meter.period_s)
            self.tree.advance(self.meter.period_s)
            self.meter.sample()
        return self.meter.read()


def test_the_module_s_input_contains_the_others(board_tree: BoardTree) -> None:
    board_tree.jetson(ORIN_NX)
    assert _counted(board_tree) == {
        "VDD_IN": None,
        "VDD_CPU_GPU_CV": "lies inside VDD_IN",
        "VDD_SOC": "lies inside VDD_IN",
    }


@pytest.mark.parametrize("leaf", ["iio:device0", "iio_device"])
def test_old_drivers_files_are_read_too(board_tree: BoardTree, leaf: str) -> None:
    rails = {0: ("POM_5V_IN", 6.0), 1: ("POM_5V_GPU", 1.0), 2: ("POM_5V_CPU", 2.0)}
    folder = board_tree.old_jetson(rails, address="6-0040", leaf=leaf)
    assert [name for name, because in _counted(board_tree).items() if not because] == ["POM_5V_IN"]
    board = Simulated(board_tree)
    assert board.run(50).energy_j["POM_5V_IN"] == pytest.approx(6.0 * 50 * board.meter.period_s)
    for number in range(3):  # drivers without a power show current and voltage
        board_tree.vanish(folder / f"in_power{number}_input")
    board = Simulated(board_tree)
    assert board.run(50).energy_j["POM_5V_IN"] == pytest.approx(6.0 * 50 * board.meter.period_s)


def test_a_tx2_s_carrier_board_lies_beside_the_module(board_tree: BoardTree) -> None:
    board_tree.old_jetson(
        {0: ("VDD_SYS_GPU", 1.0), 1: ("VDD_SYS_SOC", 1.0), 2: ("VDD_4V0_WIFI", 0.1)},
        address="0-0040",
    )
    board_tree.old_jetson(
        {0: ("VDD_IN", 7.0), 1: ("VDD_SYS_CPU", 1.0), 2: ("VDD_SYS_DDR", 1.0)},
        address="0-0041",
        leaf="iio:device1",
    )
    board_tree.old_jetson(
        {0: ("VDD_MUX", 9.0), 1: ("VDD_5V0_IO_SYS", 1.0), 2: ("VDD_3V3_SYS", 1.0)},
        address="0-0042",
        leaf="iio:device2",
    )
    reasons = _counted(board_tree)
    assert reasons["VDD_IN"] is None
    assert reasons["VDD_SYS_CPU"] == "lies inside VDD_IN"
    assert reasons["VDD_MUX"] == "powers the carrier board, beside VDD_IN"
    assert sum(because is None for because in reasons.values()) == 1


def test_what_no_guide_names_is_not_said_to_lie_inside(board_tree: BoardTree) -> None:
    board_tree.jetson({1: ("VDD_IN", 9.0), 2: ("FAN", 1.0)})
    assert _counted(board_tree) == {"VDD_IN": None, "FAN": "may lie inside VDD_IN"}


def test_an_agx_orin_has_no_total_and_its_memory_is_not_counted_twice(
    board_tree: BoardTree,
) -> None:
    board_tree.jetson(ORIN_AGX)
    board_tree.jetson(ORIN_AGX_MEMORY, address="1-0041", chip=1)
    reasons = _counted(board_tree)
    assert reasons.pop("VDDQ_VDD2_1V8AO") == "lies inside VIN_SYS_5V0"
    assert reasons == dict.fromkeys(["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"])
    info = Simulated(board_tree).meter.info
    assert info.selected == ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")
    assert info.scope[0] == "the carrier board is outside these rails"
    assert info.systematic_share == pytest.approx(0.015)


def test_the_monitor_s_offset_is_stated_in_watts_of_each_rail(board_tree: BoardTree) -> None:
    folder = board_tree.jetson({1: ("VDD_IN", 9.0), 2: ("VDD_SOC", 1.0)})
    volts = int((folder / "in1_input").read_text()) / 1000
    assumed = Simulated(board_tree).meter.info.systematic[-1]
    assert assumed.relative == 0 and "SBOS576" in assumed.cause
    assert assumed.absolute_w == pytest.approx(80e-6 / 5e-3 * volts)
    board_tree.put(folder / "shunt1_resistor", "2000\n")
    info = Simulated(board_tree).meter.info
    offset_w = 80e-6 / 2e-3 * volts
    assert info.systematic[-1].absolute_w == pytest.approx(offset_w)
    assert info.systematic_j(90.0, 10.0) == pytest.approx(0.015 * 90.0 + offset_w * 10.0)


def test_an_agx_xavier_s_six_rails_add_up(board_tree: BoardTree) -> None:
    board_tree.old_jetson({0: ("GPU", 1.0), 1: ("CPU", 2.0), 2: ("SOC", 3.0)}, address="1-0040")
    board_tree.old_jetson({0: ("CV", 0.5), 1: ("VDDRQ", 1.0), 2: ("SYS5V", 4.0)}, address="1-0041")
    board = Simulated(board_tree)
    start, end = board.meter.read(), board.run(20)
    joules = energy_between(start, end, board.meter.info.selected)
    assert joules == pytest.approx(11.5 * 20 * board.meter.period_s)


@pytest.mark.parametrize(
    "rails",
    [
        {1: ("VDD_CPU_CV", 3.0), 2: ("VIN_SYS_5V0", 5.0)},  # a partition with a part missing
        {1: ("main", 3.0)},
        {1: ("VDD_IN", 3.0), 2: ("VDD_IN", 5.0)},
    ],
)
def test_rails_that_nobody_can_add_up_must_be_chosen(
    board_tree: BoardTree, rails: dict[int, tuple[str, float]]
) -> None:
    board_tree.jetson(rails)
    first = scan(board_tree.root)[0].rail.name
    (report,) = SOURCE.discover()
    assert not report.usable and report.device == "INA3221"
    assert report.remedy is not None and first in report.remedy
    with pytest.raises(InputError, match=r"add up; choose with --rails from .*" + first[:4]):
        SOURCE.open()
    meter = SOURCE.open(rails=[first])
    assert meter.info.selected == (first,)
    meter.close()


def test_disabled_and_unconnected_channels_are_left_out(board_tree: BoardTree) -> None:
    rails = {1: ("VDD_IN", 9.0), 2: ("NC", 0.0), 3: ("VDD_SOC", 1.0)}
    folder = board_tree.jetson(rails, disabled=(3,))
    assert list(_counted(board_tree)) == ["VDD_IN"]
    board_tree.put(folder / "in3_enable", "1\n")
    (folder / "in3_label").unlink()
    assert list(_counted(board_tree)) == ["VDD_IN", "in3@1-0040"]


@pytest.mark.parametrize(
    ("settings", "period_s", "lag_s"),
    [
        ({}, 0.010, 0.0),
        ({"update_interval_ms": 35}, 0.035, 0.035),
        ({"update_interval_ms": 2}, 0.010, 0.002),
        ({"samples": 16}, 0.1056, 0.1056),
        ({"update_interval_ms": 0, "samples": 4}, 0.0264, 0.0264),
    ],
)
def test_the_monitor_s_own_averaging_sets_period_and_lag(
    board_tree: BoardTree, settings: dict[str, int], period_s: float, lag_s: float
) -> None:
    board_tree.jetson(ORIN_NX, **settings)  # type: ignore[arg-type]
    meter = Simulated(board_tree).meter
    assert meter.period_s == pytest.approx(period_s)
    assert meter.info.lag_s == pytest.approx(lag_s)


def test_many_rails_are_sampled_more_slowly(board_tree: BoardTree) -> None:
    board_tree.jetson(ORIN_AGX)
    assert Simulated(board_tree).meter.period_s == pytest.approx(0.015)


def test_a_changing_power_is_integrated_within_its_stated_error(board_tree: BoardTree) -> None:
    def power_w(now_s: float) -> float:
        return 6.0 + 3.0 * math.sin(2 * math.pi * now_s / 0.7) + (now_s % 0.5 > 0.25)

    board_tree.jetson({**ORIN_NX, 1: ("VDD_IN", power_w)})
    board = Simulated(board_tree)
    start, end = board.meter.read(), board.run(300)
    joules = energy_between(start, end, ["VDD_IN"])
    error_j = math.sqrt(sampling_variance_between(start, end, ["VDD_IN"]))
    assert 0 < error_j < 0.01 * joules
    assert abs(joules - board_tree.loads["VDD_IN"].energy_j) < 3 * error_j


def _jumping(draw: random.Random, windows: int, samples: int, period_s: float) -> Callable:
    """A power that jumps once in each stretch of ten samples, at a random moment."""
    stretch_s = 10 * period_s
    count = windows * samples // 10 + 2
    moments_s = [(number + draw.random()) * stretch_s for number in range(count)]
    levels_w = [draw.uniform(2.0, 12.0) for _ in range(count + 1)]

    def power_w(now_s: float) -> float:
        stretch = min(int(now_s / stretch_s), count - 1)
        return levels_w[stretch + (now_s >= moments_s[stretch])]

    return power_w


def test_the_carried_variance_is_that_of_jumps_at_random_moments(board_tree: BoardTree) -> None:
    windows, samples, period_s = 80, 20, 0.010
    draw = random.Random(20)
    power_w = _jumping(draw, windows, samples, period_s)
    board_tree.jetson({1: ("VDD_IN", power_w)})
    board, load = Simulated(board_tree), board_tree.loads["VDD_IN"]
    scores = []
    for _ in range(windows):
        start, before_j = board.meter.read(), load.energy_j
        end = board.run(samples)
        off_j = energy_between(start, end, ["VDD_IN"]) - (load.energy_j - before_j)
        scores.append(off_j / math.sqrt(sampling_variance_between(start, end, ["VDD_IN"])))
    inside = sum(abs(score) < 1.96 for score in scores) / windows
    mean_square = sum(score**2 for score in scores) / windows
    assert 0.9 < inside <= 1.0
    assert 0.7 < mean_square < 1.3
    assert abs(sum(scores)) / windows < 4 / math.sqrt(windows)


def test_on_a_live_board_the_thread_samples(board_tree: BoardTree) -> None:
    board_tree.jetson(ORIN_NX)
    with board_tree.ticking():
        meter = SOURCE.open()
        start = meter.read()
        time.sleep(0.2)
        end = meter.read()
        meter.close()
    joules = energy_between(start, end, ["VDD_IN"])
    # 9 W whatever the timing, up to a sample at either end and a host that stalls
    assert joules / 9.0 <= (end.time_s - start.time_s) + 0.05
    assert joules > 0


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        ("fail", MeterReadError),
        ("vanish", MeterReadError),
        ("garbage", CounterFaultError),
        ("empty", CounterFaultError),
        ("backwards", CounterFaultError),
        ("huge", CounterFaultError),
    ],
)
def test_a_fault_midway_is_said_and_loses_the_window(
    board_tree: BoardTree, spoil: str, error: type[Exception]
) -> None:
    folder = board_tree.jetson(ORIN_NX)
    board = Simulated(board_tree)
    start = board.run(3)
    path = folder / "curr1_input"
    texts = {"garbage": "1.8e3", "empty": "", "backwards": "-1800", "huge": "99999999999"}
    if spoil in texts:
        board_tree.put(path, f"{texts[spoil]}\n")
    else:
        getattr(board_tree, spoil)(path)
    with pytest.raises(error, match="curr1_input"):
        board.run(1)
    board_tree.put(path, "1800\n")
    end = board.run(3)
    assert end.losses > start.losses
    with pytest.raises(CounterFaultError, match="lost"):
        energy_between(start, end, ["VDD_IN"])


def test_work_on_the_module_s_gpu_shows_in_its_rails_and_is_waited_for(
    board_tree: BoardTree,
) -> None:
    board_tree.jetson(ORIN_NX)
    waited = []
    board = Simulated(board_tree, device="cuda:0", synchronise=lambda: waited.append(1))
    assert board.meter.info.covers == "gpu"
    board.meter.read()
    assert waited == [1]
    assert Simulated(board_tree).meter.info.covers == "cpu"


def test_absence_is_reported_and_refused(board_tree: BoardTree) -> None:
    (report,) = SOURCE.discover()
    assert not report.usable and report.cause and report.remedy and not report.rails
    with pytest.raises(MeterNotFoundError, match="no Jetson"):
        SOURCE.open()
    board_tree.name_board("NVIDIA Jetson Orin Nano Developer Kit")
    (report,) = SOURCE.discover()
    assert report.remedy == "sudo modprobe ina3221"


@pytest.mark.parametrize("how", [{"argument": "x"}, {"device": "mps"}, {"rails": ["VDD_GPU"]}])
def test_what_it_cannot_do_is_refused(board_tree: BoardTree, how: dict[str, object]) -> None:
    board_tree.jetson(ORIN_NX)
    with pytest.raises(InputError):
        SOURCE.open(**how)  # type: ignore[arg-type]


def test_auto_takes_the_module_where_there_is_no_rapl(
    board_tree: BoardTree, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    board_tree.name_board("NVIDIA Jetson Orin NX")
    board_tree.jetson(ORIN_NX)
    monkeypatch.setenv("PATH", str(tmp_path))
    meter = find_meter()
    assert (meter.info.name, meter.info.device) == ("ina3221", "NVIDIA Jetson Orin NX")
    meter.close()
