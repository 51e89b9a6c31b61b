"""Sweeps: nothing done is lost, nothing is done twice, whoever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from stand_ins.federations import small_job

from cwmp.studies.grid import Planned
from cwmp.studies.runs import RunFile
from cwmp.studies.sweep import Seen, collect, locked, open_runs, run_path, sweep
from profiler.errors import FileFormatError, InputError, LayerMismatchError, OutputExistsError


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _planned(folder: Path, seeds: int = 2, **values: object) -> list[Planned]:
    return [
        Planned(small_job(folder, method=method, seed=seed, **values), {"method": method})
        for method in ("topk", "cwmp+ef")
        for seed in range(seeds)
    ]


def _rows(runs: tuple[RunFile, ...]) -> list[object]:
    return [(run.job.key, run.rounds, run.by_client_j) for run in runs]


def test_the_result_does_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    planned = _planned(tmp_path)
    seen: list[Seen] = []
    sweep(planned, tmp_path / "one")
    sweep(planned, tmp_path / "two", workers=2, progress=seen.append)
    one, two = (collect(tmp_path / name, planned) for name in ("one", "two"))
    assert _rows(one) == _rows(two)
    assert len(one) == len(planned)
    ends = [event.done for event in seen if event.row is None]
    assert ends == [1, 2, 3, 4]
    rounds = [event for event in seen if event.row is not None]
    assert len(rounds) == sum(one.job.rounds for one in planned)


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    planned = _planned(tmp_path)
    sweep(planned[:2], tmp_path / "study")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "study" / "runs").iterdir()}
    assert [one.job for one in open_runs(tmp_path / "study", planned)] == [
        one.job for one in planned[2:]
    ]
    sweep(planned, tmp_path / "study")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(collect(tmp_path / "study", planned)) == len(planned)
    assert not list((tmp_path / "study" / "runs").glob("*.npz"))


_SWEEP = """
import json, sys
from pathlib import Path
from cwmp.fl.job import Job
from cwmp.studies.grid import Planned
from cwmp.studies.sweep import sweep
import torch
torch.set_num_threads(1)
jobs = [Job.model_validate(job) for job in json.loads(Path(sys.argv[1]).read_text())]
sweep([Planned(job, {}) for job in jobs], Path(sys.argv[2]), workers=int(sys.argv[3]),
      checkpoint_every=1, progress=lambda seen: print(seen.done, flush=True))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_kill_minus_nine_loses_nothing(tmp_path: Path, workers: int) -> None:
    planned = [Planned(one.job, {}) for one in _planned(tmp_path, rounds=6)]
    jobs, folder = tmp_path / "jobs.json", tmp_path / "killed"
    jobs.write_text(json.dumps([one.job.model_dump(mode="json") for one in planned]))
    command = [sys.executable, "-c", _SWEEP, str(jobs), str(folder), str(workers)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    for _ in range(9):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)  # the parent alone: its workers must notice
    process.wait()
    _wait_until_free(folder)
    assert open_runs(folder, planned)
    sweep(planned, folder, checkpoint_every=1)
    sweep(planned, tmp_path / "whole")
    assert _rows(collect(folder, planned)) == _rows(collect(tmp_path / "whole", planned))


def _wait_until_free(folder: Path) -> None:
    """Orphaned workers end after their round and let go of the lock they inherited."""
    for _ in range(300):
        try:
            with locked(folder):
                return
        except OutputExistsError:
            time.sleep(0.1)
    raise AssertionError("a worker went on without its parent")


def test_what_a_killed_process_left_half_written_goes(tmp_path: Path) -> None:
    planned = _planned(tmp_path, seeds=1)
    folder = tmp_path / "study"
    sweep(planned[:1], folder)
    done, open_one = (run_path(folder, one) for one in planned)
    kept = open_one.with_suffix(".checkpoint.npz")
    left = [done.with_suffix(".checkpoint.npz"), done.with_name(".cwmp-abc"), kept]
    for path in left:
        path.write_bytes(b"half")
    with locked(folder):
        assert [path.exists() for path in left] == [False, False, True]
    assert done.exists()


def test_two_sweeps_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "study"),
        pytest.raises(OutputExistsError, match="another process is running"),
    ):
        sweep(_planned(tmp_path), tmp_path / "study")


def test_a_run_that_cannot_start_stops_the_sweep_and_keeps_the_others(tmp_path: Path) -> None:
    planned = _planned(tmp_path, seeds=1)
    bad = Planned(small_job(tmp_path, devices=_foreign_costs(tmp_path)), {})
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        with pytest.raises(LayerMismatchError, match="cost file"):
            sweep([*planned, bad], folder, workers=workers)
        if workers == 1:
            assert len(collect(folder, planned)) == len(planned)


def _foreign_costs(folder: Path) -> list[dict[str, object]]:
    from stand_ins.federations import save_costs

    return [{"name": "other", "costs": save_costs(folder, "resnet8", "other.json")}]


def test_runs_that_fail_are_rows_that_say_so(tmp_path: Path) -> None:
    tiny = Planned(small_job(tmp_path, method="cwmp", budget="1e-12"), {})
    wild = Planned(small_job(tmp_path, method="cwmp", lr=1e30), {})
    sweep([tiny, wild], tmp_path / "study")
    infeasible, diverged = collect(tmp_path / "study", [tiny, wild])
    assert (infeasible.status, diverged.status) == ("infeasible", "diverged")
    assert infeasible.reason.startswith("infeasible: ")
    assert "diverged at client" in diverged.reason
    assert infeasible.rounds == ()


def test_a_file_of_another_run_is_refused(tmp_path: Path) -> None:
    planned = _planned(tmp_path, seeds=1)
    folder = tmp_path / "study"
    sweep(planned, folder)
    run_path(folder, planned[0]).write_bytes(run_path(folder, planned[1]).read_bytes())
    with pytest.raises(FileFormatError, match="of another run than its name says"):
        collect(folder, planned)
    run_path(folder, planned[0]).write_text("{}")
    with pytest.raises(FileFormatError, match="is not a run"):
        collect(folder, planned)


def test_a_sweep_needs_a_worker(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 1 worker"):
        sweep(_planned(tmp_path), tmp_path / "study", workers=0)


@pytest.mark.slow
def test_a_ray_cluster_gives_the_same_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray comes with the extra cwmp[flower]")
    from cwmp.fl.engines.flower_home import quiet_environment

    for name, value in quiet_environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    planned = _planned(tmp_path, seeds=1)
    sweep(planned, tmp_path / "ray", ray="local")
    sweep(planned, tmp_path / "here")
    runs = [collect(tmp_path / name, planned) for name in ("ray", "here")]
    assert _rows(runs[0]) == _rows(runs[1])
    bad = Planned(small_job(tmp_path, method="nonsense"), {})
    with pytest.raises(InputError, match="unknown method 'nonsense'"):
        sweep([bad], tmp_path / "ray", ray="local")
