"""Each fault of a host, in a tree of its own, and the finding with its remedy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from profiler.checks import heat, limits, load, sources
from profiler.checks.finding import Finding, Trees
from profiler.checks.load import Activity
from profiler.doctor import ranked, static_findings
from profiler.meters.base import Rail, SourceReport

CPU = "sys/devices/system/cpu"
HEALTHY = {
    f"{CPU}/cpu0/cpufreq/scaling_governor": "performance",
    f"{CPU}/cpu0/cpufreq/energy_performance_preference": "performance",
    f"{CPU}/cpu0/cpufreq/scaling_min_freq": "800000",
    f"{CPU}/cpu0/cpufreq/scaling_max_freq": "3600000",
    f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq": "3600000",
    f"{CPU}/cpu1/cpufreq/scaling_governor": "performance",
    f"{CPU}/cpu1/cpufreq/cpuinfo_max_freq": "3600000",
    f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "0",
    f"{CPU}/intel_pstate/no_turbo": "1",
    f"{CPU}/smt/active": "0",
    "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc",
    "sys/devices/system/clocksource/clocksource0/available_clocksource": "tsc hpet acpi_pm",
    "sys/devices/system/node/node0/cpulist": "0-1",
    "sys/class/thermal/thermal_zone0/temp": "45000",
    "sys/class/thermal/thermal_zone0/trip_point_0_type": "critical",
    "sys/class/thermal/thermal_zone0/trip_point_0_temp": "100000",
    "sys/class/power_supply/AC/type": "Mains",
    "sys/class/power_supply/BAT0/type": "Battery",
    "sys/class/power_supply/BAT0/status": "Full",
    "sys/firmware/acpi/platform_profile": "performance",
    "sys/firmware/acpi/platform_profile_choices": "low-power balanced performance",
    "sys/fs/cgroup/cpu.stat": "usage_usec 5\nnr_throttled 0",
    "sys/fs/cgroup/app/cpu.max": "max 100000",
    "sys/fs/cgroup/app/cpu.stat": "nr_throttled 0",
    "proc/stat": "cpu  100 0 50 900 10 0 0 0 0 0\ncpu0 50 0 25 450 5 0 0 0 0 0\n"
    "cpu1 50 0 25 450 5 0 0 0 0 0",
    "proc/self/cgroup": "0::/app",
    "proc/self/timerslack_ns": "50000",
    "proc/self/mountinfo": "25 1 0:22 / /sys rw - sysfs sysfs rw",
    "proc/sys/kernel/numa_balancing": "1",
    "proc/vmstat": "nr_free_pages 7\npswpin 10\npswpout 20",
    "proc/pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0",
}


def tree(folder: Path, **changed: str) -> Trees:
    """A healthy host with some files changed; ``__`` in a name stands for a slash."""
    return plant(
        folder, HEALTHY | {name.replace("__", "/"): text for name, text in changed.items()}
    )


def plant(folder: Path, files: Mapping[str, str]) -> Trees:
    """The two trees with *files* in them."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return Trees(folder / "sys", folder / "proc")


def test_healthy_host_has_no_finding(tmp_path: Path) -> None:
    trees = tree(tmp_path)
    once, again = load.look(trees), load.look(trees)
    assert static_findings(trees) == []
    assert load.other_load(once, again) is None
    assert load.stolen_time(once, again) is None
    assert load.swapping(once, again, trees) is None
    assert heat.throttling(heat.throttle_count(trees), heat.throttle_count(trees)) is None
    assert limits.cpu_quota(trees, 0, limits.throttled_periods(trees)) is None


def test_host_that_shows_nothing_has_no_finding(tmp_path: Path) -> None:
    trees = Trees(tmp_path / "sys", tmp_path / "proc")
    once, again = load.look(trees), load.look(trees)
    assert static_findings(trees) == []
    assert load.other_load(once, again) is None
    assert load.swapping(once, again, trees) is None
    assert heat.throttle_count(trees) is None


@pytest.mark.parametrize(
    ("changes", "name", "says", "remedy"),
    [
        (
            {f"{CPU}/cpu1/cpufreq/scaling_governor": "powersave"},
            "governor",
            "powersave on 1 of 2 CPUs",
            "echo performance | sudo tee {sys}/devices/system/cpu/cpu*/cpufreq/scaling_governor",
        ),
        (
            {f"{CPU}/cpu0/cpufreq/energy_performance_preference": "balance_power"},
            "energy-preference",
            "balance_power",
            "cpufreq/energy_performance_preference",
        ),
        (
            {f"{CPU}/intel_pstate/no_turbo": "0"},
            "turbo",
            "turbo",
            "echo 1 | sudo tee {sys}/devices/system/cpu/intel_pstate/no_turbo",
        ),
        (
            {f"{CPU}/cpufreq/boost": "1"},
            "turbo",
            "boost",
            "echo 0 | sudo tee {sys}/devices/system/cpu/cpufreq/boost",
        ),
        ({f"{CPU}/smt/active": "1"}, "smt", "two hardware threads", "smt/control"),
        (
            {f"{CPU}/cpu1/cpufreq/cpuinfo_max_freq": "2400000"},
            "mixed-cores",
            "1.5x",
            "taskset --cpu-list 0 ",
        ),
        (
            {"sys/devices/system/clocksource/clocksource0/current_clocksource": "hpet"},
            "time-source",
            "hpet",
            "echo tsc | sudo tee",
        ),
        (
            {
                "sys/devices/system/clocksource/clocksource0/current_clocksource": "hpet",
                "sys/devices/system/clocksource/clocksource0/available_clocksource": "hpet",
            },
            "time-source",
            "hpet",
            "dmesg",
        ),
        ({"sys/class/thermal/thermal_zone0/temp": "93000"}, "temperature", "7 K below", "sensors"),
        (
            {
                "sys/class/hwmon/hwmon0/temp1_input": "97000",
                "sys/class/hwmon/hwmon0/temp1_crit": "100000",
            },
            "temperature",
            "3 K below",
            "sensors",
        ),
        (
            {"sys/class/power_supply/BAT0/status": "Discharging"},
            "on-battery",
            "battery",
            "plug it in",
        ),
        (
            {"sys/firmware/acpi/platform_profile": "low-power"},
            "power-profile",
            "low-power",
            "echo performance | sudo tee {sys}/firmware/acpi/platform_profile",
        ),
        (
            {"sys/devices/system/node/node1/cpulist": "2-3"},
            "numa-balancing",
            "2 memory nodes",
            "sudo sysctl kernel.numa_balancing=0",
        ),
        ({"proc/self/timerslack_ns": "40000000"}, "timer-slack", "40 ms", "timerslack_ns"),
        (
            {"proc/self/mountinfo": "9 1 0:5 / /sys/devices/virtual/powercap ro - tmpfs tmpfs ro"},
            "container-mask",
            "masked",
            "docker run -v /sys:/host/sys:ro -e CWMP_SYSFS=/host/sys",
        ),
    ],
)
def test_fault_is_found_with_its_remedy(
    tmp_path: Path, changes: dict[str, str], name: str, says: str, remedy: str
) -> None:
    trees = plant(tmp_path, HEALTHY | changes)
    (found,) = static_findings(trees)
    assert found.name == name
    assert says in found.what
    assert remedy.format(sys=trees.sysfs) in found.remedy
    assert found.effect and found.evidence


def test_governor_says_how_far_the_clock_may_move(tmp_path: Path) -> None:
    changes = {f"{CPU}/cpu0/cpufreq/scaling_governor": "schedutil"}
    (found,) = static_findings(plant(tmp_path, HEALTHY | changes))
    assert "0.8 to 3.6 GHz (4.5x)" in found.effect
    assert found.basis == "assumed"


@pytest.mark.parametrize(
    "changes",
    [
        {"sys/class/thermal/thermal_zone0/trip_point_0_temp": "-274000"},
        {"sys/class/thermal/thermal_zone0/trip_point_0_type": "active"},
        {"sys/class/thermal/thermal_zone0/temp": "garbage"},
        {"sys/class/power_supply/BAT0/scope": "Device"},
        {f"{CPU}/cpu0/cpufreq/scaling_governor": ""},
        {"sys/firmware/acpi/platform_profile": "balanced"},
        {"proc/self/timerslack_ns": "none"},
    ],
)
def test_what_is_no_fault_is_not_found(tmp_path: Path, changes: dict[str, str]) -> None:
    mouse = {"sys/class/power_supply/BAT0/status": "Discharging"} if "scope" in str(changes) else {}
    hot = {"sys/class/thermal/thermal_zone0/temp": "99000"} if "trip" in str(changes) else {}
    assert static_findings(plant(tmp_path, HEALTHY | mouse | hot | changes)) == []


def test_load_of_others_is_measured_without_ones_own() -> None:
    before = Activity(0.0, 100.0, 0.0, 4, {7: ("me", 50.0), 8: ("indexer", 10.0)})
    after = Activity(2.0, 104.0, 0.0, 4, {7: ("me", 52.0), 8: ("indexer", 11.5)})
    found = load.other_load(before, after, own=(7,))
    assert found is not None and found.basis == "measured"
    assert "1.00 of 4 CPUs busy (25 %)" in found.what
    assert (
        "indexer (pid 8) 0.75" in found.evidence and "me" not in found.evidence.split("used: ")[1]
    )
    assert found.severity == "widens"
    alone = load.other_load(before, after)
    assert alone is not None and alone.severity == "spoils"
    assert load.other_load(after, after) is None


def test_processes_are_read_whatever_their_names(tmp_path: Path) -> None:
    fields = "S 1 1 1 0 -1 0 0 0 0 0 300 200 0 0 20 0 1 0 5 0 0"
    trees = tree(
        tmp_path,
        proc__12__stat=f"12 (a) b) {fields}",
        proc__13__stat="13 (cut",
        proc__14__stat="",
    )
    ((pid, (name, spent_s)),) = load.look(trees).processes.items()
    assert (pid, name) == (12, "a) b")
    assert spent_s == pytest.approx(5.0)


def test_ticks_of_the_whole_machine_are_counted(tmp_path: Path) -> None:
    trees = tree(tmp_path, proc__stat="cpu  10 20 30 400 50 6 7 80 9 9\ncpu0 1\ncpu1 1\nintr 5")
    seen = load.look(trees)
    assert seen.busy_s == pytest.approx(0.73)
    assert seen.stolen_s == pytest.approx(0.80)
    assert seen.cpus == 2
    assert seen.swapped == 30


def test_stolen_time_and_memory_pressure(tmp_path: Path) -> None:
    before, after = Activity(0.0, 1.0, 0.0, 2), Activity(1.0, 2.0, 0.1, 2, swapped=64)
    stolen = load.stolen_time(before, after)
    assert stolen is not None and "5.0 %" in stolen.what
    trees = tree(tmp_path)
    swapped = load.swapping(before, after, trees)
    assert swapped is not None and swapped.severity == "spoils" and "64 pages" in swapped.what
    waiting = tree(tmp_path, proc__pressure__memory="some avg10=3.50 avg60=1.00 total=9")
    pressed = load.swapping(before, before, waiting)
    assert pressed is not None and pressed.severity == "widens" and "3.5 %" in pressed.what


def test_throttling_now_is_worse_than_throttling_once(tmp_path: Path) -> None:
    path = f"{CPU}/cpu1/thermal_throttle/package_throttle_count"
    trees = plant(tmp_path, HEALTHY | {path: "4"})
    assert heat.throttle_count(trees) == 4
    now, once = heat.throttling(1, 4), heat.throttling(4, 4)
    assert now is not None and now.severity == "spoils" and "3 times" in now.what
    assert once is not None and once.severity == "note"
    assert heat.throttling(None, 4) is None


@pytest.mark.parametrize(
    ("files", "cpus", "path"),
    [
        ({"sys/fs/cgroup/app/cpu.max": "150000 100000"}, "1.50", "app/cpu.max"),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/x\n1:name=systemd:/",
                "sys/fs/cgroup/cpu/docker/cpu.stat": "nr_throttled 2",
                "sys/fs/cgroup/cpu/docker/cpu.cfs_quota_us": "50000",
                "sys/fs/cgroup/cpu/docker/cpu.cfs_period_us": "100000",
            },
            "0.50",
            "cpu/docker/cpu.cfs_quota_us",
        ),
    ],
)
def test_cpu_quota_of_either_version(
    tmp_path: Path, files: dict[str, str], cpus: str, path: str
) -> None:
    trees = plant(tmp_path, HEALTHY | files)
    idle, stopped = limits.cpu_quota(trees, 5, 5), limits.cpu_quota(trees, 5, 7)
    assert idle is not None and idle.severity == "widens" and f"allows {cpus} CPUs" in idle.what
    assert stopped is not None and stopped.severity == "spoils" and "2 times" in stopped.what
    assert stopped.remedy.endswith(path)


def test_periods_in_which_the_quota_ran_out_are_counted_upwards(tmp_path: Path) -> None:
    trees = tree(
        tmp_path,
        **{
            "sys__fs__cgroup__app__cpu.stat": "nr_periods 9\nnr_throttled 3",
            "sys__fs__cgroup__cpu.stat": "nr_throttled 4",
        },
    )
    assert limits.throttled_periods(trees) == 7


ABSENT = SourceReport("rapl", False, "/sys/class/powercap", cause="no driver", remedy="modprobe it")
REFUSED = SourceReport(
    "rapl", False, "/sys", "A CPU", (Rail("package-0", "package"),), cause="root", remedy="chmod it"
)
MODEL = SourceReport("modelled", True, "CPU time", "A CPU")
BOARD = SourceReport("hwmon", True, "/sys/class/hwmon", "a board", (Rail("total", "board"),))


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ([BOARD, ABSENT, MODEL], []),
        ([ABSENT, MODEL], [("no-counter", "spoils", "modprobe it")]),
        ([MODEL], [("no-counter", "spoils", "see 'cwmp devices'")]),
        ([REFUSED, MODEL], [("counter-unreadable", "spoils", "chmod it")]),
        ([REFUSED, BOARD, MODEL], [("counter-unreadable", "note", "chmod it")]),
    ],
)
def test_counters_are_judged_together(
    reports: list[SourceReport], expected: list[tuple[str, str, str]]
) -> None:
    found = sources.counters(reports)
    assert [(each.name, each.severity, each.remedy) for each in found] == expected


def test_virtual_machine_is_said() -> None:
    assert sources.hypervisor(None) is None
    found = sources.hypervisor("QEMU Standard PC")
    assert found is not None and "QEMU" in found.what


def test_worst_comes_first() -> None:
    def finding(name: str, severity: str) -> Finding:
        return Finding(name, severity, "", "", "assumed", "", "")  # type: ignore[arg-type]

    found = ranked([finding("a", "note"), None, finding("b", "spoils"), finding("c", "widens")])
    assert [each.name for each in found] == ["b", "c", "a"]


@pytest.mark.parametrize(
    ("reports", "severity"), [([ABSENT, MODEL], "spoils"), ([ABSENT, BOARD, MODEL], "note")]
)
def test_mask_weighs_what_it_takes_away(
    tmp_path: Path, reports: list[SourceReport], severity: str
) -> None:
    line = "9 1 0:5 / /sys/devices/virtual/powercap ro - tmpfs tmpfs ro"
    mask = sources.masked(plant(tmp_path, {"proc/self/mountinfo": line}))
    assert mask is not None
    weighed = sources.weighed(mask, reports)
    assert weighed is not None and weighed.severity == severity
