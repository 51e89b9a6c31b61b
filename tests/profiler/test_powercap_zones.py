"""Which zones are found, how they are named, and which of them add up."""

from __future__ import annotations

from pathlib import Path

import pytest
from stand_ins.sysfs import SysfsTree

from profiler.meters.powercap import absence, permission_remedy, scan


def _rails(tree: SysfsTree) -> dict[str, str | None]:
    return {zone.rail.name: zone.rail.excluded_because for zone in scan(tree.powercap)}


def test_server_counts_packages_and_memory_once(sysfs_tree: SysfsTree) -> None:
    assert _rails(sysfs_tree) == {
        "psys": "contains the packages",
        "package-1": None,
        "core-1": "lies inside package-1",
        "dram-1": None,
        "package-0": None,
        "core-0": "lies inside package-0",
        "uncore-0": "lies inside package-0",
        "dram-0": None,
        "mmio-package-0": "mirrors package-0",
    }


def test_socket_comes_from_the_name_not_from_the_zone(sysfs_tree: SysfsTree) -> None:
    folders = {zone.rail.name: zone.path.name for zone in scan(sysfs_tree.powercap)}
    assert folders["package-1"] == "intel-rapl:1"
    assert folders["dram-0"] == "intel-rapl:2:2"


def test_zones_are_ordered_by_number_not_by_text(bare_sysfs_tree: SysfsTree) -> None:
    for number in (10, 2, 1):
        bare_sysfs_tree.add(f"intel-rapl:{number}", f"package-{number}", start_uj=number)
    assert list(_rails(bare_sysfs_tree)) == ["package-1", "package-2", "package-10"]


def test_dies_of_one_socket_are_rails_of_their_own(bare_sysfs_tree: SysfsTree) -> None:
    bare_sysfs_tree.add("intel-rapl:0", "package-0-die-0", start_uj=1)
    bare_sysfs_tree.add("intel-rapl:0:0", "dram", start_uj=2)
    bare_sysfs_tree.add("intel-rapl:1", "package-0-die-1", start_uj=3)
    bare_sysfs_tree.add("intel-rapl:1:0", "dram", start_uj=4)
    assert _rails(bare_sysfs_tree) == {
        "package-0-die-0": None,
        "dram-0-die-0": None,
        "package-0-die-1": None,
        "dram-0-die-1": None,
    }


def test_one_counter_shown_under_two_dies_counts_once(bare_sysfs_tree: SysfsTree) -> None:
    for die in (0, 1):
        bare_sysfs_tree.add(f"intel-rapl:{die}", f"package-0-die-{die}", start_uj=987_654_321)
    assert _rails(bare_sysfs_tree) == {
        "package-0-die-0": None,
        "package-0-die-1": "shows package-0-die-0's counter",
    }


def test_two_counters_still_at_zero_are_not_taken_for_one(bare_sysfs_tree: SysfsTree) -> None:
    for die in (0, 1):
        bare_sysfs_tree.add(f"intel-rapl:{die}", f"package-0-die-{die}")
    assert set(_rails(bare_sysfs_tree).values()) == {None}


def test_equal_names_are_made_different(bare_sysfs_tree: SysfsTree) -> None:
    bare_sysfs_tree.add("intel-rapl:0", "psys", start_uj=1)
    bare_sysfs_tree.add("intel-rapl:1", "psys", start_uj=2)
    bare_sysfs_tree.add("intel-rapl:2", "package-0", start_uj=3)
    assert list(_rails(bare_sysfs_tree)) == ["psys", "psys.2", "package-0"]


def test_mmio_counts_where_it_is_all_there_is(bare_sysfs_tree: SysfsTree) -> None:
    bare_sysfs_tree.add("intel-rapl-mmio:0", "package-0", start_uj=1)
    assert _rails(bare_sysfs_tree) == {"mmio-package-0": None}


def test_unknown_zones_are_shown_but_not_counted(bare_sysfs_tree: SysfsTree) -> None:
    bare_sysfs_tree.add("intel-rapl:0", "package-0", start_uj=1)
    bare_sysfs_tree.add("intel-rapl:0:0", "accelerator", start_uj=2)
    bare_sysfs_tree.add("intel-rapl:1", "platform", start_uj=3)
    assert _rails(bare_sysfs_tree) == {
        "package-0": None,
        "accelerator-0": "may overlap with package-0",
        "platform": "may overlap with the packages",
    }


def test_nested_folders_are_found_as_well_as_flat_links(bare_sysfs_tree: SysfsTree) -> None:
    bare_sysfs_tree.add("intel-rapl:0", "package-0", start_uj=1)
    bare_sysfs_tree.add("intel-rapl:0:0", "dram", start_uj=2)
    (bare_sysfs_tree.powercap / "intel-rapl:0:0").unlink()
    assert list(_rails(bare_sysfs_tree)) == ["package-0", "dram-0"]


def test_zone_without_a_readable_name_is_not_counted(bare_sysfs_tree: SysfsTree) -> None:
    bare_sysfs_tree.add("intel-rapl:0", "package-0", start_uj=1)
    (bare_sysfs_tree.powercap / "intel-rapl:0" / "name").unlink()
    assert _rails(bare_sysfs_tree) == {"intel-rapl:0": "may overlap with the packages"}


def test_absence_behind_a_container_is_told_by_dangling_links(tmp_path: Path) -> None:
    (tmp_path / "intel-rapl:0").symlink_to(tmp_path / "masked" / "intel-rapl:0")
    assert scan(tmp_path) == ()
    cause, remedy = absence(tmp_path, virtual="QEMU")
    assert "container" in cause and "intel-rapl:0" in cause
    assert "CWMP_SYSFS=/host/sys" in remedy


def test_a_root_that_is_not_there_is_the_cause_even_on_a_virtual_machine(tmp_path: Path) -> None:
    cause, remedy = absence(tmp_path / "nowhere" / "class" / "powercap", virtual="QEMU")
    assert cause == f"{tmp_path / 'nowhere'} is not a folder"
    assert "CWMP_SYSFS" in remedy


def test_absence_in_a_virtual_machine(tmp_path: Path) -> None:
    cause, _ = absence(tmp_path, virtual="QEMU Standard PC")
    assert cause == "a virtual machine exposes no counter (QEMU Standard PC)"


@pytest.mark.parametrize(("folder", "says"), [("", "no intel-rapl zone"), ("x", "does not exist")])
def test_absence_of_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, says: str
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    cause, remedy = absence(tmp_path / folder, virtual=None)
    assert says in cause
    assert remedy == "sudo modprobe intel_rapl_msr"


def test_absence_on_another_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    cause, remedy = absence(tmp_path, virtual=None)
    assert "aarch64" in cause
    assert "modprobe" not in remedy


def test_permission_remedy_gives_a_command_and_a_rule_each_on_a_line_of_its_own() -> None:
    lines = permission_remedy(Path("/sys/class/powercap")).splitlines()
    assert "sudo chmod o+r /sys/class/powercap/intel-rapl:*/energy_uj" in lines
    assert any(line.startswith("KERNEL==") and "chmod o+r" in line for line in lines)
    assert all(len(line) <= 70 for line in lines[1:])
