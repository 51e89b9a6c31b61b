"""``cwmp`` as a user calls it, beside a table of energies with known prices and its spec."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cwmp.cli import cli
from profiler.console import run

SPEC = """
version = 1
source = "a simulated board"
kind = { column = "op" }
[energy]
column = "energy"
unit = "mJ"
[features]
macs = { unit = "J/MAC" }
bytes = { unit = "J/byte" }
[groupings]
network = "network"
size = { feature = "macs", bins = 4 }
"""
PRICES = {"conv": (2e-11, 3e-9, 1e-5), "linear": (6e-11, 1e-9, 4e-6)}


def table(networks: int = 12, rows: int = 10, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    m = networks * rows
    macs = (10 ** generator.uniform(6, 9, m)).round()
    moved = (10 ** generator.uniform(4, 7, m)).round()
    op = np.where(np.arange(m) % 2 == 0, "conv", "linear")
    prices = np.array([PRICES[name] for name in op])
    joules = (prices * np.column_stack([macs, moved, np.ones(m)])).sum(axis=1)
    joules *= np.exp(0.05 * generator.normal(size=m))
    network = [f"net{number}" for number in np.repeat(np.arange(networks), rows)]
    return pd.DataFrame(
        {"network": network, "op": op, "macs": macs, "bytes": moved, "energy": 1e3 * joules}
    )


class Outcome:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def flat(self) -> str:
        return " ".join(self.out.split())


Call = Callable[..., Outcome]


def called_in(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Call:
    """``cwmp ...`` in a folder with a table and its spec, on an 80-column terminal."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(folder)
    table().to_csv("table.csv", index=False)
    Path("spec.toml").write_text(SPEC)

    def call(*arguments: object) -> Outcome:
        with pytest.raises(SystemExit) as left:
            run(cli, [str(argument) for argument in arguments])
        caught = capsys.readouterr()
        if "--json" not in arguments:
            assert max(map(len, caught.out.splitlines()), default=0) <= 80
        return Outcome(int(str(left.value.code)), caught.out, caught.err)

    return call


FIT = ("fit", "table.csv", "--columns", "spec.toml", "-o", "model.json")
PREDICT = ("predict", "model.json", "--table", "new.csv", "--columns", "spec.toml", "-o")


def refused(outcome: Outcome, *words: str) -> None:
    """Exit code 2, nothing on stdout, one line on stderr that names the thing, nothing written."""
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith("cwmp: ")
    for word in words:
        assert word in outcome.err
    written = {path.name for path in Path().iterdir()}
    assert written <= {"table.csv", "spec.toml", "new.csv", "other.csv"}
