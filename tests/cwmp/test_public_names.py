from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cwmp


@pytest.mark.parametrize("name", cwmp.__all__)
def test_every_name_resolves_to_something_of_that_name(name: str) -> None:
    assert getattr(cwmp, name).__name__ == name


def test_all_names_what_is_imported_for_type_checkers() -> None:
    tree = ast.parse(Path(cwmp.__file__).read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    imported = [alias.name for node in guarded.body for alias in node.names]
    assert sorted(imported) == sorted(cwmp.__all__)
    assert set(cwmp.__all__) <= set(dir(cwmp))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = cwmp.no_such_name


def test_importing_loads_nothing_heavy() -> None:
    code = "import sys, cwmp; print(sorted({'torch', 'numpy', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_selecting_and_encoding_do_not_load_torch() -> None:
    code = "import sys, cwmp; cwmp.CostWeighted; cwmp.encode; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
