"""What the package offers, and what importing it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import costmodels


def test_every_listed_name_can_be_imported() -> None:
    for name in costmodels.__all__:
        assert getattr(costmodels, name).__name__ == name


def test_all_is_what_the_type_checker_sees_and_what_is_loaded() -> None:
    tree = ast.parse(Path(costmodels.__file__).read_text())
    seen = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("costmodels.")
        for alias in node.names
    }
    assert seen == set(costmodels.__all__) == set(costmodels._HOMES)
    assert costmodels.__all__ == sorted(costmodels.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        costmodels.nothing  # noqa: B018


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'sklearn', 'scipy', 'pandas', 'pydantic'}"
    code = f"import sys, costmodels; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
