"""The folder of a study as a `View`: runs, cost files, and the summary where it is there.

A page can be made while a study runs: what has not been written yet is not on it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from costmodels.costfile import CostFile
from cwmp.report.page.gains import pairs_of
from cwmp.report.page.grouping import Place, absences_of, curve_of, grid_of, phases_of
from cwmp.report.page.told import Told, told
from cwmp.report.page.view import Curve, Unfinished, View
from cwmp.studies.runs import RunFile
from profiler.errors import CwmpError, InputFileError
from profiler.files import read_json

_SHOWN = ("data", "model", "clients", "per_round", "rounds", "local_epochs", "batch_size", "lr",
          "momentum", "weight_decay", "schedule")  # fmt: skip


def load_study(folder: Path) -> View:
    """Read a study's folder: ``runs/*.json``, ``costs/*.json``, ``study.json``, ``summary.json``.

    Raises:
        InputFileError: there is no such folder, or no run in it.
        FileFormatError: a run, or the summary, that cannot be read.
    """
    if not folder.is_dir():
        raise InputFileError(f"{folder} is not a folder; name that of a study")
    runs = [RunFile.load(path) for path in sorted((folder / "runs").glob("*.json"))]
    if not runs:
        raise InputFileError(
            f"{folder} holds no runs (runs/*.json); name the folder of a study or of 'cwmp run'"
        )
    spec = _spec(folder / "study.json")
    costs, unread = _costs(folder / "costs", runs)
    return view_of(runs, costs, spec=spec, summary=told(folder / "summary.json"), warnings=unread)


def view_of(
    runs: Sequence[RunFile],
    costs: dict[str, CostFile],
    *,
    spec: dict[str, Any] | None = None,
    summary: Told | None = None,
    warnings: Sequence[str] = (),
    conclusions: Sequence[str] = (),
    assumptions: Sequence[str] = (),
) -> View:
    """The page's content from *runs* and the *costs* of their devices, by name."""
    summary = summary or Told()
    grid = grid_of(runs, summary.devices)
    curves: list[Curve] = []
    unfinished: list[Unfinished] = []
    for place, members in grid.cells.items():
        finished = [run for run in members if run.status == "finished" and run.rounds]
        if finished:
            curves.append(curve_of(place, finished))
        unfinished.extend(_unfinished(place, members))
    gains, notes = pairs_of(grid, costs)
    question = (summary.question,) if summary.question else ()
    return View(
        name=str((spec or {}).get("name") or summary.name or "Study"),
        about=(*question, *_about(runs, grid.scenarios)),
        scenarios=grid.scenarios,
        methods=grid.methods,
        budgets=grid.budgets,
        curves=tuple(curves),
        unfinished=tuple(unfinished),
        absences=absences_of(grid),
        phases=phases_of(runs),
        costs=costs,
        gains=gains,
        gain_notes=notes,
        tests=summary.tests,
        tables=summary.tables,
        facts=_facts(runs, spec),
        assumptions=tuple(
            dict.fromkeys(
                (*assumptions, *(text for file in costs.values() for text in file.assumptions))
            )
        ),
        warnings=(*warnings, *_partial(curves), *summary.warnings),
        conclusions=(*conclusions, *summary.conclusions),
        details=summary.details,
    )


def _spec(path: Path) -> dict[str, Any]:
    found = read_json(path) if path.exists() else {}
    if not isinstance(found, dict):
        return {}
    inner = found.get("spec")
    name = found.get("name") or (inner.get("name") if isinstance(inner, dict) else None)
    return {**found, "name": name}


def _costs(folder: Path, runs: Sequence[RunFile]) -> tuple[dict[str, CostFile], list[str]]:
    """Cost files by device, from the study's copies or where the jobs say; and what is missing.

    Runs that are controls come last: their costs may go by a device's name and not be its own.
    """
    costs: dict[str, CostFile] = {}
    missing: dict[str, str] = {}
    for run in sorted(runs, key=lambda run: bool(run.labels.get("control"))):
        for device in run.job.devices:
            if device.name in costs or device.name in missing:
                continue
            copies = (folder / device.costs.name, folder / f"{device.name}.json", device.costs)
            path = next((path for path in copies if path.is_file()), device.costs)
            try:
                costs[device.name] = CostFile.load(path)
            except CwmpError as error:
                missing[device.name] = f"The costs of {device.name} are not shown: {error}."
    return dict(sorted(costs.items())), list(missing.values())


def _unfinished(place: Place, members: Sequence[RunFile]) -> list[Unfinished]:
    found: dict[tuple[str, str], list[int]] = {}
    for run in members:
        if run.status != "finished" or not run.rounds:
            reason = run.reason.removeprefix(f"{run.status}: ")
            found.setdefault((run.status, reason), []).append(run.job.seed)
    return [Unfinished(*place, *how, tuple(sorted(seeds))) for how, seeds in found.items()]


def _partial(curves: Sequence[Curve]) -> list[str]:
    seeds = {curve.seeds for curve in curves}
    if len(seeds) < 2:
        return []
    counts = sorted(len(each) for each in seeds)
    return [
        f"Curves stand on different seeds ({counts[0]} to {counts[-1]} of them): means of "
        "different seeds are not paired; the tests, where there are any, are."
    ]


def _about(runs: Sequence[RunFile], scenarios: Sequence[str]) -> tuple[str, ...]:
    seeds = len({run.job.seed for run in runs})
    done = sum(run.status == "finished" for run in runs)
    plural = "" if seeds == 1 else "s"
    many = f" in {len(scenarios)} settings" if len(scenarios) > 1 else ""
    setting = [
        f"{', '.join(_values(runs, 'model'))} on {_data(runs)}",
        f"{', '.join(_values(runs, 'clients'))} clients",
        f"{', '.join(_values(runs, 'rounds'))} rounds",
    ]
    return (", ".join(setting) + ".", f"{done} finished runs over {seeds} seed{plural}{many}.")


def _values(runs: Sequence[RunFile], name: str) -> list[str]:
    found = dict.fromkeys(getattr(run.job, name) for run in runs)
    return ["all" if value is None else str(value) for value in found]


def _data(runs: Sequence[RunFile]) -> str:
    return ", ".join(dict.fromkeys(run.job.data.partition(":")[0] for run in runs))


def _facts(runs: Sequence[RunFile], spec: dict[str, Any] | None) -> tuple[tuple[str, str], ...]:
    facts = [
        (name.replace("_", " "), _data(runs) if name == "data" else ", ".join(_values(runs, name)))
        for name in _SHOWN
    ]
    seeds = sorted({run.job.seed for run in runs})
    facts.append(("seeds", ", ".join(map(str, seeds))))
    versions: dict[str, dict[str, None]] = {}
    for run in runs:
        for package, version in run.software.items():
            versions.setdefault(package, {})[version] = None
    facts.extend((f"version of {name}", " and ".join(found)) for name, found in versions.items())
    facts.append(("wall-clock of all runs", f"{sum(run.duration_s for run in runs):.0f} s"))
    endpoints = (spec or {}).get("endpoints")
    if endpoints:
        facts.append(("endpoints, fixed before the runs", json.dumps(endpoints)))
    return tuple(facts)
