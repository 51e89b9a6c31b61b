from __future__ import annotations

import io

from rich.console import Console
from stand_ins.run_files import made_up_run

from cwmp.report.live import LiveRuns, describe_row, name_of
from cwmp.studies.grid import Planned
from cwmp.studies.sweep import Seen


def _console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=150, color_system=None)


def _said(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_without_a_terminal_each_run_is_a_line() -> None:
    console = _console(terminal=False)
    run = made_up_run("cwmp", "20%", 4, rounds=2)
    planned = Planned(run.job, run.labels)
    with LiveRuns(console=console) as live:
        for row in run.rounds:
            live.seen(Seen(planned, row, 0, 2))
        assert _said(console) == ""
        live.seen(Seen(planned, None, 1, 2))
    (line,) = _said(console).splitlines()
    assert line.startswith("run 1/2 CWMP 20%, board, alpha 0.1, seed 4: 2 rounds, accuracy ")
    assert line.endswith(describe_row(run.rounds[-1]))


def test_a_terminal_shows_round_accuracy_joules_and_time_left() -> None:
    console = _console(terminal=True)
    run = made_up_run("topk", "50%", 0, rounds=3)
    planned = Planned(run.job, run.labels)
    with LiveRuns(console=console) as live:
        for row in run.rounds:
            live.seen(Seen(planned, row, 1, 3))
        live.seen(Seen(planned, None, 2, 3))
    said = _said(console)
    assert f"round 3/3, {describe_row(run.rounds[-1])}" in said
    assert "3/6" in said  # rounds of the two runs that were left
    assert ":" in said.split("3/6")[-1]


def test_names_are_shown_as_they_are() -> None:
    console = _console(terminal=True)
    row = made_up_run("topk", "50%", 0, rounds=1).rounds[0]
    with LiveRuns(4, console) as live:
        live.round("[bold]{x}", row, 4)
    assert "[bold]{x}, round 1/4" in _said(console)


def test_joules_that_are_not_priced_are_said_to_be() -> None:
    row = made_up_run("topk", "50%", 0, rounds=1).rounds[0]
    assert describe_row(row.model_copy(update={"cumulative": None})).endswith("joules not priced")
    assert name_of({"method": "dense", "budget": "100%", "control": "uniform"}) == (
        "dense 100% (uniform)"
    )
