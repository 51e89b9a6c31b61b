"""Joules flow one way, and so do imports: profiler -> costmodels -> cwmp."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("profiler", "costmodels", "cwmp", "device_traces")
ALLOWED = {
    "profiler": {"profiler"},
    "costmodels": {"costmodels", "profiler"},
    "cwmp": {"cwmp", "costmodels", "profiler", "device_traces"},
    "device_traces": {"device_traces", "profiler"},
}
SOURCES = sorted(path for package in OURS for path in (ROOT / package).rglob("*.py"))


def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    assert _imported(path) & set(OURS) <= ALLOWED[package]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_unpickles(path: Path) -> None:
    forbidden = {"pickle", "joblib", "cloudpickle", "dill", "shelve", "marshal"}
    assert not _imported(path) & forbidden
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("torch.load", "pd.read_pickle", "pandas.read_pickle")
            allows = [
                keyword.arg for keyword in node.keywords if ast.unparse(keyword.value) == "True"
            ]
            assert "allow_pickle" not in allows


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("cwmp.cli", {"torch", "pandas", "numpy", "sklearn", "scipy", "rich"}),
        ("profiler.cli", {"torch", "pandas", "numpy", "sklearn", "scipy", "rich"}),
        ("profiler", {"torch", "pandas", "sklearn", "pyarrow", "matplotlib", "scipy"}),
        ("costmodels", {"torch", "sklearn", "matplotlib"}),
        ("cwmp", {"torch", "sklearn", "matplotlib"}),
    ],
)
def test_importing_stays_light(module: str, heavy: set[str]) -> None:
    code = f"import sys, {module}; print(*sorted(set(sys.modules) & {heavy!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
