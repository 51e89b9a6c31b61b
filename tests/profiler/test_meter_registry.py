"""Finding a meter by name, and never finding one that is not there."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest
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
