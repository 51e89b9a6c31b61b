"""Every planned run that is not done yet, in a few processes; nothing done is lost.

A run's file appears when the run ends and not before, so whatever stops a sweep (Ctrl-C, a
``kill -9``, a power cut), starting it again goes on with the runs that have no file, and with
the checkpoints of those that were half done. The result does not depend on how often that
happens, nor on the number of workers.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cwmp.fl.data import Dataset, load_data
from cwmp.studies.grid import Planned
from cwmp.studies.runner import RunOptions, run_job
from cwmp.studies.runs import RoundRow, RunFile
from profiler.errors import FileFormatError, InputError, OutputError, OutputExistsError

RUNS = "runs"
LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Seen:
    """A round that ended somewhere in the sweep.

    Attributes:
        planned: of which run.
        row: what the round did; ``None`` when the run has ended and its file is there.
        done, runs: runs that have ended, and how many there are.
    """

    planned: Planned
    row: RoundRow | None
    done: int
    runs: int


SweepProgress = Callable[[Seen], None]


def run_path(directory: Path, planned: Planned) -> Path:
    """Where the file of a run is."""
    return directory / RUNS / f"{planned.job.key}.json"


def open_runs(directory: Path, planned: Sequence[Planned]) -> list[Planned]:
    """The runs without a file, each job once, in their order."""
    once: dict[str, Planned] = {}
    for one in planned:
        once.setdefault(one.job.key, one)
    return [one for one in once.values() if not run_path(directory, one).exists()]


def sweep(
    planned: Sequence[Planned],
    directory: Path,
    *,
    workers: int = 1,
    progress: SweepProgress | None = None,
    checkpoint_every: int = 10,
    ray: str | None = None,
) -> None:
    """Run what is not done yet.

    Args:
        planned: the runs of the study.
        directory: of the study; runs go to ``runs/`` in it.
        workers: processes; 1 runs everything in this one.
        progress: called after each round and each run.
        checkpoint_every: rounds between two checkpoints of a run.
        ray: address of a Ray cluster that does the work in place of processes here; ``local``
            starts one on this machine.

    Raises:
        InputError, FileFormatError, InputFileError, LayerMismatchError: a run that cannot be
            started; runs that ended before it are kept.
        OutputExistsError: another process sweeps this folder.
        OutputError: a file cannot be written, or a worker was killed twice at the same run.
    """
    if workers < 1:
        raise InputError(f"a sweep needs at least 1 worker, not {workers}")
    with locked(directory):
        left = open_runs(directory, planned)
        names = {one.job.data for one in left} if ray is None else set()
        data = {name: load_data(name) for name in names}
        done = len({one.job.key for one in planned}) - len(left)
        tell = _Teller(progress, done, done + len(left))
        if ray is not None:
            from cwmp.studies.on_ray import run_on_ray

            run_on_ray(left, directory, ray, tell)
            return
        if workers == 1 or len(left) <= 1:
            for one in left:
                run_one(one, directory, data, checkpoint_every, partial(tell, one))
                tell(one, None)
            return
        from cwmp.studies.processes import run_in_processes

        run_in_processes(left, directory, data, workers, checkpoint_every, tell)


def run_one(
    planned: Planned,
    directory: Path,
    data: Mapping[str, Dataset],
    every: int,
    seen: Callable[[RoundRow], None],
) -> None:
    """Run one job, in one thread, and write its file; then its checkpoint goes."""
    import torch

    torch.set_num_threads(1)
    path = run_path(directory, planned)
    checkpoint = path.with_suffix(".checkpoint.npz")
    options = RunOptions(checkpoint=checkpoint, every=every, seen=lambda _, row: seen(row))
    run = run_job(planned.job, planned.labels, data=data[planned.job.data], options=options)
    run.save(path)
    checkpoint.unlink(missing_ok=True)


def collect(directory: Path, planned: Sequence[Planned]) -> tuple[RunFile, ...]:
    """The runs of *planned* that are done, in their order.

    Raises:
        FileFormatError: a run's file that is damaged, or of another job than its name says.
    """
    found = []
    for one in planned:
        path = run_path(directory, one)
        if not path.exists():
            continue
        run = RunFile.load(path)
        if run.job.key != one.job.key:
            raise FileFormatError(f"{path} is of another run than its name says: delete it")
        found.append(run.model_copy(update={"labels": dict(one.labels)}))
    return tuple(found)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold *directory*, made if it is absent, against another sweep.

    Raises:
        OutputExistsError: another process holds it.
        OutputError: it cannot be made.
    """
    try:
        (directory / RUNS).mkdir(parents=True, exist_ok=True)
        handle = (directory / LOCK).open("a")
    except OSError as error:
        raise OutputError(f"cannot use {directory}: {error.strerror or error}") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputExistsError(
                f"another process is running the study in {directory}: wait for it, or stop it"
            ) from error
        _tidy(directory / RUNS)
        yield


def _tidy(runs: Path) -> None:
    """Remove what a process that was killed while it wrote has left."""
    for stale in runs.glob(".cwmp-*"):
        stale.unlink(missing_ok=True)
    for checkpoint in runs.glob("*.checkpoint.npz"):
        if (runs / f"{checkpoint.name.partition('.')[0]}.json").exists():
            checkpoint.unlink(missing_ok=True)


class _Teller:
    """Counts what has ended and tells whoever watches."""

    def __init__(self, progress: SweepProgress | None, done: int, runs: int) -> None:
        self.progress, self.done, self.runs = progress, done, runs

    def __call__(self, planned: Planned, row: RoundRow | None) -> None:
        if row is None:
            self.done += 1
        if self.progress is not None:
            self.progress(Seen(planned, row, self.done, self.runs))
