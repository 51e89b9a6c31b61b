"""Made-up finished runs of a study, and its folder: for tests of what is shown of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cwmp.fl.job import Job
from cwmp.studies.runs import AbsentClient, EnergyCell, RoundRow, RunFile
from stand_ins.federations import save_costs

PHASE_J = {
    "train": 0.4, "select": 0.002, "encode": 0.004, "uplink": 0.05, "downlink": 0.03,
    "update": 0.02,
}  # fmt: skip
_REACH = {"cwmp": 0.86, "topk": 0.82, "random": 0.7, "dense": 0.9}
_ORIGIN = {"train": "modelled", "uplink": "assumed", "downlink": "assumed"}


def cell(value: float, origin: str = "measured", spread: float = 0.1) -> EnergyCell:
    return EnergyCell.model_validate(
        {"value_j": value, "low_j": value * (1 - spread), "high_j": value * (1 + spread),
         "origin": origin}
    )  # fmt: skip


def made_up_run(
    method: str,
    budget: str,
    seed: int,
    *,
    device: str = "board",
    costs: Path = Path("costs.json"),
    rounds: int = 8,
    alpha: float = 0.1,
    control: str = "",
    status: str = "finished",
    reason: str = "",
    absent: bool = False,
    unpriced: Sequence[str] = (),
) -> RunFile:
    """A run whose accuracy rises and whose joules grow with the budget."""
    name = method.partition("+")[0].partition(":")[0]
    part = float(budget.rstrip("%")) / 100
    generator = np.random.default_rng([seed, len(method), int(100 * part)])
    job = Job.parse(
        method="topk", budget=budget, model="mlp", clients=4, alpha=alpha, rounds=rounds,
        seed=seed, devices=({"name": device, "costs": costs},),
    )  # fmt: skip
    rows, cumulative = [], np.zeros(3)
    for number in range(1, rounds + 1 if status == "finished" else 1):
        phases = {
            phase: None
            if phase in unpriced
            else cell(
                value * (1 if phase == "train" else part) * (0.9 if name == "cwmp" else 1),
                _ORIGIN.get(phase, "measured"),
            )
            for phase, value in PHASE_J.items()
        }
        known = [each for each in phases.values() if each is not None]
        total = cell(sum(each.value_j for each in known), "assumed")
        cumulative += [total.value_j, total.low_j, total.high_j]
        share = min(1.0, (1 - (1 - part) ** 4) * (1.1 if name == "cwmp" else 1))
        whole = 5.0 / number
        bounds = name in ("cwmp", "topk")
        rows.append(
            RoundRow(
                round=number,
                accuracy=float(
                    np.clip(
                        _REACH.get(name, 0.75) * (1 - np.exp(-number * (0.25 + part)))
                        + generator.normal(0, 0.012),
                        0, 1,
                    )
                ),
                loss=2.0 / number,
                worst_decile=0.4,
                train_loss=2.0 / number,
                uplink_bytes=int(40_000 * part) + 100,
                downlink_bytes=int(80_000 * part) + 100,
                entries_kept=int(9_000 * part) + 1,
                declared_j=0.07 * part,
                captured=share * whole if bounds else None,
                captured_of=whole if bounds else None,
                bound=min(share * 1.02, 1.0) * whole if bounds else None,
                phases=phases,
                lacks=tuple(unpriced),
                total=total,
                cumulative=EnergyCell(
                    value_j=cumulative[0], low_j=cumulative[1], high_j=cumulative[2],
                    origin="assumed",
                ),
                absent=(AbsentClient(client=1, reason="battery"),) if absent else (),
            )
        )  # fmt: skip
    labels = {"method": method, "budget": budget, "alpha": alpha, "seed": seed, "device": device,
              "control": control}  # fmt: skip
    return RunFile.model_validate(
        {
            "labels": labels, "job": job, "status": status, "reason": reason, "rounds": rows,
            "budget_j": 0.07 * part, "dense_j": 0.07, "entries": 9_000, "duration_s": 1.5,
            "by_client_j": (1.0,) * 4, "software": {"torch": "2.6.0", "cwmp": "0.1.0"},
        }
    )  # fmt: skip


def made_up_study(folder: Path, *, methods: Sequence[str] = ("cwmp", "topk", "random", "dense"),
                  budgets: Sequence[str] = ("20%", "50%"), seeds: int = 3,
                  devices: Sequence[str] = ("board",), **values: Any) -> list[RunFile]:  # fmt: skip
    """A study's folder: ``runs/``, ``costs/`` and ``study.json``. Returns its runs."""
    (folder / "runs").mkdir(parents=True)
    (folder / "costs").mkdir()
    runs = []
    for device in devices:
        costs = save_costs(folder / "costs", name="board.json")
        for method in methods:
            for budget in ("100%",) if method == "dense" else budgets:
                runs += [
                    made_up_run(method, budget, seed, device=device, costs=costs, **values)
                    for seed in range(seeds)
                ]
    save_runs(folder, runs)
    (folder / "study.json").write_text(json.dumps({"name": "Made-up study"}))
    return runs


def save_runs(folder: Path, runs: Sequence[RunFile]) -> None:
    """Write *runs* under names that sort in their order."""
    start = len(list((folder / "runs").glob("*.json")))
    for number, run in enumerate(runs, start):
        run.save(folder / "runs" / f"{number:016x}.json")
