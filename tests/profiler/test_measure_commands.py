"""``cwmp devices`` and ``cwmp measure`` as a user meets them."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from stand_ins.nvml import FakeGpu, NvmlLibrary
from stand_ins.sysfs import SysfsTree

from profiler import cli, console
from profiler.commands import measure as measure_command
from profiler.meters.base import Rail, Systematic
from profiler.meters.fake import FakeMeter
from profiler.meters.recording import Recording, save_recording

PYTHON = sys.executable


def _run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        console.run(cli.cli, list(arguments))
    out, err = capfd.readouterr()
    assert isinstance(left.value.code, int)
    return left.value.code, out, err


@pytest.fixture
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def _json(text: str) -> Any:
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


@pytest.mark.usefixtures("_eighty_columns")
def test_devices_shows_rails_and_why_some_do_not_count(
    sysfs_tree: SysfsTree, capfd: pytest.CaptureFixture[str]
) -> None:
    with sysfs_tree.ticking():
        code, out, _ = _run(capfd, "devices")
    assert code == 0
    lines = out.splitlines()
    assert max(len(line) for line in lines if str(sysfs_tree.root) not in line) <= 80
    row = next(line for line in lines if line.startswith("package-0"))
    assert " yes " in row and " W" in row and "s" in row
    assert any("core-0" in line and "no: lies inside package-0" in line for line in lines)
    assert any(line.startswith("psys") and "contains the packages" in line for line in lines)
    assert str(sysfs_tree.powercap) in out.replace("\n          ", "")


@pytest.mark.usefixtures("_eighty_columns")
def test_devices_gives_path_cause_and_remedy(
    bare_sysfs_tree: SysfsTree, nvml_library: NvmlLibrary, capfd: pytest.CaptureFixture[str]
) -> None:
    nvml_library.script.unlink()
    code, out, _ = _run(capfd, "devices", "--no-probe")
    assert code == 0
    blocks = {block.split(":")[0]: block for block in out.split("\n\n")}
    for name, cause in (("rapl", ""), ("nvml", "no NVIDIA driver")):
        assert blocks[name].startswith(f"{name}: not usable")
        assert "tried" in blocks[name] and "remedy" in blocks[name]
        assert cause in blocks[name]
    assert "not usable" not in blocks["modelled"]


def test_devices_as_json(
    sysfs_tree: SysfsTree, nvml_library: NvmlLibrary, capfd: pytest.CaptureFixture[str]
) -> None:
    nvml_library.show(FakeGpu(power_w=200.0, period_ms=25.0), FakeGpu(uuid="GPU-2", mig=1))
    with sysfs_tree.ticking():
        code, out, err = _run(capfd, "devices", "--json")
    assert (code, err) == (0, "")
    named = ("rapl", "nvml", "modelled")
    sources = [each for each in _json(out)["sources"] if each["source"] in named]
    rapl, gpu, sliced, modelled = sources
    assert [source["usable"] for source in sources] == [True, True, False, True]
    assert {rail["rail"] for rail in rapl["probe"]["rails"]} == {r["name"] for r in rapl["rails"]}
    assert rapl["probe"]["period_s"] > 0
    assert gpu["probe"]["rails"][0]["rail"] == "gpu-0"
    assert gpu["probe"]["quantum_j"] / 5.0 == pytest.approx(round(gpu["probe"]["quantum_j"] / 5.0))
    assert sliced["probe"] is None and "MIG" in sliced["cause"]
    assert modelled["unit"] == "CPU seconds x W"


def test_devices_shows_a_failing_probe_and_goes_on(
    sysfs_tree: SysfsTree, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> bytes:
        raise OSError(5, "Input/output error")

    found = _json(_run(capfd, "devices", "--no-probe", "--json")[1])["sources"][0]
    assert found["usable"] and found["probe"] is None and found["probe_error"] is None
    real, seen = os.pread, []

    def flaky(*arguments: Any) -> bytes:
        seen.append(arguments)
        return real(*arguments) if len(seen) <= 60 else fail()

    monkeypatch.setattr(os, "pread", flaky)
    code, out, _ = _run(capfd, "devices", "--json")
    assert code == 0
    assert "Input/output error" in _json(out)["sources"][0]["probe_error"]


def test_measure_reports_energy_above_rest(
    sysfs_tree: SysfsTree, capfd: pytest.CaptureFixture[str]
) -> None:
    with sysfs_tree.ticking():
        code, out, _ = _run(
            capfd, "measure", "--json", "--idle-s", "0.2", "--repeat", "3", "--meter", "rapl",
            "--", PYTHON, "-c", "print('noise'); raise SystemExit(7)",
        )  # fmt: skip
    assert code == 0
    result = _json(out)
    assert result["exit_codes"] == [7, 7, 7]
    assert result["origin"] == "measured"
    assert result["rails"] == ["package-1", "dram-1", "package-0", "dram-0"]
    assert result["energy_j"]["basis"] == "student" and result["energy_j"]["n"] == 3
    for repetition in result["repetitions"]:
        run = repetition["run"]
        assert run["energy_j"] == pytest.approx(sum(run["rail_energy_j"].values()))
        # 93 W, less or more by a tick at each edge: here at most all there was.
        assert run["energy_j"] > 0
    mean_j = sum(each["run"]["energy_j"] for each in result["repetitions"]) / 3
    assert result["energy_j"]["mean"] == pytest.approx(mean_j)
    assert result["energy_above_rest_j"]["mean"] == pytest.approx(
        sum(each["above_rest_j"] for each in result["repetitions"]) / 3
    )


@pytest.mark.usefixtures("_eighty_columns")
def test_measure_prints_a_table_that_names_its_origin(
    bare_sysfs_tree: SysfsTree, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = _run(capfd, "measure", "--idle-s", "0.05", PYTHON, "-c", "print('hello')")
    assert code == 0
    assert out.startswith("hello\n")
    assert "origin: modelled" in out
    assert "95 % interval (edges)" in out and "--repeat 5" in out
    assert "exit code of the command: 0" in out
    assert "above rest" in out and "W per busy core" in out


def test_measure_of_a_counter_that_never_moved_prints_no_bare_zero(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measure_command, "find_meter", lambda *_, **__: FakeMeter(0.0))
    for repeat in ("1", "3"):
        arguments = ("--idle-s", "0.01", "--repeat", repeat)
        code, out, _ = _run(capfd, "measure", *arguments, "true")
        assert code == 0
        lines = [line for line in out.splitlines() if line.startswith(("energy", "above rest"))]
        assert len(lines) == 2 and all("not seen" in line for line in lines), out
        assert " 0 J" not in out


def test_measure_with_chosen_rails_and_no_rest(
    sysfs_tree: SysfsTree, capfd: pytest.CaptureFixture[str]
) -> None:
    with sysfs_tree.ticking():
        _, out, _ = _run(
            capfd, "measure", "--rails", "psys, dram-0", "--idle-s", "0", "--json", "true"
        )
    result = _json(out)
    assert result["rails"] == ["psys", "dram-0"]
    assert result["energy_above_rest_j"] is None
    assert result["energy_j"]["basis"] == "edges"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--meter", "rappl", "true"], "unknown meter 'rappl'"),
        (["--meter", "replay:absent.csv", "true"], "absent.csv"),
        (["--meter", "replay", "true"], "replay:FILE"),
        (["--meter", "modelled:0", "true"], "positive number of watts"),
        (["--device", "cuda:0", "--meter", "rapl", "true"], "nvml"),
        (["--rails", "package-9", "true"], "no rail 'package-9'"),
        (["--rails", "dram-0,dram-0", "true"], "named twice"),
        (["--idle-s=-1", "true"], "-1.0 s of rest"),
        (["--idle-s", "nan", "true"], "nan s of rest"),
        (["--repeat", "0", "true"], "repeat"),
        (["--", "no-such-program-anywhere"], "no such program"),
        ([], "COMMAND"),
    ],
)
def test_measure_refuses_in_one_line(
    sysfs_tree: SysfsTree,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    code, out, err = _run(capfd, "measure", *arguments)
    assert (code, out) == (2, "")
    assert says in err and "Traceback" not in err
    if not err.startswith("Usage"):
        assert err.startswith("cwmp: ") and err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_recording_that_ends_is_refused_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recording = Recording(
        "bench supply",
        "measured",
        (Rail("board", "board"),),
        (),
        (0.0, 0.01),
        {"board": (0.0, 1.0)},
    )
    save_recording(recording, tmp_path / "short.csv")
    code, _, err = _run(capfd, "measure", "--meter", f"replay:{tmp_path}/short.csv", "true")
    assert code == 2
    assert "the recording is over" in err and err.count("\n") == 1


@pytest.mark.usefixtures("_eighty_columns")
@pytest.mark.parametrize("form", [["--json"], []])
def test_meter_that_fails_later_costs_no_finished_run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], form: list[str]
) -> None:
    meter = FakeMeter(10.0, period_s=0.0)
    runs: list[int] = []

    def run(*_: Any, **__: Any) -> int:
        runs.append(len(runs))
        if len(runs) == 3:
            meter.reset()
        return 0

    monkeypatch.setattr(measure_command, "find_meter", lambda *_, **__: meter)
    monkeypatch.setattr(measure_command, "_run", run)
    monkeypatch.setattr(measure_command, "_PROBE_S", 0.05)
    code, out, err = _run(
        capfd, "measure", "--repeat", "9", "--idle-s", "0.01", *form, "--", "true"
    )
    assert code == 2
    assert err.startswith("cwmp: ") and "it was reset" in err and err.count("\n") == 1
    assert len(runs) == 3
    if form:
        result = _json(out)
        assert "it was reset" in result["error"] and result["interrupted"] is False
        assert result["energy_j"]["n"] == len(result["exit_codes"]) == 2
    else:
        assert "true (2 runs)" in out
        assert "it was reset; measure again): only finished runs" in " ".join(out.split())


@pytest.mark.usefixtures("_eighty_columns")
@pytest.mark.parametrize("form", [["--json"], []])
def test_measure_says_what_the_joules_contain_and_what_the_interval_leaves_out(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], form: list[str]
) -> None:
    meter = FakeMeter(10.0, period_s=0.0)
    terms = (Systematic(0.05, "gain, by the datasheet"),)
    told = dataclasses.replace(meter.info, scope=("the board is not in it",), systematic=terms)
    meter._info = told
    costs_j = iter([1.0, 1.2, 1.4, 1.6, 1.8])
    monkeypatch.setattr(measure_command, "find_meter", lambda *_, **__: meter)
    monkeypatch.setattr(measure_command, "_run", lambda *_, **__: meter.spend(next(costs_j)) or 0)
    monkeypatch.setattr(measure_command, "_PROBE_S", 0.05)
    code, out, _ = _run(capfd, "measure", "--repeat", "5", "--idle-s", "0", *form, "--", "true")
    assert code == 0
    if form:
        result = _json(out)
        assert result["scope"] == ["the board is not in it"]
        assert result["systematic"] == 0.05
        assert result["systematic_terms"][0]["cause"] == "gain, by the datasheet"
        assert any("than the one before" in remark for remark in result["energy_j"]["remarks"])
    else:
        text = " ".join(out.split())
        assert "scope: the board is not in it" in text
        assert "beside the interval: +- 5 % (gain, by the datasheet)" in text
        assert "more than the one before: the machine may have been warming up" in text


def test_meter_that_fails_in_the_first_run_shows_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    meter = FakeMeter(10.0, period_s=0.0)
    monkeypatch.setattr(measure_command, "find_meter", lambda *_, **__: meter)
    monkeypatch.setattr(measure_command, "_run", lambda *_, **__: meter.reset() or 0)
    monkeypatch.setattr(measure_command, "_PROBE_S", 0.05)
    code, out, err = _run(capfd, "measure", "--repeat", "9", "--idle-s", "0", "--", "true")
    assert (code, out) == (2, "")
    assert "it was reset" in err


def test_interrupted_measurement_keeps_the_finished_runs(tmp_path: Path) -> None:
    marker = tmp_path / "runs"
    script = (
        "import pathlib, sys, time\n"
        f"marker = pathlib.Path({str(marker)!r})\n"
        "first = not marker.exists()\n"
        "marker.write_text('again' if not first else 'once')\n"
        "if not first: time.sleep(60)\n"
    )
    program = "from profiler.cli import main; main()"
    arguments = ["measure", "--meter", "fake:10", "--idle-s", "0", "--repeat", "9", "--json", "--"]
    process = subprocess.Popen(
        [PYTHON, "-c", program, *arguments, PYTHON, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not (marker.exists() and marker.read_text() == "again"):
        assert process.poll() is None, process.stderr and process.stderr.read()
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    result = _json(out)
    assert result["interrupted"] is True and result["error"] is None
    assert result["exit_codes"] == [0]
    assert result["energy_j"]["n"] == 1
