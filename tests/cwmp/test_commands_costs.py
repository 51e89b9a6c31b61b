"""The group ``cwmp costs``, driven as a user drives it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from costmodels import CostFile
from costmodels.composition.link_table import LINKS
from cwmp.cli import cli
from cwmp.commands.costs import COMMANDS
from profiler.console import run

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
TRACE, COSTS = GOLDEN / "trace-v1.csv", GOLDEN / "costs-v1.json"
EXAMPLE = {"from-trace": "cwmp costs out/trace.parquet"}


class Outcome:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def costs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Outcome]:
    """``cwmp costs ...`` in a folder with ``costs.json``, on an 80-column terminal."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "costs.json").write_bytes(COSTS.read_bytes())

    def call(*arguments: object) -> Outcome:
        with pytest.raises(SystemExit) as left:
            run(cli, ["costs", *(str(argument) for argument in arguments)])
        caught = capsys.readouterr()
        if "--json" not in arguments:
            assert max(map(len, caught.out.splitlines()), default=0) <= 80
        return Outcome(int(str(left.value.code)), caught.out, caught.err)

    return call


def refused(outcome: Outcome, *words: str) -> None:
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1 and outcome.err.startswith("cwmp: ")
    for word in words:
        assert word in outcome.err


@pytest.mark.parametrize(
    "arguments",
    [
        (TRACE, "-o", "out.json"),
        ("-o", "out.json", TRACE),
        ("--force", TRACE, "-o", "out.json"),
        ("from-trace", TRACE, "-o", "out.json"),
    ],
)
def test_a_trace_needs_no_command(costs: Callable[..., Outcome], arguments: tuple) -> None:
    done = costs(*arguments)
    assert (done.code, done.err) == (0, "wrote out.json\n")
    assert [layer.name for layer in CostFile.load("out.json").layers] == [
        layer.name for layer in CostFile.load(COSTS).layers
    ]


def test_a_trace_named_like_a_command_is_given_by_its_path(costs: Callable[..., Outcome]) -> None:
    Path("show").write_text("not a trace")
    refused(costs("./show", "-o", "out.json"), ".parquet or .csv")


def test_a_mistyped_command_is_not_taken_for_a_trace(costs: Callable[..., Outcome]) -> None:
    refused(costs("validat", "costs.json"), "No such command 'validat'")


def test_help_lists_both_ways_and_every_command() -> None:
    done = CliRunner().invoke(cli, ["costs", "--help"])
    assert done.exit_code == 0
    assert "TRACE -o FILE" in done.output
    for name in COMMANDS:
        assert f"\n  {name} " in done.output
    assert "Example:\n  cwmp costs " in done.output


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_with_an_example(name: str) -> None:
    done = CliRunner().invoke(cli, ["costs", name, "--help"])
    assert done.exit_code == 0
    assert f"Example:\n  {EXAMPLE.get(name, f'cwmp costs {name}')}" in done.output


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from cwmp.cli import cli\n"
        "cli.main(['costs', '--help'], standalone_mode=False)\n"
        f"for name in {list(COMMANDS)}:\n"
        "    cli.main(['costs', name, '--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'pandas', 'sklearn', 'scipy', 'rich', 'numpy', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_show_prints_what_is_in_the_file(costs: Callable[..., Outcome]) -> None:
    done = costs("show", "costs.json")
    assert (done.code, done.err) == (0, "")
    for word in ("conv2.weight", "send, random", "train conv1", "Assumptions"):
        assert word in done.out
    assert json.loads(costs("show", "costs.json", "--json").out) == json.loads(COSTS.read_text())


def test_link_prices_sending_and_says_by_whom(costs: Callable[..., Outcome]) -> None:
    done = costs("link", "costs.json", "--link", "wifi-uplink", "--rate", "20e6", "-o", "wifi.json")
    assert (done.code, done.err) == (0, "wrote wifi.json\n")
    assert "Huang et al." in done.out and "(modelled)" in done.out
    send = CostFile.load("wifi.json").message_cost("send")
    assert send is not None
    expected_j = LINKS["wifi-uplink"].energy_j(8e6, 20e6)
    assert float(send.energy_j(1_000_000)) == pytest.approx(expected_j)
    refused(costs("link", "costs.json", "--link", "wifi", "-o", "x.json"), "near it")
    refused(costs("link", "costs.json", "--link", "lora-sf7-uplink", "--rate", 9, "-o", "x.json"))
    assert not Path("x.json").exists()


def test_links_lists_every_link_with_its_source(costs: Callable[..., Outcome]) -> None:
    done = costs("links")
    for name in LINKS:
        assert name in done.out
    for word in ("Huang", "Narayanan", "Nordic", "Sivaraman", "primary-data", "secondary"):
        assert word in done.out
    listed = json.loads(costs("links", "--json").out)
    assert [one["name"] for one in listed] == list(LINKS)
    assert all(one["citation"] and one["origin"] == "modelled" for one in listed)


def test_diff_tells_what_changed(costs: Callable[..., Outcome]) -> None:
    same = costs("diff", "costs.json", "costs.json")
    assert "0 of 19 differ" in same.out
    costs("link", "costs.json", "--link", "lte-uplink", "-o", "lte.json")
    done = costs("diff", "costs.json", "lte.json")
    assert "1 of 19 differ" in done.out
    document = json.loads(costs("diff", "costs.json", "lte.json", "--json").out)
    (changed,) = (change for change in document["changes"] if not change["allows_equal"])
    assert (changed["owner"], changed["operation"]) == ("message", "send")


def test_merge_joins_files_and_refuses_two_prices(costs: Callable[..., Outcome]) -> None:
    document = json.loads(COSTS.read_text())
    for name, without in (("layers", "message"), ("messages", "modules")):
        Path(f"{name}.json").write_text(json.dumps({**document, without: []}))
    assert costs("merge", "layers.json", "messages.json", "-o", "whole.json").code == 0
    whole = CostFile.load("whole.json")
    assert (whole.message, whole.modules) == (CostFile.load(COSTS).message, whole.modules)
    assert whole.modules == CostFile.load(COSTS).modules
    costs("link", "costs.json", "--link", "lte-uplink", "-o", "lte.json")
    refused(costs("merge", "costs.json", "lte.json", "-o", "x.json"), "send", "two prices")


def test_mix_weighs_devices(costs: Callable[..., Outcome]) -> None:
    costs("link", "costs.json", "--link", "lte-uplink", "-o", "lte.json")
    assert costs("mix", "costs.json:3", "lte.json:1", "-o", "fleet.json").code == 0
    prices = [CostFile.load(name).message_cost("send") for name in
              ("costs.json", "lte.json", "fleet.json")]  # fmt: skip
    one, two, both = (float(price.energy_j(10**6)) for price in prices if price is not None)
    assert both == pytest.approx(0.75 * one + 0.25 * two)


@pytest.mark.parametrize("share", ["costs.json", "costs.json:", "costs.json:x", ":1", "c.json:-1"])
def test_a_share_that_is_none_is_refused(costs: Callable[..., Outcome], share: str) -> None:
    refused(costs("mix", share, "-o", "x.json"), "FILE:SHARE")


def test_validate_leaves_with_2_only_on_errors(costs: Callable[..., Outcome]) -> None:
    sound = costs("validate", "costs.json")
    assert (sound.code, sound.out) == (0, "costs.json: no errors, no warnings\n")
    document = json.loads(COSTS.read_text())
    Path("doubtful.json").write_text(json.dumps({**document, "origin": "assumed"}))
    done = costs("validate", "costs.json", "doubtful.json")
    assert done.code == 0
    assert "doubtful.json: no errors, 1 warning" in done.out
    Path("bad.json").write_text(json.dumps({**document, "version": 5}))
    done = costs("validate", "costs.json", "bad.json", "none.json")
    assert done.code == 2
    assert "bad.json: 1 error, no warnings" in done.out and "version 5" in done.out
    done = costs("validate", "costs.json", "bad.json", "--json")
    assert done.code == 2
    assert {name: len(said) for name, said in json.loads(done.out).items()} == {
        "costs.json": 0,
        "bad.json": 1,
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ("link", "costs.json", "--link", "ble-uplink"),
        ("merge", "costs.json"),
        ("mix", "costs.json:1"),
    ],
)
def test_outputs_are_kept_unless_forced_and_json_is_what_was_written(
    costs: Callable[..., Outcome], arguments: tuple[str, ...]
) -> None:
    Path("out.json").write_text("mine")
    refused(costs(*arguments, "-o", "out.json"), "exists already", "--force")
    assert Path("out.json").read_text() == "mine"
    done = costs(*arguments, "-o", "out.json", "--force", "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == json.loads(Path("out.json").read_text())


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "none.json"),
        ("diff", "costs.json", "none.json"),
        ("merge", "none.json", "-o", "x.json"),
        ("mix", "none.json:1", "-o", "x.json"),
        ("link", "none.json", "--link", "ble-uplink", "-o", "x.json"),
    ],
)
def test_a_missing_file_is_refused_in_one_line(
    costs: Callable[..., Outcome], arguments: tuple[str, ...]
) -> None:
    refused(costs(*arguments), "none.json")
    assert not Path("x.json").exists()
