"""What ``cwmp devices`` says of boards: short where they are absent, whole where they are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from stand_ins.boards import BoardTree, Vcgencmd

from profiler.listing import print_source
from profiler.meters import meter_source

BOARDS = ("ina3221", "hwmon", "pmic", "battery")


def _listed(name: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    for report in meter_source(name).discover():
        print_source(report, None, None)
    return capsys.readouterr().out.strip().splitlines()


@pytest.mark.parametrize("name", BOARDS)
def test_absent_hardware_takes_two_lines_with_cause_and_remedy(
    name: str,
    board_tree: BoardTree,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("PATH", str(tmp_path))
    first, second = _listed(name, capsys)
    assert first.startswith(f"{name}: not usable: ")
    assert second.startswith("  tried ") and "; remedy: " in second
    assert name == "pmic" or str(board_tree.root) in second


@pytest.mark.parametrize("name", BOARDS)
def test_what_is_there_is_listed_with_its_rails(
    name: str, board_tree: BoardTree, vcgencmd: Vcgencmd, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vcgencmd.watts
    board_tree.jetson({1: ("VDD_IN", 9.0), 2: ("VDD_SOC", 2.0)})
    board_tree.chip("zenpower", number=1, powers={"SVI2_P_Core": 40.0, "SVI2_P_SoC": 9.0})
    board_tree.battery("BAT0", 10.0)
    lines = _listed(name, capsys)
    counted = [line for line in lines if " yes " in line]
    assert lines[0].startswith(f"{name}: ") and "counts" in lines[0]
    assert len(counted) == {"ina3221": 1, "hwmon": 2, "pmic": 4, "battery": 1}[name]


def test_hardware_that_is_there_but_of_no_use_now_is_listed_in_full(
    board_tree: BoardTree, capsys: pytest.CaptureFixture[str]
) -> None:
    board_tree.battery("BAT0", 10.0, status="Full")
    lines = _listed("battery", capsys)
    assert [line.split()[0] for line in lines] == ["battery:", "tried", "cause", "remedy"]
