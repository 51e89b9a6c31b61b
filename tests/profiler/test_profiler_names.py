"""The public names, and what importing them does not cost."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import profiler
import profiler.errors
from profiler.errors import CwmpError

HEAVY = (
    "torch",
    "pandas",
    "sklearn",
    "pyarrow",
    "matplotlib",
    "scipy",
    "rich",
    "pynvml",
    "pydantic",
)


@pytest.mark.parametrize("name", profiler.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(profiler, name) is not None
    assert not inspect.ismodule(getattr(profiler, name))


def test_public_names_are_complete_and_sorted() -> None:
    assert list(profiler.__all__) == sorted(set(profiler.__all__))
    assert set(profiler._HOME) | {"probe"} == set(profiler.__all__)
    assert dir(profiler) == list(profiler.__all__)
    errors = {
        name
        for name, value in vars(profiler.errors).items()
        if inspect.isclass(value) and issubclass(value, CwmpError)
    }
    assert errors <= set(profiler.__all__)


def test_probe_is_the_function_in_whatever_order_things_are_imported() -> None:
    lines = ("import profiler.probe, profiler.commands.measure", "from profiler import probe")
    program = "\n".join((*lines, "print(callable(probe))"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'joules'"):
        _ = profiler.joules


@pytest.mark.parametrize(
    ("modules", "also_absent"),
    [
        ("profiler", ("numpy", "click")),
        ("profiler, profiler.meters, profiler.probe, profiler.window", ("click",)),
        ("profiler.commands, profiler.meters.rapl, profiler.meters.nvml", ()),
        ("profiler.meters.modelled, profiler.meters.replay, profiler.meters.fake", ("numpy",)),
    ],
)
def test_importing_loads_nothing_heavy(modules: str, also_absent: tuple[str, ...]) -> None:
    program = f"import sys, {modules}\nprint(*sorted(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    loaded = set(result.stdout.split())
    assert loaded.isdisjoint(HEAVY + also_absent)
