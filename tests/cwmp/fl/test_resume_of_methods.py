"""Every method: interrupted and taken up again, or run by workers, it gives the same run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from stand_ins.federations import save_costs, small_data, small_job
from stand_ins.methods import CASES, MethodCase

from cwmp.fl.engines.local import LocalEngine
from cwmp.fl.job import Job
from cwmp.studies.runner import RunOptions, run_job
from cwmp.studies.runs import RoundRow, RunFile

# what does not pass through memory, messages or workers may as well be small
SMALLER = [replace(case, method=case.method.replace("evofed:256", "evofed:16")) for case in CASES]
BY_NAME = pytest.mark.parametrize("case", SMALLER, ids=lambda case: f"{case.method}@{case.budget}")
DATA = small_data(120)
ROUNDS = 4


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


class _StopError(Exception):
    """Stands for whatever ends a process between two rounds."""


def _job(case: MethodCase, folder: Path, **values: Any) -> Job:
    job = {"method": case.method, "budget": case.budget, "rounds": ROUNDS, "batch_size": 16}
    return small_job(folder, **{**job, "per_round": 2, **case.job, **values})


def _run(job: Job, stop_at: int = 0, **options: Any) -> RunFile:
    def seen(_: Job, row: RoundRow) -> None:
        if row.round == stop_at:
            raise _StopError

    return run_job(job, {}, data=DATA, options=RunOptions(seen=seen, **options))


def _what_came(run: RunFile) -> tuple[Any, ...]:
    return run.status, run.reason, run.rounds, run.by_client_j


_WHOLE: dict[tuple[str, str], RunFile] = {}


@pytest.fixture
def whole(case: MethodCase, folder: Path) -> RunFile:
    """The case's run that nothing interrupted, run once."""
    key = case.method, case.budget
    if key not in _WHOLE:
        _WHOLE[key] = _run(_job(case, folder))
    run = _WHOLE[key]
    assert (run.status, len(run.rounds)) == ("finished", ROUNDS)
    return run


@BY_NAME
def test_an_interrupted_run_is_the_same_run(
    case: MethodCase, folder: Path, whole: RunFile, tmp_path: Path
) -> None:
    job, checkpoint = _job(case, folder), tmp_path / "run.npz"
    with pytest.raises(_StopError):
        _run(job, 3, checkpoint=checkpoint, every=1)
    assert checkpoint.exists()
    assert _what_came(_run(job, checkpoint=checkpoint, every=1)) == _what_came(whole)


@BY_NAME
def test_workers_give_the_same_run(case: MethodCase, folder: Path, whole: RunFile) -> None:
    run = _run(_job(case, folder), engine=LocalEngine(workers=2))
    assert _what_came(run) == _what_came(whole)


@pytest.mark.parametrize("method", ["cwmp-price+ef", "kta"])
def test_a_fleet_with_batteries_and_late_clients_is_resumed_too(
    method: str, folder: Path, tmp_path: Path
) -> None:
    """What a battery has left, and what a client missed, follow from the records again."""
    costs = save_costs(folder)
    spent = _run(_job(MethodCase(method), folder, public=40)).by_client_j
    kinds = [
        {"name": "phone", "costs": costs, "clients": 2, "power_w": 2.0, "idle_w": 0.3},
        {"name": "board", "costs": costs, "power_w": 4.0, "uplink": "wifi-uplink"},
    ]
    kinds[0]["battery_j"] = max(spent) / 2
    job = _job(MethodCase(method), folder, public=40, devices=kinds, joins={3: 3}, per_round=None)
    whole = _run(job)
    absences = {absent.reason for row in whole.rounds for absent in row.absent}
    assert absences == {"battery"}
    assert "idle" in whole.rounds[0].phases
    with pytest.raises(_StopError):
        _run(job, 4, checkpoint=tmp_path / "run.npz", every=2)
    assert _what_came(_run(job, checkpoint=tmp_path / "run.npz")) == _what_came(whole)
