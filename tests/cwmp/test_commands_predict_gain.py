"""``cwmp predict-gain``: what it prints and draws, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from stand_ins.cost_files import cost_file

from cwmp import CostFile, predict_gain
from cwmp.cli import cli
from cwmp.report import regime
from profiler.console import run
from profiler.layers import LayerInfo

SIZES = (4000, 40, 900, 8, 2500)
LAYERS = [LayerInfo(f"l{i}", "nn.Linear", (n,), "float32") for i, n in enumerate(SIZES)]


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(regime, "_FIXED", np.geomspace(1, 1e5, 4))
    monkeypatch.setattr(regime, "_DENSITIES", 5)
    cost_file(LAYERS).save("costs.json")
    return tmp_path


def _call(command: str) -> int:
    with pytest.raises(SystemExit) as left:
        run(cli, ["predict-gain", *command.split()])
    assert isinstance(left.value.code, int)
    return left.value.code


def test_a_table_and_a_sentence_a_budget(capsys: pytest.CaptureFixture[str]) -> None:
    assert _call("costs.json --budget 20% --budget 50% --draws 20") == 0
    printed = capsys.readouterr()
    expected = predict_gain(CostFile.load("costs.json"), budget="20%").gain
    assert f"{expected:.3f} [" in printed.out
    assert "\n20%: " in printed.out and "\n50%: " in printed.out
    assert max(len(line.rstrip()) for line in printed.out.splitlines()) <= 80
    assert printed.err == ""


def test_without_a_budget_it_finds_some_that_open_a_layer(capsys) -> None:
    assert _call("costs.json --draws 0 --json") == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["budgets"]) == 3
    assert all(each["ratio"]["low"] is None for each in document["budgets"])


def test_json_is_what_the_library_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert _call("costs.json --budget 30% --distribution gaussian --draws 20 --json") == 0
    printed = capsys.readouterr()
    (found,) = json.loads(printed.out)["budgets"]
    gain = predict_gain(
        CostFile.load("costs.json"),
        "gaussian",
        "30%",
        generator=np.random.default_rng(0),
        draws=20,
    )
    assert found["gain"] == gain.gain and found["ratio"]["high"] == gain.ratio.high
    assert found["flat"] == gain.flat and found["advice"]
    assert printed.err == ""


def test_an_update_in_hand(capsys: pytest.CaptureFixture[str]) -> None:
    numbers = np.random.default_rng(0)
    update = {layer.name: numbers.normal(0, 1 + i, layer.shape) for i, layer in enumerate(LAYERS)}
    np.savez("update.npz", **update)
    assert _call("costs.json --budget 30% --update update.npz --draws 0 --json") == 0
    (found,) = json.loads(capsys.readouterr().out)["budgets"]
    assert found["gain"] == predict_gain(CostFile.load("costs.json"), update, "30%").gain
    assert "given update" in found["basis"]


def test_a_sample_of_an_update_may_have_any_size(capsys: pytest.CaptureFixture[str]) -> None:
    numbers = np.random.default_rng(0)
    sample = {layer.name: numbers.laplace(size=50 + i) for i, layer in enumerate(LAYERS)}
    np.savez("sample.npz", **sample)
    assert _call("costs.json --budget 30% --update sample.npz --draws 0 --json") == 0
    (found,) = json.loads(capsys.readouterr().out)["budgets"]
    assert found["gain"] == predict_gain(CostFile.load("costs.json"), sample, "30%").gain


def test_the_map_is_written_and_not_over_another(workplace: Path, capsys) -> None:
    assert _call("costs.json --budget 30% --draws 0 --map map.png") == 0
    assert "wrote map.png" in capsys.readouterr().err
    drawn = (workplace / "map.png").read_bytes()
    assert drawn.startswith(b"\x89PNG")
    assert _call("costs.json --budget 30% --draws 0 --map map.png") == 2
    printed = capsys.readouterr()
    assert printed.out == "" and "--force" in printed.err
    assert _call("costs.json --budget 40% --draws 0 --map map.png --force") == 0
    assert (workplace / "map.png").read_bytes() != drawn


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("none.json", "none.json"),
        ("costs.json --budget 0.0001%", "opens no layer"),
        ("costs.json --budget 101%", "above 100 %"),
        ("costs.json --budget 5kJ", "above the dense cost"),
        ("costs.json --budget x", "'x'"),
        ("costs.json --update none.npz", "none.npz"),
        ("costs.json --update costs.json", ".safetensors"),
        ("costs.json --update other.npz", "'l0'"),
        ("costs.json --distribution cauchy", "'cauchy'"),
        ("costs.json --draws -1", "-1"),
        ("costs.json --map nowhere/map.png", "nowhere"),
        ("costs.json --map map.jpg", "'map.jpg'"),
        ("costs.json --distribution laplace --update other.npz", "give one of them"),
    ],
)
def test_what_cannot_be_answered_is_said_in_a_line(command: str, said: str, workplace, capsys):
    np.savez("other.npz", l1=np.ones(40))
    before = sorted(workplace.iterdir())
    assert _call(command) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1
    assert said in printed.err
    assert sorted(workplace.iterdir()) == before
