"""What is known of the host, and that it is not named unless asked."""

from __future__ import annotations

import getpass
import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
from stand_ins.sysfs import SysfsTree

from profiler.host import (
    cpu_model,
    cpu_vendor,
    describe_host,
    git_revision,
    software_versions,
    virtualisation,
)


def test_host_is_described_but_not_named() -> None:
    host = describe_host()
    json.dumps(host, allow_nan=False)
    assert host["logical_cpus"] >= host["usable_cpus"] >= 1
    assert host["kernel"].startswith(platform.system())
    assert "host_name" not in host and "user_name" not in host
    assert platform.node() not in host.values()


def test_names_are_given_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "someone")
    host = describe_host(identify=True)
    assert host["host_name"] == platform.node()
    assert host["user_name"] == "someone"


@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found: 4711"), OSError()])
def test_user_without_a_name_has_none(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", fail)
    assert describe_host(identify=True)["user_name"] is None


def test_governor_and_caches_come_from_sysfs(bare_sysfs_tree: SysfsTree) -> None:
    assert describe_host()["governor"] is None
    assert describe_host()["caches"] == {}
    cpu0 = bare_sysfs_tree.root / "devices" / "system" / "cpu" / "cpu0"
    (cpu0 / "cpufreq").mkdir(parents=True)
    (cpu0 / "cpufreq" / "scaling_governor").write_text("performance\n")
    for number, (level, kind, size) in enumerate(
        [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2048K")]
    ):
        folder = cpu0 / "cache" / f"index{number}"
        folder.mkdir(parents=True)
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(f"{text}\n")
    host = describe_host()
    assert host["governor"] == "performance"
    assert host["caches"] == {"L1d": "48K", "L1i": "32K", "L2": "2048K"}


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("processor\t: 0\nmodel name\t: Example CPU   @ 3 GHz\n", "Example CPU @ 3 GHz"),
        ("processor\t: 0\nModel\t\t: Example Board Rev 1\n", "Example Board Rev 1"),
        ("", platform.machine()),
    ],
)
def test_processor_names_itself(tmp_path: Path, text: str, model: str) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert cpu_model(tmp_path / "cpuinfo") == model


@pytest.mark.parametrize(
    ("flags", "vendor", "found"),
    [
        ("fpu sse hypervisor", "QEMU", "QEMU"),
        ("fpu sse hypervisor", None, "the CPU reports a hypervisor"),
        ("fpu sse", "Example Computers", None),
        ("fpu sse", "VMware, Inc.", "VMware, Inc."),
        ("fpu not_hypervisor_at_all", None, None),
    ],
)
def test_hypervisor_is_recognised(
    bare_sysfs_tree: SysfsTree, tmp_path: Path, flags: str, vendor: str | None, found: str | None
) -> None:
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: {flags}\n")
    if vendor:
        dmi = bare_sysfs_tree.root / "class" / "dmi" / "id"
        dmi.mkdir(parents=True)
        (dmi / "sys_vendor").write_text(f"{vendor}\n")
    assert virtualisation(tmp_path / "cpuinfo") == found


def test_software_versions_are_those_installed() -> None:
    versions = software_versions()
    assert versions["python"] == platform.python_version()
    assert versions["numpy"] == metadata.version("numpy")


def test_revision_is_that_of_the_checkout_itself(tmp_path: Path) -> None:
    assert git_revision(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    try:
        subprocess.run([*git, "init", "-q"], check=True)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    assert git_revision(tmp_path) is None
    (tmp_path / "file").write_text("1")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "one"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    assert git_revision(tmp_path) == head.stdout.strip()
    (tmp_path / "file").write_text("2")
    assert git_revision(tmp_path) == f"{head.stdout.strip()}-dirty"
    inner = tmp_path / "inner"
    inner.mkdir()
    assert git_revision(inner) is None


@pytest.mark.parametrize(
    ("text", "vendor"),
    [
        ("processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\n", "GenuineIntel"),
        ("vendor_id : AuthenticAMD\n", "AuthenticAMD"),
        ("processor\t: 0\nCPU implementer\t: 0x41\n", None),
        ("", None),
    ],
)
def test_cpu_vendor_is_what_the_kernel_shows(tmp_path: Path, text: str, vendor: str | None) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert cpu_vendor(tmp_path / "cpuinfo") == vendor
    assert cpu_vendor(tmp_path / "nowhere") is None
