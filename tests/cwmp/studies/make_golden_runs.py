"""Writes the golden run, summary and checkpoint: ``python .../make_golden_runs.py FOLDER``.

Once for each version of a schema; files of an old version stay as they are.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from cwmp.fl.algorithms.base import SelectionReport, Touch
from cwmp.fl.checkpoint import Checkpoint
from cwmp.fl.engines.base import Standing
from cwmp.fl.job import Job
from cwmp.fl.rounds import Absence, ClientRecord, RoundRecord
from cwmp.fl.training import ModelState
from cwmp.studies.runs import AbsentClient, EnergyCell, RoundRow, RunFile
from cwmp.studies.summary import (
    ControlVerdict,
    DeviceCosts,
    MeanOf,
    Sooner,
    StudyCell,
    StudySummary,
    StudyTest,
    Target,
)

KEY = "0123456789abcdef"
SPENT = EnergyCell(value_j=0.5, low_j=0.25, high_j=1.0, origin="modelled")
MEAN = MeanOf(n=2, mean=0.75, low=0.5, high=1.0)


def golden_job() -> Job:
    """A job that uses every key."""
    phone = {"name": "phone", "costs": Path("costs/phone.json"), "clients": 1,
             "uplink": "wifi-uplink", "uplink_bps": 1e6, "downlink": "wifi-downlink",
             "downlink_bps": 2e6, "power_w": 2.0, "example_s": 0.01, "idle_w": 0.5,
             "battery_j": 3.0, "select_costs": Path("costs/flat.json")}  # fmt: skip
    board = {"name": "board", "costs": Path("costs/board.json")}
    return Job.parse(
        method="cwmp:1,1+sapef:0.85", budget="5%", data="digits", model="mlp", clients=3,
        per_round=2, alpha=0.1, rounds=2, local_epochs=1, batch_size=16, lr=0.1, momentum=0.25,
        weight_decay=0.001, schedule="cosine", seed=7, devices=(phone, board), server=board,
        joins={2: 2}, public=10,
    )  # fmt: skip


def golden_run() -> RunFile:
    """A run that failed after a round with every field."""
    row = RoundRow(
        round=1, accuracy=0.5, loss=1.5, worst_decile=0.25, train_loss=2.5, uplink_bytes=100,
        downlink_bytes=200, entries_kept=10, declared_j=0.125, captured=1.0, captured_of=2.0,
        bound=1.25, phases={"train": SPENT, "uplink": None}, lacks=("uplink",), total=SPENT,
        cumulative=SPENT, absent=(AbsentClient(client=1, reason="battery"),),
    )  # fmt: skip
    labels = {"method": "cwmp:1,1+sapef:0.85", "budget": "5%", "alpha": 0.1, "seed": 7,
              "device": "mixed", "control": ""}  # fmt: skip
    return RunFile(
        labels=labels, job=golden_job(), status="failed", reason="failed: nobody came",
        budget_j=0.25, dense_j=5.0, entries=1000, rounds=(row,), by_client_j=(0.25, 0.0, 0.25),
        duration_s=1.5, software={"cwmp": "0.1.0", "python": "3.11.0"},
    )  # fmt: skip


def golden_summary() -> StudySummary:
    """A summary with one of everything."""
    return StudySummary(
        created_utc="2026-01-01T00:00:00Z", spec={"version": 1, "name": "golden"}, planned=4,
        done=3, family="main", family_tests=1,
        costs=(DeviceCosts(device="mixed", kind="phone", file="phone.json", measured_on="a phone",
                           origin="measured", basis="profiled", spread=3.0, layer_ratio=10.0,
                           dense_j=5.0, message_share=0.5),),
        reference_j={"mixed, 0.1": 10.0, "flat, 0.1": None},
        cells=(StudyCell(device="mixed", alpha=0.1, method="cwmp", budget="5%", control="",
                         runs={"finished": 1, "failed": 1}, reason="failed: nobody came",
                         final_accuracy=MEAN, worst_decile=MEAN,
                         hypervolume={"total": MEAN, "exchange": None},
                         targets=(Target(accuracy=0.5, reached=1, n=2, median_j=None),),
                         phases={"train": SPENT, "uplink": None}, total=SPENT, exchange=SPENT,
                         uplink_bytes=100.0, certificate=0.875),),
        tests=(StudyTest(device="mixed", alpha=0.1, method="cwmp", budget="5%", other="topk",
                         other_budget="5%", endpoint="final_accuracy", difference=MEAN, p=0.5,
                         p_holm=0.5, family=True, verdict="unknown", identical=False,
                         sooner=(Sooner(accuracy=0.5, fewer=1, more=0, equal=0, censored=1),),
                         energy_ratio=0.75),),
        controls=(ControlVerdict(control="uniform", holds=None, compared=0, sentence="Not run.",
                                 difference=MEAN, energy_ratio=1.0),),
        verdicts=("Not told apart.",), warnings=("One run failed.",),
    )  # fmt: skip


def golden_state() -> ModelState:
    """A model of one layer and one BatchNorm."""
    return ModelState(
        {"fc.weight": np.arange(6, dtype=np.float32).reshape(2, 3) / 8},
        {"norm.running_mean": np.array([0.5, -0.25], dtype=np.float32)},
        {"norm.num_batches_tracked": np.array(3)},
    )


def golden_standing() -> Standing:
    """After round 1: two clients remember, one is to be told something."""
    return Standing(
        1, golden_state(), {0: {"residual/fc.weight": np.array([0.125, 0.5])}, 2: {}},
        {2: b"\x00\x01personal"}, {"price": np.array(0.5)}, 0.375,
    )  # fmt: skip


def golden_records() -> tuple[RoundRecord, ...]:
    """Of that round: one client took part, one was refused, one had no battery."""
    touched = (Touch("fc.weight", 2, "sparse"),)
    report = SelectionReport(2, 6, 0.125, 1.0, 2.0, 1.25)
    came = ClientRecord((16, 3), 100, touched, report, 2.5, 0, 10, (16,))
    refused = ClientRecord((16,), 100, (), None, 2.0, 2)
    absent = (Absence(1, "battery"), Absence(2, "refused: its norm is nan", refused))
    return (RoundRecord(1, 0.5, 1.5, (came,), 200, touched, absent, 0.25),)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    golden_run().save(folder / "run-v1.json")
    golden_summary().save(folder / "studysummary-v1.json")
    Checkpoint(folder / "checkpoint-v1.npz", KEY).save(golden_standing(), golden_records())
