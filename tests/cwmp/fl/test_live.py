"""Real joules beside the ledger's, with scripted and replayed counters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from stand_ins.cost_files import cost_file

from cwmp.cli import cli
from cwmp.fl.ledger import Entry, Joules, Ledger, Phase, Total
from cwmp.fl.live import LiveReport, ran_here, watch
from cwmp.fl.models import build_model
from profiler.errors import MeterReadError
from profiler.layers import layers_of
from profiler.meters.base import Rail, Systematic
from profiler.meters.fake import FakeMeter, ManualClock
from profiler.meters.recording import Recording
from profiler.meters.replay import ReplayMeter
from profiler.probe import probe

PARTS: tuple[Phase, ...] = ("train", "uplink", "downlink", "update")


def _joules(value: float) -> Joules:
    return Joules(value, 0.8 * value, 1.25 * value, "modelled")


def _ledger(rounds: int = 2, clients: int = 3) -> Ledger:
    """1 J a phase for each client; 0.5 J for applying each upload, 0.25 J for encoding."""
    entries = []
    for number in range(1, rounds + 1):
        entries.append(Entry(number, None, "server", "encode", _joules(0.25)))
        for client in range(clients):
            entries += [Entry(number, client, "client", phase, _joules(1.0)) for phase in PARTS]
            entries.append(Entry(number, client, "server", "update", _joules(0.5)))
    return Ledger(tuple(entries))


def _watched(
    meter: FakeMeter | ReplayMeter, clock: ManualClock, spent_j: float, seconds: float = 4.0
) -> LiveReport:
    def work() -> str:
        clock.advance(seconds / 2)
        if isinstance(meter, FakeMeter):
            meter.spend(spent_j)
        clock.advance(seconds / 2)
        return "done"

    probed = probe(meter, clock=clock, sleep=clock.advance)
    seen = watch(work, meter, probe=probed, sleep=clock.advance, draw=lambda: 0.5)
    assert (seen.result, seen.error) == ("done", "")
    assert seen.repetition is not None
    return LiveReport.of(meter, seen.repetition, [_ledger()])


def test_only_what_ran_here_is_compared() -> None:
    found = ran_here([_ledger(), _ledger(rounds=1)])
    # a round: 3 J trained, 0.25 J encoded, 3 x 0.5 J applied by the server, 1 J once by a client
    assert found.energy is not None
    assert found.energy.value == pytest.approx(3 * (3 + 0.25 + 1.5 + 1))
    assert found.lacks == ()


def test_what_the_ledger_does_not_price_is_named() -> None:
    cells = (*_ledger(1).entries, Entry(1, 0, "client", "select", None))
    found = ran_here([Ledger(cells)])
    assert found.lacks == ("select",)
    assert found.energy is not None and found.energy.value == pytest.approx(5.75)


def test_joules_above_rest_against_the_ledger() -> None:
    """5 W at rest, and 23 J more in the run: twice the ledger's 11.5 J."""
    clock = ManualClock(step_s=1e-4)
    meter = FakeMeter(5.0, clock=clock, origin="measured")
    report = _watched(meter, clock, spent_j=23.0)
    assert report.measured_j == pytest.approx(23.0, abs=0.05)
    assert report.ratio == pytest.approx(2.0, rel=0.01)
    assert (report.low_j, report.ratio_interval) == (None, None)  # its gain is not known
    said = report.sentence()
    assert "23.0 J above rest" in said and "interval unknown" in said
    assert "11.5 J" in said and "2 times as much was measured" in said
    assert "\n" not in said and "No counter" not in said


def _bench(clock: ManualClock, idle_w: float, run_w: float) -> ReplayMeter:
    """A supply that shows its joules every 10 ms: 10 s at rest, then at work."""
    times_s = tuple(number / 100 for number in range(2000))
    energy_j = tuple(
        idle_w * min(t, 10.0) + run_w * max(0.0, min(t, 14.0) - 10.0) + idle_w * max(0.0, t - 14.0)
        for t in times_s
    )
    recording = Recording(
        device="bench supply",
        origin="measured",
        rails=(Rail("board", "board"),),
        times_s=times_s,
        energy_j={"board": energy_j},
        assumptions=(),
        systematic=(Systematic(0.02, "made up"),),
    )
    return ReplayMeter(recording, clock=clock)


def test_the_interval_holds_steps_and_gain() -> None:
    clock = ManualClock(step_s=1e-4)
    meter = _bench(clock, 2.0, 7.0)
    probed = probe(meter, clock=clock, sleep=clock.advance)

    def rest(seconds: float) -> None:
        clock.advance(seconds)

    def work() -> None:
        clock.now_s = 14.0

    clock.now_s = 8.0
    # the rest ends a second before the work of 4 s at 5 W more begins
    seen = watch(work, meter, probe=probed, idle_s=1.0, sleep=rest, draw=lambda: 0.5)
    assert seen.repetition is not None
    report = LiveReport.of(meter, seen.repetition, [_ledger()])
    assert report.measured_j == pytest.approx(20.0, rel=0.02)
    assert report.low_j is not None and report.high_j is not None
    whole_j = seen.repetition.run.energy_j
    assert 0.02 * whole_j <= (report.high_j - report.low_j) / 2 <= 0.05 * whole_j
    assert report.low_j < 20.0 < report.high_j
    interval = report.ratio_interval
    assert interval is not None and report.ratio is not None
    assert interval[0] < report.ratio < interval[1]
    assert interval[1] == pytest.approx(report.high_j / (0.8 * 11.5))


def test_modelled_against_modelled_says_so() -> None:
    clock = ManualClock(step_s=1e-4)
    meter = FakeMeter(5.0, clock=clock, origin="modelled")
    report = _watched(meter, clock, spent_j=5.75)
    assert report.ratio == pytest.approx(0.5, rel=0.02)
    assert report.low_j is None  # nobody knows how far the model is off
    assert "two models agree, not what this machine drew" in report.sentence()


def test_a_run_that_shows_no_joules_has_no_ratio() -> None:
    clock = ManualClock(step_s=1e-4)
    report = _watched(FakeMeter(0.0, clock=clock, origin="measured"), clock, spent_j=0.0)
    assert report.ratio is None and report.ratio_interval is None
    assert "times" not in report.sentence()
    nothing = LiveReport("rapl", "measured", 1.0, 0.5, 1.5, Total(None), 1.0)
    assert nothing.sentence().endswith("the ledger prices none of what ran here.")
    assert nothing.as_dict()["ledger_j"] is None


def test_a_meter_that_fails_costs_no_results() -> None:
    clock = ManualClock(step_s=1e-4)
    meter = FakeMeter(clock=clock, faults={4: MeterReadError("gone")})
    seen = watch(lambda: 42, meter, sleep=clock.advance)
    assert seen == (42, None, "gone")
    early = FakeMeter(clock=clock, faults={2: MeterReadError("gone")})
    with pytest.raises(MeterReadError):
        watch(lambda: 42, early, sleep=clock.advance)


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_compares_model_and_measurement(tmp_path: Path, as_json: bool) -> None:
    costs = tmp_path / "costs.json"
    cost_file(layers_of(build_model("mlp", (1, 8, 8)))).save(costs)
    arguments = [
        *("run", "--costs", str(costs), "--model", "mlp", "--clients", "3", "--alpha", "1"),
        *("--rounds", "1", "--seeds", "1", "--methods", "dense", "-o", str(tmp_path / "out")),
        *("--live", "--meter", "fake:10"),
    ]
    done = CliRunner().invoke(cli, [*arguments, *(["--json"] if as_json else [])])
    assert done.exit_code == 0, done.output
    if as_json:
        live = json.loads(done.stdout)["live"]
        assert (live["meter"], live["origin"]) == ("fake", "assumed")
        assert live["ledger_j"] > 0
        return
    said = " ".join(done.stdout.split())
    assert "Live: " in said and "by the meter 'fake'" in said and "No counter" in said
