"""The commands ``fit``, ``predict`` and ``costs``, driven as a user drives them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from costmodels import CostFile, CostModel
from cwmp.cli import cli, main
from profiler.console import run

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
TRACE, MODEL, COSTS = (GOLDEN / f for f in ("trace-v1.csv", "costmodel-v1.json", "costs-v1.json"))


class Outcome:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def cwmp(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: object) -> Outcome:
        with pytest.raises(SystemExit) as left:
            run(cli, [str(argument) for argument in arguments])
        caught = capsys.readouterr()
        return Outcome(int(str(left.value.code)), caught.out, caught.err)

    return call


def refused(outcome: Outcome, *words: str) -> None:
    """Exit code 2, nothing on stdout, one line on stderr that names the thing."""
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith("cwmp: ")
    for word in words:
        assert word in outcome.err


def test_fit_prints_prices_and_validation_and_writes_the_model(
    cwmp: Callable[..., Outcome], tmp_path: Path
) -> None:
    output = tmp_path / "model.json"
    done = cwmp("fit", TRACE, "-o", output)
    assert done.code == 0
    for word in ("uJ/call", "nJ/entry", "MAPE", "Spearman", "uncalibrated", "update.dense"):
        assert word in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    assert done.err == f"wrote {output}\n"
    for new, old in zip(
        CostModel.load(output).operations, CostModel.load(MODEL).operations, strict=True
    ):
        assert new.prices == pytest.approx(old.prices, rel=1e-6)


def test_costs_prints_the_table_and_writes_the_file(
    cwmp: Callable[..., Outcome], tmp_path: Path
) -> None:
    output = tmp_path / "costs.json"
    done = cwmp("costs", TRACE, "-o", output)
    assert done.code == 0
    for word in ("conv2.weight", "fc.bias", "[95 %]", "c differs between layers", "loopback"):
        assert word in done.out
    assert "C: c is below detection" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    for new, old in zip(CostFile.load(output).layers, CostFile.load(COSTS).layers, strict=True):
        assert new.operations[0].energy_j(9) == pytest.approx(old.operations[0].energy_j(9))


def test_costs_takes_messages_from_a_second_trace(
    cwmp: Callable[..., Outcome], tmp_path: Path
) -> None:
    other, output = tmp_path / "messages.csv", tmp_path / "costs.json"
    other.write_text(TRACE.read_text().replace("simulated board", "host CPU"))
    done = cwmp("costs", TRACE, "--messages", other, "-o", output)
    assert done.code == 0
    assert CostFile.load(output).device == "simulated board; messages: host CPU"
    assert "encode, send and select are measured by fake on host CPU" in " ".join(done.out.split())
    other.write_text(TRACE.read_text().replace("fc.bias", "fc.other"))
    refused(cwmp("costs", TRACE, "--messages", other, "-o", output, "--force"), "another model")


def test_predict_prices_a_model_that_was_never_profiled(
    cwmp: Callable[..., Outcome], tmp_path: Path
) -> None:
    output = tmp_path / "costs.json"
    done = cwmp("predict", MODEL, "--model", "lenet", "--data", "digits", "-o", output)
    assert done.code == 0
    assert "(modelled)" in done.out
    assert "uncalibrated" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    costs = CostFile.load(output)
    assert costs.origin == "modelled"
    assert costs.message_cost("send") is not None
    assert any(module.name == "*" for module in costs.modules)


def test_predict_takes_the_input_shape_and_classes(
    cwmp: Callable[..., Outcome], tmp_path: Path
) -> None:
    output = tmp_path / "costs.json"
    arguments = ("--model", "mlp", "--input-shape", "1,4,4", "--classes", "3")
    assert cwmp("predict", MODEL, *arguments, "-o", output).code == 0
    assert CostFile.load(output).layers[-1].shape == (3,)


@pytest.mark.parametrize(
    ("command", "source", "more"),
    [("fit", TRACE, ()), ("costs", TRACE, ()), ("predict", MODEL, ("--model", "lenet"))],
)
def test_json_is_all_of_stdout_and_is_what_was_written(
    cwmp: Callable[..., Outcome], tmp_path: Path, command: str, source: Path, more: tuple[str, ...]
) -> None:
    output = tmp_path / "out.json"
    done = cwmp(command, source, *more, "-o", output, "--json")
    written = json.loads(output.read_text())
    written.pop("checksum", None)
    assert json.loads(done.out) == written
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize(
    ("command", "source", "more"),
    [("fit", TRACE, ()), ("costs", TRACE, ()), ("predict", MODEL, ("--model", "lenet"))],
)
def test_an_existing_output_is_kept_unless_forced(
    cwmp: Callable[..., Outcome], tmp_path: Path, command: str, source: Path, more: tuple[str, ...]
) -> None:
    output = tmp_path / "out.json"
    output.write_text("mine")
    refused(cwmp(command, source, *more, "-o", output), "exists already", "--force")
    assert output.read_text() == "mine"
    assert cwmp(command, source, *more, "-o", output, "--force").code == 0
    assert output.read_text() != "mine"


def _edited(path: Path, column: str, value: str) -> str:
    lines = path.read_text().splitlines()
    cells = lines[2].split(",")
    cells[lines[1].split(",").index(column)] = value
    lines[2] = ",".join(cells)
    return "\n".join(lines) + "\n"


BAD_TRACES: list[tuple[str, Callable[[], str], tuple[str, ...]]] = [
    ("nan", lambda: _edited(TRACE, "energy_j", ""), ("'energy_j' is nan in row 0",)),
    ("negative", lambda: _edited(TRACE, "energy_j", "-1.0"), ("'energy_j' is -1.0 in row 0",)),
    ("text", lambda: _edited(TRACE, "energy_j", "many"), ("'energy_j' is not numeric",)),
    ("operation", lambda: _edited(TRACE, "operation", "sing"), ("operation 'sing' is not one of",)),
    ("pattern", lambda: _edited(TRACE, "pattern", "Random"), ("pattern 'Random' is not one of",)),
    ("stage", lambda: _edited(TRACE, "stage", "first"), ("stage 'first' is not one of",)),
    ("twice", lambda: _edited(TRACE, "block", "1"), ("block 1 appears twice",)),
    (
        "version",
        lambda: TRACE.read_text().replace('"version":1', '"version":7', 1),
        ("version 7", "this release reads version 1"),
    ),
    (
        "column",
        lambda: TRACE.read_text().replace("cost_j_per_call", "cost", 1),
        ("'cost_j_per_call' is missing",),
    ),
    ("foreign", lambda: "a,b\n1,2\n", ("not a trace",)),
    (
        "empty",
        lambda: "\n".join(TRACE.read_text().splitlines()[:2]) + "\n",
        ("holds no blocks",),
    ),
]


@pytest.mark.parametrize("command", ["fit", "costs"])
@pytest.mark.parametrize(
    ("content", "words"), [case[1:] for case in BAD_TRACES], ids=[case[0] for case in BAD_TRACES]
)
def test_a_bad_trace_is_refused_in_one_line(
    cwmp: Callable[..., Outcome],
    tmp_path: Path,
    command: str,
    content: Callable[[], str],
    words: tuple[str, ...],
) -> None:
    trace, output = tmp_path / "bad.csv", tmp_path / "out.json"
    trace.write_text(content())
    refused(cwmp(command, trace, "-o", output), *words)
    assert not output.exists()


@pytest.mark.parametrize("command", ["fit", "costs"])
def test_a_missing_trace_or_another_format_is_refused(
    cwmp: Callable[..., Outcome], tmp_path: Path, command: str
) -> None:
    output = tmp_path / "out.json"
    refused(cwmp(command, tmp_path / "none.csv", "-o", output), "cannot read", "none.csv")
    refused(cwmp(command, COSTS, "-o", output), ".parquet or .csv")
    assert not output.exists()


def test_an_output_folder_that_does_not_exist_is_refused(
    cwmp: Callable[..., Outcome], tmp_path: Path
) -> None:
    refused(cwmp("costs", TRACE, "-o", tmp_path / "no" / "out.json"), "is not a folder")
    assert not (tmp_path / "no").exists()


def test_runs_on_other_devices_are_not_merged(cwmp: Callable[..., Outcome], tmp_path: Path) -> None:
    other, output = tmp_path / "other.csv", tmp_path / "out.json"
    other.write_text(TRACE.read_text().replace("simulated board", "another board"))
    refused(cwmp("fit", TRACE, other, "-o", output), "not merged", "another board")
    assert not output.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda: COSTS.read_text(), ("is not a cost model",)),
        (lambda: MODEL.read_text().replace("simulated", "my", 1), ("edited or damaged",)),
        (lambda: MODEL.read_text().replace('"version": 1', '"version": 3', 1), ("version 3",)),
        (lambda: MODEL.read_text()[:-30], ("is not valid JSON",)),
    ],
    ids=["foreign", "edited", "version", "cut"],
)
def test_a_bad_cost_model_is_refused_in_one_line(
    cwmp: Callable[..., Outcome],
    tmp_path: Path,
    content: Callable[[], str],
    words: tuple[str, ...],
) -> None:
    path, output = tmp_path / "bad.json", tmp_path / "out.json"
    path.write_text(content())
    refused(cwmp("predict", path, "--model", "lenet", "-o", output), *words)
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "gpt9"), ("gpt9",)),
        (("--model", "nowhere:model"), ("nowhere",)),
        (("--model", "lenet", "--data", "mnist"), ("mnist",)),
        (("--model", "lenet", "--input-shape", "3,x"), ("3,x",)),
        (("--model", "lenet", "--input-shape", "3,0,8"), ("below 1",)),
    ],
)
def test_an_unknown_model_data_or_shape_is_refused(
    cwmp: Callable[..., Outcome], tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    output = tmp_path / "out.json"
    refused(cwmp("predict", MODEL, *arguments, "-o", output), *words)
    assert not output.exists()


@pytest.mark.parametrize("command", ["fit", "predict", "costs"])
def test_help_has_an_example(command: str) -> None:
    done = CliRunner().invoke(cli, [command, "--help"])
    assert done.exit_code == 0
    assert f"Example:\n  cwmp {command} " in done.output


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from cwmp.cli import cli\n"
        "for name in ('fit', 'predict', 'costs'):\n"
        "    cli.main([name, '--help'], standalone_mode=False)\n"
        "print(sorted({'torch', 'pandas', 'sklearn', 'scipy', 'rich'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_installed_entry_point_is_the_same_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["cwmp", "costs", "none.csv", "-o", "none.json"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
