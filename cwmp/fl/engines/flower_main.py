"""Flower's server app for a `Job`: reports to the engine that started it, or to a file.

Needs the extra ``cwmp[flower]``.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cwmp.fl.archive import state_arrays
from cwmp.fl.engines.base import Standing
from cwmp.fl.engines.flower_app import digest, prepared
from cwmp.fl.engines.flower_link import ENVIRONMENT, Line
from cwmp.fl.engines.flower_server import GridEngine, Patience
from cwmp.fl.job import Job, Prepared
from cwmp.fl.record_json import records_to_json
from profiler.errors import (
    BudgetError,
    CwmpError,
    InputError,
    MissingExtraError,
    RoundError,
    UpdateError,
)
from profiler.files import refuse_existing

try:
    from flwr.app import Context
    from flwr.serverapp import Grid, ServerApp
except ImportError as error:
    raise MissingExtraError("Flower is not installed: pip install 'cwmp[flower]'") from error

if TYPE_CHECKING:
    from cwmp.studies.runs import RoundRow

_LOG = logging.getLogger("flwr")


def server_app(job: Job | None = None) -> ServerApp:
    """A `ServerApp` for *job*, or for the file that the run's config names as ``job``.

    Under plain ``flwr run`` the rounds are logged, and the run is written as a `RunFile` to the
    path that the run's config names as ``output``, which must not be there unless ``force``;
    ``deadline-s`` and ``gather-s`` are as in `Patience`, 0 for no deadline.
    """
    text = job.model_dump_json() if job is not None else None
    app = ServerApp()

    def main(grid: Grid, context: Context) -> None:
        path = os.environ.get(ENVIRONMENT)
        if path:
            _reporting(Line.to(path), text, grid, context)
        else:
            _to_file(prepared(text, context), grid, context)

    app.main()(main)
    return app


def _reporting(line: Line, text: str | None, grid: Grid, context: Context) -> None:
    """Every error goes to the engine, which is who can raise it."""
    try:
        ready = prepared(text, context)
        line.send("hello", federation=digest(ready.federation, ready.job))
        said, _ = line.receive()
        engine = GridEngine(ready.job, grid, Patience(**said["patience"]))
        absent = _Absent(line)
        state = ready.federation.initial

        def keep(standing: Standing) -> None:
            nonlocal state
            state = standing.state

        for record in engine.run(ready.federation, ready.team, available=absent, keep=keep):
            line.send("round", record=json.dumps(records_to_json([record])))
        line.send("end", state_arrays(state))
    except (EOFError, BrokenPipeError):
        _LOG.warning("cwmp: the engine hung up")
    except CwmpError as error:
        kinds = {BudgetError: "BudgetError", UpdateError: "UpdateError", InputError: "InputError"}
        kind = next((name for of, name in kinds.items() if isinstance(error, of)), "RoundError")
        line.send("error", type=kind, why=str(error))
    except Exception as error:
        line.send("error", type="RoundError", why=f"Flower's server app: {error!r}")
        raise
    finally:
        line.close()


@dataclass
class _Absent:
    """`Available`, asked of the engine once a round."""

    line: Line
    number: int = 0
    reasons: dict[int, str] = field(default_factory=dict)

    def __call__(self, number: int, client: int) -> str:
        if number != self.number:
            self.line.send("ask", round=number)
            answer, _ = self.line.receive()
            self.reasons = {int(name): why for name, why in answer["absent"].items()}
            self.number = number
        return self.reasons.get(client, "")


def _to_file(ready: Prepared, grid: Grid, context: Context) -> None:
    """The job with its ledger and batteries, as `run_job` has it.

    Raises:
        OutputExistsError: the output is there.
        RoundError: the run did not finish; its rounds are in the output.
    """
    from cwmp.studies.runner import RunOptions, run_job

    config = context.run_config
    output = str(config.get("output") or "")
    if output:
        refuse_existing(Path(output), force=bool(config.get("force")))
    patience = Patience(
        deadline_s=float(config.get("deadline-s", 0)) or None,
        gather_s=float(config.get("gather-s", 60)),
    )
    options = RunOptions(engine=GridEngine(ready.job, grid, patience), seen=_log)
    run = run_job(ready.job, {}, data=ready.data, options=options)
    if output:
        run.save(Path(output))
    if run.status != "finished":
        raise RoundError(run.reason)


def _log(job: Job, row: RoundRow) -> None:
    _LOG.info(
        "cwmp: round %d of %d, accuracy %.4f, %d absent, %s",
        row.round,
        job.rounds,
        row.accuracy,
        len(row.absent),
        "not priced" if row.cumulative is None else f"{row.cumulative.value_j:.4g} J so far",
    )
