"""The runs of a sweep on a Ray cluster: each run is a task; the files are written where it started.

Every node must have this package and see data and cost files under the paths that the jobs
name (a shared folder). What travels is the job and the finished run, as JSON. A task whose node
is lost is started again by Ray; a run has no checkpoint there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cwmp.studies.grid import Planned
from cwmp.studies.runs import RoundRow, RunFile
from cwmp.studies.sweep import run_path
from profiler.errors import CwmpError, InputError, MissingExtraError

Tell = Callable[[Planned, RoundRow | None], None]
_RETRIES = 2


def run_on_ray(left: Sequence[Planned], directory: Path, address: str, tell: Tell) -> None:
    """Run *left* on the cluster at *address* (``local`` starts one in this machine).

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: no cluster answers at the address.
        CwmpError: as a run raised it; runs that ended before it are kept.
    """
    ray = _connected(address)
    try:
        remote = ray.remote(num_cpus=1, max_retries=_RETRIES)(run_text)
        open_tasks = {
            remote.remote(one.job.model_dump_json(), json.dumps(dict(one.labels))): one
            for one in left
        }
        while open_tasks:
            (ready, *_), _ = ray.wait(list(open_tasks), num_returns=1)
            one = open_tasks.pop(ready)
            try:
                text = ray.get(ready)
            except ray.exceptions.RayTaskError as error:
                raise _cause(error, one) from error
            RunFile.model_validate_json(text).save(run_path(directory, one))
            tell(one, None)
    finally:
        ray.shutdown()


def run_text(job: str, labels: str) -> str:
    """A run from JSON to JSON, in one thread: what a node does."""
    import torch

    from cwmp.fl.job import Job
    from cwmp.studies.runner import run_job

    torch.set_num_threads(1)
    return run_job(Job.model_validate_json(job), json.loads(labels)).model_dump_json()


def _connected(address: str) -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("Ray is not installed: pip install 'cwmp[flower]'") from error
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        lines = str(error).strip().splitlines()
        raise InputError(
            f"no Ray cluster answers at {address!r}: {lines[0] if lines else error}"
        ) from error
    return ray


def _cause(error: Any, one: Planned) -> CwmpError:
    """What the run itself raised, or one line that names it."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, CwmpError):
        return cause
    lines = str(cause or error).strip().splitlines()
    job = one.job
    return CwmpError(
        f"the run of {job.method} at {job.budget} with seed {job.seed} failed on Ray: "
        f"{lines[-1] if lines else type(error).__name__}"
    )
