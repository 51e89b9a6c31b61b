"""Numbers and names in the kernel's tree."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import CounterFaultError, MeterPermissionError, MeterReadError
from profiler.meters.sysfs_files import (
    FilesSensor,
    PowerFiles,
    in_order,
    number_or_none,
    read_name,
    read_number,
    unique_names,
)


@pytest.mark.parametrize(
    ("text", "number"), [("17\n", 17), ("-8\n", -8), ("007\n", 7), (f"{2**64 - 1}\n", 2**64 - 1)]
)
def test_reads_whole_numbers(tmp_path: Path, text: str, number: int) -> None:
    path = tmp_path / "power1_input"
    path.write_text(text)
    assert read_number(path) == number == number_or_none(path)


@pytest.mark.parametrize(
    "text", ["", "\n", "-", "1.5", "0x10", "1e3", "12 13", "nan", "\0\0", "12µ", "9" * 21, "- 3"]
)
def test_anything_else_is_a_fault_that_names_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "power1_input"
    path.write_text(f"{text}\n")
    with pytest.raises(CounterFaultError, match=r"power1_input.*not a whole number"):
        read_number(path)
    assert number_or_none(path) is None


@pytest.mark.parametrize("text", ["", "17", "17 "])
def test_a_line_that_was_cut_off_is_a_fault(tmp_path: Path, text: str) -> None:
    path = tmp_path / "power1_input"
    path.write_text(text)
    with pytest.raises(CounterFaultError, match="and a line feed"):
        read_number(path)


def test_what_is_gone_or_dead_is_said(tmp_path: Path) -> None:
    with pytest.raises(MeterReadError, match=r"power1_input failed: No such file"):
        read_number(tmp_path / "power1_input")
    dead = tmp_path / "power2_input"
    dead.symlink_to("/proc/self/mem")
    with pytest.raises(MeterReadError, match=r"power2_input failed: Input/output error"):
        read_number(dead)
    assert number_or_none(dead) is None


def test_a_file_that_is_root_s_is_said_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "energy1_input"
    path.write_text("5\n")
    path.chmod(0)
    if os.geteuid() == 0:  # whom no mode keeps out

        def refuse(*_: object) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(MeterPermissionError, match=r"sudo chmod o\+r .*energy1_input"):
        read_number(path)


def test_names_fit_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "in1_label"
    path.write_text("sum of shunt, all\n")
    assert read_name(path) == "sum_of_shunt_all"
    path.write_text("\n")
    assert read_name(path) is None
    assert read_name(tmp_path / "no_label") is None


def test_chips_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        (tmp_path / f"hwmon{number}").mkdir()
    assert [path.name for path in in_order(tmp_path, "hwmon*")] == ["hwmon1", "hwmon2", "hwmon10"]
    assert in_order(tmp_path / "nowhere", "*") == []


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["0-40", "0-41"])), max_size=7))
def test_names_are_unique_and_keep_their_stem(wanted: list[tuple[str, str]]) -> None:
    names = unique_names(wanted)
    assert len(set(names)) == len(names) == len(wanted)
    for (name, place), unique in zip(wanted, names, strict=True):
        alone = [each for each, _ in wanted].count(name) == 1
        assert unique == name if alone else unique.startswith(f"{name}@{place}")


@pytest.mark.parametrize(
    ("milliamps", "millivolts", "watts"), [(2000, 5000, 10.0), (-8, 5000, -0.04), (0, 19000, 0.0)]
)
def test_power_is_current_times_voltage(
    tmp_path: Path, milliamps: int, millivolts: int, watts: float
) -> None:
    current, voltage = tmp_path / "curr1_input", tmp_path / "in1_input"
    current.write_text(f"{milliamps}\n")
    voltage.write_text(f"{millivolts}\n")
    files = PowerFiles((current, voltage), 1e-6, least_w=-1.0)
    sensor = FilesSensor({"VDD_IN": files})
    assert sensor.watts() == {"VDD_IN": pytest.approx(watts)}


@pytest.mark.parametrize(("microwatts", "unsigned"), [(-5, False), (10**13, False), (10**13, True)])
def test_a_power_that_no_rail_carries_is_a_fault(
    tmp_path: Path, microwatts: int, unsigned: bool
) -> None:
    path = tmp_path / "power1_input"
    path.write_text(f"{microwatts}\n")
    with pytest.raises(CounterFaultError, match=r"power1_input says .* which no rail carries"):
        PowerFiles((path,), 1e-6, unsigned=unsigned).watts()
