"""What a block was measured under, from a tree of real files in place of the kernel's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.conditions import (
    FREQUENCY_SHIFT,
    SUSPEND_GAP,
    THROTTLED,
    Conditions,
    HostObserver,
    disturbances,
    suspended_s,
)


class Tree:
    """The files of a host under *root* that its conditions are read from."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def clock(self, cpu: int, khz: object) -> Path:
        return self.write(f"devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq", f"{khz}\n")

    def throttle(self, cpu: int, what: str, count: object) -> Path:
        """*what* is ``core`` or ``package``, or either followed by another name of a figure."""
        folder = f"devices/system/cpu/cpu{cpu}/thermal_throttle"
        name = what if "_" in what else f"{what}_throttle_count"
        return self.write(f"{folder}/{name}", f"{count}\n")

    def zone(self, number: int, kind: str, millidegrees: object) -> Path:
        folder = f"class/thermal/thermal_zone{number}"
        self.write(f"{folder}/type", f"{kind}\n")
        return self.write(f"{folder}/temp", f"{millidegrees}\n")

    def observe(self) -> Conditions:
        return HostObserver(self.root).observe()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_host_that_shows_nothing_is_none_and_not_zero(tree):
    seen = tree.observe()
    assert (seen.frequency_hz, seen.temperature_c, seen.throttled) == (None, None, None)
    assert seen.suspended_s == pytest.approx(suspended_s(), abs=1e-3)


def test_the_highest_clock_of_the_first_cores(tree):
    for cpu, khz in enumerate((1_200_000, 3_400_000, 800_000)):
        tree.clock(cpu, khz)
    assert tree.observe().frequency_hz == 3.4e9


def test_throttle_counts_of_cores_and_packages_add_up(tree):
    tree.throttle(0, "core", 3)
    tree.throttle(0, "package", 40)
    count = tree.throttle(1, "core", 500)
    observer = HostObserver(tree.root)
    assert observer.observe().throttled == 543
    count.write_text("501\n")
    assert observer.observe().throttled == 544
    tree.throttle(2, "core", 0)
    assert HostObserver(tree.root).observe().throttled == 544


def test_throttling_that_began_before_the_block_shows_by_its_time(tree):
    """The count moves when a core begins to be throttled, the time while it is."""
    tree.throttle(0, "package", 4)
    time_ms = tree.throttle(0, "package_throttle_total_time_ms", 120)
    observer = HostObserver(tree.root)
    before = observer.observe()
    assert disturbances(before, observer.observe(), None, None) == ()
    time_ms.write_text("131\n")
    assert disturbances(before, observer.observe(), None, None) == (THROTTLED,)


@pytest.mark.parametrize(
    ("zones", "celsius"),
    [
        ([("acpitz", 27_800), ("x86_pkg_temp", 61_000)], 61.0),  # the board's zone is not the CPU's
        ([("acpitz", 90_000), ("x86_pkg_temp", 61_000)], 61.0),
        ([("x86_pkg_temp", 50_000), ("x86_pkg_temp", 72_500)], 72.5),  # two sockets
        ([("GPU-therm", 80_000), ("CPU-therm", 45_000), ("SOC0-therm", 47_000)], 47.0),
        ([("cpu-thermal", 55_017)], 55.017),
        ([("acpitz", 27_800), ("iwlwifi_1", 41_000)], 41.0),  # none is the processor's: the hottest
    ],
)
def test_the_processors_own_zones_before_others(tree, zones, celsius):
    for number, (kind, millidegrees) in enumerate(zones):
        tree.zone(number, kind, millidegrees)
    assert tree.observe().temperature_c == pytest.approx(celsius)


@pytest.mark.parametrize("text", ["", "n/a", "nan", "inf", "-inf", "12 34", "\x00"])
def test_garbage_counts_as_not_shown(tree, text):
    tree.clock(0, text)
    tree.throttle(0, "core", text)
    tree.zone(0, "x86_pkg_temp", text)
    seen = tree.observe()
    assert (seen.frequency_hz, seen.temperature_c, seen.throttled) == (None, None, None)


def test_garbage_that_is_no_text_counts_as_not_shown(tree):
    for file in (tree.clock(0, 1), tree.throttle(0, "core", 1), tree.zone(0, "cpu", 1)):
        file.write_bytes(b"\xff\xfe\x80")
    (tree.root / "class/thermal/thermal_zone0/type").write_bytes(b"\xff\xfe")
    seen = tree.observe()
    assert (seen.frequency_hz, seen.temperature_c, seen.throttled) == (None, None, None)


def test_a_zone_that_may_not_be_read_does_not_hide_the_others(tree):
    tree.zone(0, "x86_pkg_temp", 50_000)
    blocked = tree.zone(1, "x86_pkg_temp", 99_000)
    blocked.unlink()
    blocked.mkdir()  # a read fails whoever reads
    assert tree.observe().temperature_c == 50.0


def test_what_vanishes_between_two_looks_is_no_error(tree):
    files = [tree.clock(0, 2_000_000), tree.throttle(0, "core", 5), tree.zone(0, "cpu", 40_000)]
    observer = HostObserver(tree.root)
    before = observer.observe()
    for file in files:
        file.unlink()
    after = observer.observe()
    assert (before.frequency_hz, before.temperature_c, before.throttled) == (2e9, 40.0, 5)
    assert (after.frequency_hz, after.temperature_c) == (None, None)
    assert disturbances(before, after, after.frequency_hz, 2e9) == ()


def test_one_throttle_count_that_vanishes_is_not_taken_for_throttling(tree):
    tree.throttle(0, "core", 5)
    gone = tree.throttle(1, "core", 3)
    observer = HostObserver(tree.root)
    before = observer.observe()
    gone.unlink()  # the core went offline
    offline = observer.observe()
    assert disturbances(before, offline, None, None) == ()
    tree.throttle(0, "core", 6)
    assert disturbances(offline, observer.observe(), None, None) == (THROTTLED,)


CALM = Conditions(10.0, 2e9, 50.0, 7)


@pytest.mark.parametrize(
    ("after", "frequency_hz", "usual_hz", "flags"),
    [
        (CALM, 2e9, 2e9, ()),
        (replace(CALM, suspended_s=10.0005), 2e9, 2e9, ()),  # two clocks read one after the other
        (replace(CALM, suspended_s=10.5), 2e9, 2e9, (SUSPEND_GAP,)),
        (replace(CALM, throttled=8), 2e9, 2e9, (THROTTLED,)),
        (replace(CALM, throttled=None), 2e9, 2e9, ()),
        (replace(CALM, temperature_c=99.0), 2e9, 2e9, ()),
        (CALM, 2.19e9, 2e9, ()),
        (CALM, 2.21e9, 2e9, (FREQUENCY_SHIFT,)),
        (CALM, 1.79e9, 2e9, (FREQUENCY_SHIFT,)),
        (CALM, None, 2e9, ()),
        (CALM, 1e9, None, ()),
        (CALM, 0.0, 2e9, ()),
        (Conditions(99.0, 1e9, 99.0, 9), 1e9, 2e9, (SUSPEND_GAP, THROTTLED, FREQUENCY_SHIFT)),
    ],
)
def test_what_disturbed_a_block(after, frequency_hz, usual_hz, flags):
    assert disturbances(CALM, after, frequency_hz, usual_hz) == flags


looks = st.builds(
    Conditions,
    st.floats(0, 1e6),
    st.none() | st.floats(0, 1e10),
    st.none() | st.floats(-50, 150),
    st.none() | st.integers(0, 2**63),
)
clocks = st.none() | st.floats(0, 1e10)


@given(looks, looks, clocks, clocks)
def test_flags_name_each_disturbance_once_whatever_a_host_shows(before, after, frequency, usual):
    flags = disturbances(before, after, frequency, usual)
    assert len(set(flags)) == len(flags)
    assert set(flags) <= {SUSPEND_GAP, THROTTLED, FREQUENCY_SHIFT}
    slept_s = after.suspended_s - before.suspended_s
    assert SUSPEND_GAP in flags or slept_s < 1
    assert SUSPEND_GAP not in flags or slept_s > 0
    assert not disturbances(before, before, frequency, frequency)
