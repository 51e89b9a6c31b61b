"""Compiled kernels on disk: reused by a second process, never with other sources."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cwmp.kernels import crossing, jit

PROGRAM = """
import logging, sys
logging.basicConfig(stream=sys.stdout, format="%(message)s")
from cwmp.kernels import magnitudes
import numpy as np
print(magnitudes.threshold_bits(1.0, np.ones(1)))
print(len(magnitudes.threshold_bits.stats.cache_hits))
"""


def _run(cache: Path) -> list[str]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_the_first_process_compiles_and_says_so_and_the_second_does_not(tmp_path: Path) -> None:
    bits = "[1065353216]"
    said = "compiling the kernels for this CPU; this happens once a machine"
    assert _run(tmp_path) == [said, bits, "0"]
    assert _run(tmp_path) == [bits, "1"]


def test_a_digest_covers_what_a_kernel_calls() -> None:
    here = Path(crossing.__file__)
    names = {path.name for path in jit._closure(here)}
    assert {"crossing.py", "doubt.py", "simd.py"} <= names
    assert "payload.py" in names  # sizes of headers, compiled in as constants
    assert jit.sources_digest(here.with_name("simd.py")) != jit.sources_digest(here)


def test_a_function_of_another_program_can_be_compiled(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from cwmp.kernels.jit import compiled\n"
        "@compiled\n"
        "def twice(x):\n"
        "    return 2 * x\n"
        "print(twice(21))\n"
    )
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "42\n"


def test_a_changed_callee_changes_the_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "cwmp" / "kernels"
    package.mkdir(parents=True)
    (package / "one.py").write_text("from cwmp.kernels.other import f\n")
    (package / "other.py").write_text("f = 1\n")
    monkeypatch.setattr(jit, "__file__", str(package / "jit.py"))
    digests = set()
    for text in ("f = 1\n", "f = 2\n"):
        (package / "other.py").write_text(text)
        for part in (jit._imports, jit.sources_digest):
            part.cache_clear()
        digests.add(jit.sources_digest(package / "one.py"))
    for part in (jit._imports, jit.sources_digest):
        part.cache_clear()
    assert len(digests) == 2


def test_the_notice_is_of_this_package_alone(caplog: pytest.LogCaptureFixture) -> None:
    kernel = SimpleNamespace(__module__="elsewhere.kernels")
    event = SimpleNamespace(data={"dispatcher": SimpleNamespace(py_func=kernel)})
    announcer = jit._Announcer()
    with caplog.at_level(logging.WARNING, "cwmp.kernels"):
        announcer.on_start(event)
        assert not caplog.records
        kernel.__module__ = "cwmp.kernels.scan"
        announcer.on_start(event)
        announcer.on_start(event)
    assert [record.name for record in caplog.records] == ["cwmp.kernels"]
