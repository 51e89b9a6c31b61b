"""Everything that can be wrong with what a user gives, driven through the command line.

Each case must end in one line on stderr that names the thing, exit code 2, no traceback, and
nothing written.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from stand_ins.cost_files import cost_file

from cwmp.cli import cli
from cwmp.fl.models import build_model
from profiler.console import run
from profiler.layers import layers_of

GOLDEN = Path(__file__).parent / "golden"
SMALL = "--clients 3 --alpha 1 --rounds 1 --seeds 1"
MODELS = """
from torch import nn

def empty():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Linear(4, 0))

def number():
    return 3

def no_parameters():
    return nn.Flatten()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trace, costs of an MLP on digits, and models of one's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own", raising=False)
    (tmp_path / "own.py").write_text(MODELS)
    (tmp_path / "trace.csv").write_bytes((GOLDEN / "trace-v1.csv").read_bytes())
    (tmp_path / "model.json").write_bytes((GOLDEN / "costmodel-v1.json").read_bytes())
    cost_file(layers_of(build_model("mlp", (1, 8, 8)))).save(tmp_path / "costs.json")
    cost_file(layers_of(build_model("mlp", (3, 32, 32)))).save(tmp_path / "wide.json")
    (tmp_path / "empty-sys").mkdir()
    return tmp_path


def _refused(command: str, folder: Path, capsys: pytest.CaptureFixture[str], *said: str) -> None:
    before = _contents(folder)
    with pytest.raises(SystemExit) as left:
        run(cli, command.split())
    printed = capsys.readouterr()
    assert left.value.code == 2, printed.err
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("cwmp: "), printed.err
    for text in said:
        assert text in lines[0]
    assert _contents(folder) == before


def _contents(folder: Path) -> dict[Path, int | None]:
    """Every file with its time of change, and every folder."""
    return {
        path: path.stat().st_mtime_ns if path.is_file() else None
        for path in folder.rglob("*")
        if "__pycache__" not in str(path)
    }


def _edit_csv(change: Callable[[list[list[str]], dict[str, int]], None], folder: Path) -> None:
    header, names, *rows = (folder / "trace.csv").read_text().splitlines()
    columns = {name: number for number, name in enumerate(names.split(","))}
    table = [row.split(",") for row in rows]
    change(table, columns)
    lines = [header, names, *(",".join(row) for row in table)]
    (folder / "trace.csv").write_text("\n".join(lines) + "\n")


def _edit_json(path: Path, change: Callable[[dict], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("energy_j", "nan"),
        ("energy_j", "-0.5"),
        ("reference_energy_j", "-1e-9"),
        ("duration_s", "inf"),
        ("cost_j_per_call", ""),
        ("repetitions", "0"),
        ("k", "1.5"),
        ("parameters", "many"),
        ("origin", "guessed"),
    ],
)
@pytest.mark.parametrize("command", ["costs trace.csv -o out.json", "fit trace.csv -o out.json"])
def test_a_trace_with_a_bad_cell(command, column, value, folder, capsys):
    def spoil(rows: list[list[str]], columns: dict[str, int]) -> None:
        rows[2][columns[column]] = value

    _edit_csv(spoil, folder)
    _refused(command, folder, capsys, "trace.csv", "origin" if column == "origin" else column)


def test_negative_paired_differences_are_no_fault(folder, capsys):
    def negate(rows: list[list[str]], columns: dict[str, int]) -> None:
        rows[0][columns["cost_j_per_call"]] = "-1e-9"

    _edit_csv(negate, folder)
    with pytest.raises(SystemExit) as left:
        run(cli, ["costs", "trace.csv", "-o", "out.json"])
    assert left.value.code == 0
    assert (folder / "out.json").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"version":1', '"version":2', "version 2"),
        ("cwmp.trace", "other.trace", "not a trace"),
        ("reference_energy_j", "reference", "column 'reference_energy_j' is missing"),
        ("# {", "# ", "not JSON"),
        ("# {", "{", "does not carry the metadata"),
    ],
)
def test_a_trace_of_another_kind(old, new, said, folder, capsys):
    path = folder / "trace.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    _refused("costs trace.csv -o out.json", folder, capsys, "trace.csv", said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(version=7), "version 7"),
        (lambda d: d.update(schema_name="another"), "not a cost file"),
        (lambda d: d.pop("layers"), "layers"),
        (lambda d: d["layers"][0].pop("shape"), "shape"),
        (lambda d: _price(d).update(value=0.0), "greater than 0"),
        (lambda d: _price(d).update(value=-1.0), "greater than 0"),
        (lambda d: _price(d).update(value=float("nan")), "not valid JSON"),
        (lambda d: _price(d).update(low=1.0, high=2.0), "outside"),
        (lambda d: d.update(extra=1), "extra"),
        (lambda d: d["layers"][0].update(name="fc9.weight"), "'fc9.weight'"),
        (lambda d: d["layers"][0].update(shape=[1, 2], parameters=2), "fc1.weight"),
    ],
)
def test_a_cost_file_that_cannot_be_used(change, said, folder, capsys):
    _edit_json(folder / "costs.json", change)
    _refused(f"run --costs costs.json --model mlp {SMALL} -o out", folder, capsys, said)


def _price(document: dict) -> dict:
    return document["layers"][0]["operations"][0]["pieces"][0]["c_j"]


@pytest.mark.parametrize(
    "budget", ["0", "0%", "-5%", "-1mJ", "nan", "nan%", "101%", "inf", "5 %%", "x"]
)
def test_a_budget_that_cannot_be_spent(budget, folder, capsys):
    command = f"run --costs costs.json --model mlp {SMALL} -o out --budgets".split()
    before = sorted(folder.iterdir())
    with pytest.raises(SystemExit) as left:
        run(cli, [*command, budget])
    printed = capsys.readouterr()
    assert left.value.code == 2
    assert printed.out == "" and len(printed.err.splitlines()) == 1
    assert "budget" in printed.err
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("run --costs costs.json --model lenet -o out", "cost file"),
        ("run --costs none.json -o out", "none.json"),
        ("run --costs costs.json --model novel -o out", "'novel'"),
        ("run --costs costs.json --model mlp --methods topk,novel -o out", "novel"),
        ("run --costs costs.json --model mlp --data nowhere -o out", "nowhere"),
        ("run --costs wide.json --model mlp --data cifar10:none.npz -o out", "none.npz"),
        ("run --costs costs.json --model mlp --alpha 0 -o out", "alpha"),
        ("run --costs costs.json --model mlp --clients 0 -o out", "clients"),
        ("run --costs costs.json --model mlp --clients 9999 -o out", "9999"),
        (f"run --costs costs.json --model mlp --lr 1e30 {SMALL} -o out", "diverged"),
        ("run --costs costs.json --model mlp -o nowhere/out", "nowhere"),
        ("profile --model novel -o t.csv", "'novel'"),
        ("profile --model own:empty --input-shape 1,8,8 -o t.csv", "'2.weight'"),
        ("profile --model own:number --input-shape 1,8,8 -o t.csv", "own:number"),
        ("profile --model own:no_parameters --input-shape 1,8,8 -o t.csv", "no trainable"),
        ("profile --model own:missing -o t.csv", "missing"),
        ("profile --model nosuch:model -o t.csv", "nosuch"),
        ("profile --model mlp --meter novel -o t.csv", "'novel'"),
        ("profile --model mlp --meter rapl -o t.csv", "RAPL"),
        ("profile --model mlp --meter nvml -o t.csv", "NVIDIA"),
        ("profile --model mlp --meter replay:none.csv -o t.csv", "none.csv"),
        ("profile --model mlp --device cuda:0 -o t.csv", "NVIDIA"),
        ("profile --model mlp --precision 0 -o t.csv", "precision"),
        ("profile --model mlp --densities 0% -o t.csv", "densit"),
        ("profile --model mlp --operations fly -o t.csv", "'fly'"),
        ("profile --model mlp --peer nobody -o t.csv", "nobody"),
        ("profile --model mlp --resume -o t.csv", "t.csv"),
        ("profile --model mlp -o t.xlsx", "t.xlsx"),
        ("profile --model mlp -o trace.csv", "trace.csv exists"),
        ("costs none.csv -o out.json", "none.csv"),
        ("costs own.py -o out.json", "own.py"),
        ("costs trace.csv -o costs.json", "costs.json exists"),
        ("fit trace.csv trace.csv -o out.json", "twice"),
        ("fit trace.csv -o model.json", "model.json exists"),
        ("predict costs.json --model mlp -o out.json", "costs.json"),
        ("predict model.json --model novel -o out.json", "'novel'"),
        ("predict model.json --model mlp -o costs.json", "costs.json exists"),
        ("measure -- no-such-program", "no-such-program"),
        ("measure --meter rapl -- true", "RAPL"),
        ("receive --host 999.1.1.1", "999.1.1.1"),
        ("demo --quick --meter rapl -o new", "RAPL"),
        ("costs trace.csv -o empty-sys", "empty-sys"),
        ("run --seeds many --costs costs.json -o out", "'many'"),
        ("costs trace.csv -o /proc/costs.json", "/proc/costs.json"),
    ],
)
def test_what_does_not_exist_or_exists_already(command, said, folder, capsys, monkeypatch):
    monkeypatch.setenv("CWMP_SYSFS", str(folder / "empty-sys"))
    _refused(command, folder, capsys, said)


def test_a_counter_that_cannot_be_read(folder, capsys, monkeypatch):
    zone = folder / "empty-sys/class/powercap/intel-rapl:0"
    (zone / "energy_uj").mkdir(parents=True)  # reading a folder fails for root too
    (zone / "name").write_text("package-0\n")
    (zone / "max_energy_range_uj").write_text("262143328850\n")
    monkeypatch.setenv("CWMP_SYSFS", str(folder / "empty-sys"))
    _refused("profile --model mlp --meter rapl -o t.csv", folder, capsys, "energy_uj")


def test_an_existing_folder_of_results(folder, capsys):
    (folder / "out").mkdir()
    (folder / "out/summary.json").write_text("{}")
    _refused(f"run --costs costs.json --model mlp {SMALL} -o out", folder, capsys, "out", "--force")
    _refused("demo --quick -o out", folder, capsys, "out", "--force")
