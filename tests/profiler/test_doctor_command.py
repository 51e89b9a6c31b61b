"""``cwmp doctor`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stand_ins.nvml import FakeGpu, NvmlLibrary
from stand_ins.sysfs import SysfsTree

from profiler import cli, console, doctor
from profiler.checks.finding import Trees
from profiler.commands import doctor as commands_doctor
from profiler.errors import InputError
from profiler.meters import powercap


def _run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        console.run(cli.cli, ["doctor", *arguments])
    out, err = capfd.readouterr()
    assert isinstance(left.value.code, int)
    return left.value.code, out, err


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(doctor, "_PROBE_S", 0.2)


def test_without_a_counter_the_first_line_says_so(
    bare_sysfs_tree: SysfsTree, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, err = _run(capfd, "--no-measure")
    assert code == 0
    assert out.startswith("NOTHING HERE MEASURES ENERGY: 'modelled' only models it")
    assert "SPOILS: no-counter" in out and "remedy" in out
    assert "noise   not measured: not asked for" in out
    assert "looking at this host" in err


def test_strict_is_for_scripts(
    bare_sysfs_tree: SysfsTree, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, err = _run(capfd, "--no-measure", "--strict", "--json")
    assert (code, err) == (2, "")
    assert json.loads(out)["spoiled"] is True


def test_findings_of_this_tree_are_in_the_document(
    sysfs_tree: SysfsTree, capfd: pytest.CaptureFixture[str]
) -> None:
    governor = sysfs_tree.root / "devices/system/cpu/cpu0/cpufreq/scaling_governor"
    governor.parent.mkdir(parents=True)
    governor.write_text("powersave\n")
    with sysfs_tree.ticking():
        code, out, _ = _run(capfd, "--no-measure", "--json")
    document = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert code == 0
    assert (document["meter"], document["origin"]) == ("rapl", "measured")
    found = {each["name"]: each for each in document["findings"]}
    assert "no-counter" not in found
    assert str(governor) in found["governor"]["evidence"]
    assert "sudo tee" in found["governor"]["remedy"]
    assert document["noise"] is None and document["no_noise_because"] == "not asked for"


@pytest.mark.usefixtures("bare_sysfs_tree")
def test_noise_is_measured_and_priced(capfd: pytest.CaptureFixture[str]) -> None:
    found = doctor.diagnose("fake:10", watch_s=0.01, seconds=0.8)
    assert found.noise is not None and found.no_noise_because is None
    commands_doctor.print_diagnosis(found)
    out = " ".join(capfd.readouterr().out.split())
    assert "noise of this host (assumed)" in out
    assert f"blocks needed for 5 %: {found.noise.blocks} (" in out and "instead of" in out
    document = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert document["noise"]["pairs"] >= 6
    fewest, most = document["noise"]["blocks_interval"]
    assert fewest <= document["noise"]["blocks"] <= most


@pytest.mark.usefixtures("bare_sysfs_tree")
def test_meter_that_is_not_there_is_a_diagnosis_and_no_error(
    capfd: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = _run(capfd, "--meter", "rapl")
    assert code == 0
    assert out.startswith("NOTHING HERE MEASURES ENERGY: no RAPL counter")


@pytest.mark.usefixtures("bare_sysfs_tree")
def test_unknown_meter_is_refused_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = _run(capfd, "--meter", "rappl")
    assert (code, out) == (2, "")
    assert "unknown meter 'rappl'" in err and "Traceback" not in err


def test_refused_counter_is_shown_with_what_mends_it(
    sysfs_tree: SysfsTree, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from profiler.errors import MeterPermissionError
    from profiler.meters import rapl

    def refuse(path: Path) -> int:
        command = powercap.permission_command(sysfs_tree.powercap)
        raise MeterPermissionError(f"only root may read {path}; {command}")

    monkeypatch.setattr(rapl, "_open", refuse)
    _, out, _ = _run(capfd, "--no-measure")
    assert "SPOILS: counter-unreadable" in out
    assert f"sudo chmod o+r {sysfs_tree.powercap}/intel-rapl:*/energy_uj" in out


@pytest.mark.usefixtures("bare_sysfs_tree")
def test_diagnosis_of_other_trees(tmp_path: Path) -> None:
    trees = Trees(tmp_path / "sys", tmp_path / "proc")
    found = doctor.diagnose("fake:5", measure=False, trees=trees, watch_s=0.01)
    assert found.meter is not None and found.meter.name == "fake"
    assert found.spoiled  # no counter: made-up joules are none
    with pytest.raises(InputError):
        doctor.diagnose("fake:-5", measure=False, trees=trees, watch_s=0.01)


@pytest.mark.parametrize(
    ("gpu", "expected"),
    [
        (FakeGpu().with_(persistence=1), {}),
        (FakeGpu(), {"gpu-persistence": "--persistence-mode=1"}),
        (FakeGpu(mig=1).with_(persistence=1), {"gpu-mig": "sudo nvidia-smi -i 0 -mig 0"}),
        (
            FakeGpu().with_(persistence=1, sm_mhz=300, max_mhz=1980),
            {"gpu-clocks": "--lock-gpu-clocks=1386"},
        ),
        (FakeGpu().with_(persistence=1, other_pid=4321), {"gpu-shared": "nvidia-smi -i 0"}),
        (FakeGpu().with_(persistence=1, reasons=0x41), {"gpu-throttled": "supported-clocks"}),
        (FakeGpu().with_(persistence=1, reasons=0x4), {"gpu-power-limit": "supported-clocks"}),
        (FakeGpu().with_(persistence=1, reasons=0x1), {}),
    ],
)
@pytest.mark.usefixtures("bare_sysfs_tree")
def test_faults_of_a_gpu(nvml_library: NvmlLibrary, gpu: FakeGpu, expected: dict[str, str]) -> None:
    nvml_library.show(gpu)
    found = doctor.diagnose("modelled", measure=False, watch_s=0.01)
    faults = {each.name: each.remedy for each in found.findings if each.name.startswith("gpu-")}
    assert faults.keys() == expected.keys()
    assert all(remedy in faults[name] for name, remedy in expected.items())


@pytest.mark.usefixtures("bare_sysfs_tree")
def test_gpu_that_computes_for_another_is_named(nvml_library: NvmlLibrary) -> None:
    nvml_library.show(FakeGpu().with_(persistence=1), FakeGpu(uuid="GPU-2").with_(other_pid=77))
    found = doctor.diagnose("modelled", measure=False, watch_s=0.01)
    whats = [each.what for each in found.findings if each.name == "gpu-shared"]
    assert whats == ["another process computes on GPU 1 (Stand-in GPU): pid 77"]


def test_fault_of_a_gpu_spoils_what_is_measured_on_it_alone(
    sysfs_tree: SysfsTree,
    nvml_library: NvmlLibrary,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    sliced = FakeGpu(uuid="GPU-2", mig=1).with_(persistence=1)
    busy = FakeGpu(uuid="GPU-3").with_(persistence=1, other_pid=77)
    nvml_library.show(FakeGpu().with_(persistence=1), sliced, busy)

    def severities(*arguments: str) -> dict[str, str]:
        _, out, _ = _run(capfd, "--no-measure", "--json", *arguments)
        found = json.loads(out)["findings"]
        return {each["name"]: each["severity"] for each in found if each["name"].startswith("gpu")}

    with sysfs_tree.ticking():
        for arguments in ([], ["--meter", "nvml", "--device", "cuda:0"]):
            assert severities(*arguments) == {"gpu-mig": "note", "gpu-shared": "note"}
        on_busy = severities("--meter", "nvml", "--device", "cuda:2")
        assert on_busy == {"gpu-mig": "note", "gpu-shared": "spoils"}
        assert severities("--device", "cuda:1")["gpu-mig"] == "spoils"


def test_mask_spoils_nothing_where_the_host_tree_is_read(
    sysfs_tree: SysfsTree, tmp_path: Path
) -> None:
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    mask = "600 500 0:50 / /sys/devices/virtual/powercap ro,relatime - tmpfs tmpfs ro\n"
    (proc / "self/mountinfo").write_text(mask)
    trees = Trees(sysfs=sysfs_tree.root, proc=proc)
    with sysfs_tree.ticking():
        found = doctor.diagnose(measure=False, trees=trees, watch_s=0.01)
    assert "container-mask" not in {each.name for each in found.findings}
