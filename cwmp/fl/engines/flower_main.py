"""Flower's server app for a `Job`: reports to the engine that started it, or to a file.

Needs the extra ``cwmp[flower]``.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from cwmp.fl.archive import state_arrays
from cwmp.fl.engines.base import Available, Standing
from cwmp.fl.engines.flower_app import digest, prepared
from cwmp.fl.engines.flower_link import ENVIRONMENT, Line
from cwmp.fl.engines.flower_server import Patience, serve
from cwmp.fl.job import Job, Prepared
from cwmp.fl.record_json import records_to_json
from cwmp.fl.rounds import RoundRecord
from profiler.errors import BudgetError, CwmpError, InputError, MissingExtraError, UpdateError
from profiler.files import write_atomic

try:
    from flwr.app import Context
    from flwr.serverapp import Grid, ServerApp
except ImportError as error:
    raise MissingExtraError("Flower is not installed: pip install 'cwmp[flower]'") from error

SCHEMA, VERSION = "cwmp.flower.rounds", 1
_LOG = logging.getLogger("flwr")


def server_app(job: Job | None = None) -> ServerApp:
    """A `ServerApp` for *job*, or for the file that the run's config names as ``job``.

    Under plain ``flwr run`` the rounds are logged, and written as JSON to the file that the
    run's config names as ``output``; ``deadline-s`` and ``gather-s`` are as in `Patience`, 0 for
    no deadline.
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
        line.send("hello", federation=digest(ready.federation, ready.job.method))
        said, _ = line.receive()
        patience = Patience(**said["patience"])

        def available(number: int) -> Available:
            line.send("ask", round=number)
            answer, _ = line.receive()
            reasons = {int(client): why for client, why in answer["absent"].items()}
            return lambda _, client: reasons.get(client, "")

        def ended(record: RoundRecord, standing: Standing) -> None:
            line.send("round", record=json.dumps(records_to_json([record])))

        state = serve(ready, grid, patience, available=available, ended=ended)
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


def _to_file(ready: Prepared, grid: Grid, context: Context) -> None:
    config = context.run_config
    patience = Patience(
        deadline_s=float(config.get("deadline-s", 0)) or None,
        gather_s=float(config.get("gather-s", 60)),
    )
    output = config.get("output")
    records: list[RoundRecord] = []

    def ended(record: RoundRecord, standing: Standing) -> None:
        records.append(record)
        _LOG.info(
            "cwmp: round %d of %d, accuracy %.4f, %d clients, %d absent",
            record.round,
            ready.federation.rounds,
            record.accuracy,
            len(record.clients),
            len(record.absent),
        )
        if output:
            write_atomic(Path(str(output)), _rounds_file(ready.job, records), force=True)

    serve(ready, grid, patience, ended=ended)


def _rounds_file(job: Job, records: list[RoundRecord]) -> bytes:
    content: dict[str, Any] = {
        "schema_name": SCHEMA,
        "version": VERSION,
        "job": job.model_dump(mode="json"),
        "rounds": records_to_json(records),
    }
    return (json.dumps(content) + "\n").encode()
