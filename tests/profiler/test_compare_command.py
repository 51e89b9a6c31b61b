"""``cwmp compare`` as a user meets it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from profiler import cli, console

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "costmodels"))

from simulated_traces import LAYERS, linear_truth, simulate

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "trace-v1.csv"


def _run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        console.run(cli.cli, ["compare", *map(str, arguments)])
    out, err = capfd.readouterr()
    assert isinstance(left.value.code, int)
    return left.value.code, out, err


@pytest.fixture
def traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two sessions that differ in one layer, and in torch."""
    monkeypatch.setenv("COLUMNS", "100")
    a, b = tmp_path / "a.csv", tmp_path / "b.parquet"
    layers = LAYERS[2:5]
    simulate(layers=layers, operations=("update",), seed=1).save(a)
    simulate(
        linear_truth({"conv2.weight": 7e-9}),
        layers=layers,
        operations=("update",),
        seed=2,
        software={"torch": "2.7.0", "numpy": "2.1.0"},
    ).save(b)
    return a, b


def test_layer_that_differs_is_named(
    traces: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, err = _run(capfd, *traces)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "B = b.parquet against A = a.csv"
    assert lines[1] == "They were not made alike:"
    assert any("software: torch" in line and "2.6.0" in line and "2.7.0" in line for line in lines)
    assert "layers that differ: conv2.weight" in lines
    assert "they cancel in B/A" in out and "with gain" not in out
    row = next(line for line in lines if line.startswith("update conv2.weight random c"))
    assert "nJ" in row and row.rstrip().endswith("differs")


def test_gain_errors_have_their_own_column(
    traces: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = _run(capfd, *traces, "--systematic", 0.02, 0.05)
    assert "A 2 %, B 5 %" in out and "with gain" in out


def test_trace_agrees_with_itself(
    traces: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = _run(capfd, traces[0], traces[0], "--margin", "0.2")
    assert "the same device, meter, governor and software" in out
    assert "layers that differ: none was found" in out
    assert "A and B are one session" in out
    assert "one session each" not in out
    assert "are one session" not in _run(capfd, *traces)[1]
    assert "differs 0, agrees within 20 %" in out


def test_document(traces: tuple[Path, Path], capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capfd, *traces, "--json")
    document = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert code == 0
    assert document["layers_that_differ"] == ["conv2.weight"]
    assert {row["verdict"] for row in document["cells"]} >= {"differs", "agrees"}
    assert document["metadata"] == [{"name": "software: torch", "a": "2.6.0", "b": "2.7.0"}]


def test_traces_of_other_sessions_are_listed_where_they_do_not_match(
    traces: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = _run(capfd, GOLDEN, traces[0])
    unmatched = json.loads(_run(capfd, GOLDEN, traces[0], "--json")[1])["unmatched"]
    assert f"not compared: {len(unmatched)} cells" in out
    assert "- encode * random k=251: only in A" in out and "--json lists all" in out


@pytest.mark.parametrize(
    ("content", "arguments", "says"),
    [
        (None, (), "absent.csv"),
        ("nonsense", (), "not a trace"),
        ("", (), "not a trace"),
        (None, ("--margin", "0"), "absent.csv"),
    ],
)
def test_bad_trace_is_one_line(
    traces: tuple[Path, Path],
    capfd: pytest.CaptureFixture[str],
    content: str | None,
    arguments: tuple[str, ...],
    says: str,
) -> None:
    bad = traces[0].with_name("absent.csv")
    if content is not None:
        bad.write_text(content)
    code, out, err = _run(capfd, traces[0], bad, *arguments)
    assert (code, out) == (2, "")
    assert says in err and err.count("\n") == 1 and err.startswith("cwmp: ")


@pytest.mark.parametrize(
    "arguments",
    [("--margin", "0"), ("--margin", "nan"), ("--level", "1"), ("--systematic", "2", "0")],
)
def test_bad_option_is_one_line(
    traces: tuple[Path, Path], capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    code, out, err = _run(capfd, *traces, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("cwmp: ") and err.count("\n") == 1
