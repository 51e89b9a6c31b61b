"""What a user installs: the wheel, by itself, in an environment with nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


def _call(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def _build(project: Path, destination: Path) -> Path:
    _call(
        sys.executable, "-m", "build", "--wheel", "--no-isolation",
        "--outdir", destination, project, cwd=destination,
    )  # fmt: skip
    (wheel,) = destination.glob("*.whl")
    return wheel


def _environment(folder: Path, requirement: str) -> Path:
    _call(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    torch = f"torch=={version('torch').split('+')[0]}"
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join([*(p for p in pins if not p.startswith("torch==")), torch]))
    _call(
        folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--constraint", constraints, requirement, cwd=folder.parent,
    )  # fmt: skip
    return folder / "bin"


@pytest.mark.timeout(900)
def test_the_wheel_runs_the_demo_in_an_empty_environment(tmp_path: Path) -> None:
    wheel = _build(ROOT, tmp_path)
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert top == {"profiler", "costmodels", "cwmp", "device_traces"}
    assert "device_traces/manifest.json" in names
    assert not [name for name in names if name.endswith("pyproject.toml")]
    assert any(name.startswith("device_traces/") and name.endswith(".parquet") for name in names)

    binaries = _environment(tmp_path / "empty", f"{wheel}[report]")
    _call(binaries / "cwmp", "demo", "--quick", "-o", tmp_path / "out", cwd=tmp_path)
    written = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {"trace.parquet", "costmodel.json", "costs.json", "summary.json"} <= written
    assert "accuracy_vs_joules.png" in written


@pytest.mark.timeout(300)
def test_the_profiler_alone_is_light(tmp_path: Path) -> None:
    wheel = _build(ROOT / "profiler", tmp_path)
    binaries = _environment(tmp_path / "board", str(wheel))
    installed = json.loads(
        _call(binaries / "python", "-m", "pip", "list", "--format=json", cwd=tmp_path)
    )
    assert not {p["name"].lower() for p in installed} & {
        "torch",
        "pandas",
        "scikit-learn",
        "pyarrow",
    }

    sources = json.loads(_call(binaries / "cwmp", "devices", "--json", cwd=tmp_path))
    assert sources
    measured = _call(
        binaries / "cwmp", "measure", "--meter", "modelled", "--json", "--",
        sys.executable, "-c", "sum(range(10**6))", cwd=tmp_path,
    )  # fmt: skip
    assert json.loads(measured)["origin"] == "modelled"
