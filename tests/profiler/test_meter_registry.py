"""Finding a meter by name, and never finding one that is not there."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest
from stand_ins.boards import BoardTree
from stand_ins.nvml import NvmlLibrary
from stand_ins.sysfs import SysfsTree

from profiler.errors import InputError, InputFileError, MeterNotFoundError
from profiler.meters import BUILT_IN, discover, find_meter, meter_names, meter_source
from profiler.meters.fake import FakeMeter


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_sources_go_by_their_own_names(name: str) -> None:
    assert meter_source(name).name == name


def test_auto_takes_the_counter_where_there_is_one(sysfs_tree: SysfsTree) -> None:
    meter = find_meter()
    assert (meter.info.name, meter.info.origin) == ("rapl", "measured")
    meter.close()
    meter = find_meter("auto", rails=["dram-0"])
    assert meter.info.selected == ("dram-0",)
    meter.close()


def test_auto_models_a_cpu_without_counter_and_says_why(bare_sysfs_tree: SysfsTree) -> None:
    info = find_meter().info
    assert (info.name, info.origin) == ("modelled", "modelled")
    assert any(sentence.startswith("rapl was not usable: ") for sentence in info.assumptions)


def test_auto_never_models_a_gpu(nvml_library: NvmlLibrary) -> None:
    nvml_library.script.unlink()
    with pytest.raises(MeterNotFoundError, match=r"no NVIDIA driver.*install"):
        find_meter(device="cuda:0")


def _jetson(tree: SysfsTree, rails: dict[int, tuple[str, float]]) -> None:
    board = BoardTree(tree.root)
    board.name_board("NVIDIA Jetson AGX Orin Developer Kit")
    board.jetson(rails)


def test_auto_takes_the_rails_of_a_jetson_for_its_gpu(
    bare_sysfs_tree: SysfsTree, nvml_library: NvmlLibrary
) -> None:
    nvml_library.script.unlink()
    _jetson(
        bare_sysfs_tree, {1: ("VDD_GPU_SOC", 3.0), 2: ("VDD_CPU_CV", 1.0), 3: ("VIN_SYS_5V0", 4.0)}
    )
    meter = find_meter(device="cuda:0")
    assert (meter.info.name, meter.info.covers) == ("ina3221", "gpu")
    meter.close()


def test_jetson_whose_rails_must_be_chosen_says_so_and_not_how_to_install_a_driver(
    bare_sysfs_tree: SysfsTree, nvml_library: NvmlLibrary
) -> None:
    nvml_library.script.unlink()
    _jetson(bare_sysfs_tree, {1: ("ONE", 3.0), 2: ("TWO", 1.0)})
    with pytest.raises(MeterNotFoundError, match=r"ina3221.*choose with --rails") as refused:
        find_meter(device="cuda:0")
    assert "driver" not in str(refused.value)
    meter = find_meter(device="cuda:0", rails=["ONE"])
    assert meter.info.selected == ("ONE",)
    meter.close()


def test_auto_counts_what_is_left_where_a_memory_is_dead(sysfs_tree: SysfsTree) -> None:
    sysfs_tree.break_reading("intel-rapl:2:2")
    meter = find_meter()
    assert meter.info.name == "rapl"
    (dead,) = [r for r in meter.info.rails if "cannot be read" in (r.excluded_because or "")]
    assert dead.domain == "dram" and dead.name not in meter.info.selected
    assert any(f"{dead.name} is outside" in sentence for sentence in meter.info.scope)
    meter.close()


def test_a_dead_package_names_the_rails_that_are_left(sysfs_tree: SysfsTree) -> None:
    sysfs_tree.break_reading("intel-rapl:2")
    (report,) = meter_source("rapl").discover()
    left = [rail.name for rail in report.rails if rail.counted]
    assert not report.usable and report.remedy is not None
    rails = report.remedy.partition("--rails ")[2].split(",")
    assert rails and set(rails) < set(left)
    meter = find_meter("rapl", rails=rails)
    meter.close()
    assert any("--rails" in sentence for sentence in find_meter().info.assumptions)


def test_auto_takes_nvml_for_a_gpu(
    nvml_library: NvmlLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    meter = find_meter(device="cuda:0")
    assert meter.info.name == "nvml"
    meter.close()


def test_auto_does_not_guess_for_other_devices() -> None:
    with pytest.raises(InputError, match="mps"):
        find_meter(device="mps")


@pytest.mark.parametrize("spec", ["rappl", "", "auto:5", "RAPL", ":"])
def test_unknown_name_is_refused_with_the_names_there_are(spec: str) -> None:
    with pytest.raises(InputError, match=", ".join(["auto", *BUILT_IN])):
        find_meter(spec)


def test_argument_follows_the_first_colon(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="a:b"):
        find_meter(f"replay:{tmp_path}/a:b")
    assert find_meter("fake:3").read().energy_j.keys() == {"cpu"}


def test_looking_reports_what_is_absent_with_cause_and_remedy(bare_sysfs_tree: SysfsTree) -> None:
    reports = discover()
    assert {report.source for report in reports} >= {"rapl", "nvml", "modelled"}
    for report in reports:
        assert report.path
        if report.usable:
            assert report.rails and report.unit and report.cause is None
        else:
            assert report.cause and report.remedy


class _PluggedIn:
    name = "supply"

    def discover(self) -> list[object]:
        raise OSError("the supply does not answer")

    def open(self, argument: str = "", **_: object) -> FakeMeter:
        return FakeMeter(float(argument))


def test_installed_packages_may_add_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    module = type(sys)("a_power_supply")
    module.SOURCE = _PluggedIn()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_power_supply", module)
    points = [
        metadata.EntryPoint("supply", "a_power_supply:SOURCE", "cwmp.meters"),
        metadata.EntryPoint("broken", "no_such_module:SOURCE", "cwmp.meters"),
        metadata.EntryPoint("rapl", "no_such_module:SOURCE", "cwmp.meters"),
    ]
    monkeypatch.setattr(
        metadata, "entry_points", lambda group: points if group == "cwmp.meters" else []
    )
    assert meter_names() == [*BUILT_IN, "supply", "broken"]
    assert find_meter("supply:7").info.name == "fake"
    with pytest.raises(MeterNotFoundError, match="no_such_module"):
        find_meter("broken")
    causes = {report.source: report.cause for report in discover()}
    assert causes["supply"] == "the supply does not answer"
    assert "no_such_module" in (causes["broken"] or "")
