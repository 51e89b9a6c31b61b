from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from stand_ins.run_files import made_up_run

from cwmp.report.live import LiveRuns, Pace, describe_row, duration, name_of
from cwmp.studies.grid import Planned
from cwmp.studies.sweep import Seen


def _console(*, terminal: bool, width: int = 150) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, color_system=None)


def _said(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_without_a_terminal_each_run_is_a_line() -> None:
    console, clock = _console(terminal=False), Clock()
    run = made_up_run("cwmp", "20%", 4, rounds=2)
    planned = Planned(run.job, run.labels)
    with LiveRuns(console, clock) as live:
        for row in run.rounds:
            clock.now_s += 50
            live.seen(Seen(planned, row, 0, 2))
        assert _said(console) == ""
        live.seen(Seen(planned, None, 1, 2))
        live.seen(Seen(planned, None, 2, 2))
    line, last = _said(console).splitlines()
    assert line.startswith("run 1/2 CWMP 20%, board, alpha 0.1, seed 4: 2 rounds, accuracy ")
    assert line.endswith(f"{describe_row(run.rounds[-1])}; about 2 min left")
    assert last.endswith("no round")


def test_a_terminal_shows_round_accuracy_joules_and_time_left() -> None:
    console, clock = _console(terminal=True), Clock()
    run = made_up_run("topk+ef", "50%", 0, rounds=3)
    planned = Planned(run.job, run.labels)
    with LiveRuns(console, clock) as live:
        for row in run.rounds:
            clock.now_s += 10
            live.seen(Seen(planned, row, 1, 3))
        live.seen(Seen(planned, None, 2, 3))
    said = _said(console)
    assert f"round 3/3, {describe_row(row)}: Top-K + EF 50%, board, alpha 0.1, seed 0" in said
    assert "2/3 runs" in said
    assert "about 30 s left" in said


def test_a_narrow_terminal_cuts_the_name_and_not_the_rest() -> None:
    console = _console(terminal=True, width=80)
    run = made_up_run("cwmp:1,1+ef", "20%", 0, device="a device with a long name", rounds=2)
    with LiveRuns(console) as live:
        live.seen(Seen(Planned(run.job, run.labels), run.rounds[0], 1180, 1200))
    states = re.split(r"[\r\n]+", re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", _said(console)))
    assert max(map(len, states)) <= 80
    (shown,) = {state for state in states if "1180/1200 runs" in state}
    assert re.search(r"about 0 s left round 1/2, accuracy .*…$", shown.rstrip())


def test_time_left_counts_neither_what_was_done_before_nor_runs_without_a_round() -> None:
    """A thousand runs are there, one goes on from its checkpoint at round 7 of 8."""
    clock = Clock()
    pace = Pace(clock)
    run = made_up_run("cwmp", "20%", 0, rounds=8)
    planned, other = Planned(run.job, run.labels), made_up_run("cwmp", "20%", 1, rounds=8)
    infeasible = Seen(planned, None, 1001, 1004)
    pace.seen(infeasible)  # ends at once, without a round
    assert pace.left_s(infeasible) is None
    for row in run.rounds[6:]:
        clock.now_s += 5
        seen = Seen(Planned(other.job, other.labels), row, 1001, 1004)
        pace.seen(seen)
    assert pace.left_s(seen) == pytest.approx(5 * (3 * 8 - 8))
    assert pace.share(seen) == pytest.approx((1001 * 8 + 8) / (1004 * 8))
    pace.seen(seen := Seen(Planned(other.job, other.labels), None, 1002, 1004))
    assert pace.left_s(seen) == pytest.approx(5 * 2 * 8)
    assert pace.share(seen) == pytest.approx(1002 / 1004)


def test_names_are_shown_as_they_are() -> None:
    console = _console(terminal=True)
    run = made_up_run("topk", "50%", 0, device="[bold]{x}", rounds=4)
    with LiveRuns(console) as live:
        live.seen(Seen(Planned(run.job, run.labels), run.rounds[0], 0, 1))
    assert ": Top-K 50%, [bold]{x}, alpha 0.1, seed 0" in _said(console)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "0 s"), (89, "89 s"), (200, "3 min"), (9000, "2.5 h")]
)
def test_durations_are_rounded(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_joules_that_are_not_priced_are_said_to_be() -> None:
    row = made_up_run("topk", "50%", 0, rounds=1).rounds[0]
    assert describe_row(row.model_copy(update={"cumulative": None})).endswith("joules not priced")
    assert name_of({"method": "dense", "budget": "100%", "control": "uniform"}) == (
        "dense 100% (uniform)"
    )
