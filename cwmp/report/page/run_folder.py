"""The folder of ``cwmp run`` as a `View`: its rows of results as runs of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cwmp.conclusion import display_name
from cwmp.fl.job import Job
from cwmp.fl.ledger import PHASES
from cwmp.report.page.folder import view_of
from cwmp.report.page.view import View
from cwmp.results import RESULTS, SUMMARY, outcome_of
from cwmp.studies.runs import EnergyCell, RoundRow, RunFile
from cwmp.summary import Comparison, Summary
from profiler.errors import FileFormatError, InputFileError

_COPIED = (
    "round", "accuracy", "loss", "train_loss", "uplink_bytes", "downlink_bytes", "entries_kept",
    "declared_j", "captured", "captured_of", "bound",
)  # fmt: skip
_KEPT = ("data", "model", "clients", "alpha", "rounds", "local_epochs", "batch_size", "lr",
         "momentum")  # fmt: skip


def load_run(folder: Path) -> View:
    """Read ``results.parquet`` and ``summary.json`` of ``cwmp run -o``.

    Raises:
        InputFileError: a file is absent or unreadable.
        FileFormatError: a file that is refused.
    """
    summary = Summary.load(folder / SUMMARY)
    rows = _rows(folder / RESULTS)
    by_run: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        by_run.setdefault((row["method"], row["budget"], row["seed"]), []).append(row)
    config, device = summary.config, str(summary.costs.get("device", "device"))
    runs = [_run(config, device, found) for found in by_run.values()]
    return view_of(
        runs,
        {},
        spec={"name": folder.resolve().name},
        warnings=summary.warnings,
        conclusions=(*summary.conclusion, *map(_compared, summary.comparisons)),
        assumptions=summary.assumptions,
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    except FileNotFoundError as error:
        raise InputFileError(f"cannot read {path}: there is no such file") from error
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise FileFormatError(f"{path} is not a table of results: {reason}") from error
    lacking = {"method", "budget", "seed", "reason", *_COPIED} - set(found[0] if found else ())
    if lacking:
        raise FileFormatError(f"{path} is not a table of results: it lacks {min(lacking)}")
    return found


def _run(config: Mapping[str, Any], device: str, rows: Sequence[dict[str, Any]]) -> RunFile:
    head = rows[0]
    known = {name: config[name] for name in _KEPT if config.get(name) is not None}
    job = Job.parse(
        method="topk", seed=head["seed"], devices=({"name": device, "costs": "costs.json"},),
        **known,
    )  # fmt: skip
    reason = head["reason"] or ""
    outcome = outcome_of(reason)
    return RunFile.model_validate(
        {
            "labels": {
                "method": head["method"], "budget": head["budget"], "seed": head["seed"],
                "device": device, "alpha": job.alpha, "control": "",
            },
            "job": job,
            "status": outcome if outcome in ("finished", "infeasible", "diverged") else "failed",
            "reason": reason,
            "budget_j": head["budget_j"],
            "rounds": () if reason else tuple(map(_round, rows)),
        }
    )  # fmt: skip


def _round(row: Mapping[str, Any]) -> RoundRow:
    return RoundRow(
        **{name: row[name] for name in _COPIED},
        phases={phase: _cell(row, phase) for phase in PHASES if f"{phase}_j" in row},
        lacks=tuple(row["lacks"].split(",")) if row["lacks"] else (),
        total=_cell(row, "total"),
        cumulative=_cell(row, "cumulative"),
    )


def _cell(row: Mapping[str, Any], name: str) -> EnergyCell | None:
    if row[f"{name}_j"] is None:
        return None
    return EnergyCell(
        value_j=row[f"{name}_j"],
        low_j=row[f"{name}_low_j"],
        high_j=row[f"{name}_high_j"],
        origin=row[f"{name}_origin"],
    )


def _compared(comparison: Comparison) -> str:
    difference = comparison.result.difference
    interval = (
        ""
        if difference.low is None or difference.high is None
        else f" [{100 * difference.low:+.2f}, {100 * difference.high:+.2f}]"
    )
    at = comparison.budget or "mean over the budgets"
    return (
        f"{display_name(comparison.method)} against {display_name(comparison.other)}, {at}: "
        f"{100 * difference.mean:+.2f}{interval} points, {comparison.result.verdict}."
    )
