"""A whole session on joules that are known: estimates, faults, interruption, resumption."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from stand_ins.sessions import profile_known
from stand_ins.simulated_device import DepositMeter, KnownOperation
from torch import nn

from profiler import design, evidence
from profiler.errors import InputError
from profiler.meters.fake import FakeMeter
from profiler.session import profile_model
from profiler.trace import Trace

MODEL = nn.Linear(4, 2)


pytestmark = pytest.mark.usefixtures("short_probe")


def _fit(trace: Trace):
    cells = []
    for k, rows in trace.blocks.groupby("k"):
        calls = rows["repetitions"].iloc[0]
        cells.append(
            evidence.CellBlocks(
                k=k,
                costs=rows["cost_j_per_call"].to_numpy(),
                pilot=(rows["stage"] == "pilot").to_numpy(),
                repetitions=calls,
                call_s=float(rows["duration_s"].mean() / calls),
                edge_variance=float((rows["standard_error_j_per_call"] ** 2).mean()),
            )
        )
    scatter = evidence.scatter_of(cells)
    return evidence.fit_cells([evidence.cell_statistics(cell, scatter) for cell in cells])


def test_the_fitted_line_holds_the_truth_and_reaches_the_precision():
    meter = DepositMeter()
    operation = KnownOperation(meter, scatter=0.05)
    trace = profile_known(meter=meter, extra_operations=[operation], precision=0.05, seed=3)
    line = _fit(trace)
    assert line.interval_a(0.999)[0] <= operation.a_j <= line.interval_a(0.999)[1]
    assert line.interval_c(0.999)[0] <= operation.c_j <= line.interval_c(0.999)[1]
    assert line.a == pytest.approx(operation.a_j, rel=0.1)
    assert line.c == pytest.approx(operation.c_j, rel=0.1)
    counts = trace.blocks.groupby("k").size()
    assert counts.nunique() == 1 and counts.iloc[0] >= design.PILOT_BLOCKS
    assert trace.metadata.remarks == ()


def test_the_trace_says_what_was_measured_and_how(tmp_path):
    meter = DepositMeter()
    trace = profile_known(meter=meter, extra_operations=[KnownOperation(meter, [10, 100])])
    blocks, meta = trace.blocks, trace.metadata
    assert blocks["block"].tolist() == list(range(len(blocks)))
    assert set(blocks["stage"]) <= {"pilot", "main"}
    assert (blocks["stage"] == "pilot").sum() == 2 * design.PILOT_BLOCKS
    assert blocks["start_s"].is_monotonic_increasing
    recomputed = (blocks["energy_j"] - blocks["reference_energy_j"]) / blocks["repetitions"]
    assert np.allclose(recomputed, blocks["cost_j_per_call"])
    assert set(blocks["origin"]) == {"assumed"} and set(blocks["rail"]) == {"cpu"}
    assert blocks["density"].unique().tolist() in ([0.01, 0.1], [0.1, 0.01])
    assert meta.implementations == {"encode": "a deposit of a + c k joules"}
    assert meta.scope == ("joules that nobody spent",)
    assert meta.settings["precision"] == 0.05 and "torch" in meta.software
    assert [layer.name for layer in meta.layers] == ["weight", "bias"]
    trace.save(tmp_path / "t.csv")
    assert Trace.load(tmp_path / "t.csv").blocks.equals(blocks)


def test_each_block_draws_fresh_values_and_the_pilot_is_in_random_order():
    meter = DepositMeter()
    operation = KnownOperation(meter, scatter=0.01)
    trace = profile_known(meter=meter, extra_operations=[operation])
    seeds = [seed for _, seed in operation.prepared]
    assert Counter(seeds).most_common(1)[0][1] == 2  # a cell's calibration and sizing block
    assert len(set(seeds)) == len(trace.blocks) + 3
    order = trace.blocks["k"].tolist()[: 3 * design.PILOT_BLOCKS]
    assert order != sorted(order)


def test_work_is_profiled_where_the_meter_looks(monkeypatch):
    class OnGpu(KnownOperation):
        runs_on = "gpu"

    meter = DepositMeter()
    with pytest.raises(InputError, match=r"encode runs on the GPU .*deposit .*CPU.*--meter nvml"):
        profile_known(meter=meter, extra_operations=[OnGpu(meter)])
    meter.info = replace(meter.info, covers="gpu")
    trace = profile_known(meter=meter, extra_operations=[OnGpu(meter, [10, 100])], precision=0.2)
    assert len(trace.blocks) >= 2 * design.PILOT_BLOCKS
    with pytest.raises(InputError, match=r"encode runs on the CPU .*session of its own"):
        profile_known(meter=meter, extra_operations=[OnGpu(meter), KnownOperation(meter)])


def test_progress_is_told_after_each_block():
    meter = DepositMeter()
    standings = []
    trace = profile_known(
        meter=meter, extra_operations=[KnownOperation(meter, [10, 100])], progress=standings.append
    )
    first = standings[0]
    assert (first.stage, first.done, first.planned) == ("sizing", 0, 2)
    # two cells of windows of 10 ms: sizing, and a pilot of six blocks of 1.25 windows each
    assert 2 * (0.010 + 6 * 0.0125) < first.left_s < 1.0
    pilot = [standing for standing in standings if standing.stage == "pilot"]
    assert [standing.done for standing in pilot] == list(range(1, 13))
    assert {standing.layer for standing in standings} == {"net.weight"}
    assert pilot[-1].relative_half_width > 0 and pilot[0].relative_half_width is None
    assert pilot[0].left_s > pilot[-1].left_s == pytest.approx(0, abs=0.01)
    main = [standing for standing in standings if standing.stage == "main"]
    assert len(main) + len(pilot) == len(trace.blocks)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": 0}, "precision"),
        ({"precision": float("nan")}, "precision"),
        ({"max_time_s": -1}, "time limit"),
        ({"operations": ("fly",)}, "unknown operation 'fly'"),
        ({"operations": ()}, "nothing to measure"),
        ({"operations": None}, "--input-shape"),
        ({"operations": ("update",), "densities": (0.1, 1.5)}, "density 1.5"),
        ({"operations": ("update",), "densities": ()}, "at least one density"),
        ({"operations": ("update",), "device": "tpu"}, "tpu"),
        ({"operations": ("update",), "device": "cuda:99"}, "cuda:99"),
        ({"operations": ("update",), "resume": True}, "journal"),
        ({"meter": FakeMeter(covers="gpu")}, r"update runs on the CPU \(--device cpu\).*fake.*GPU"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_read(arguments, message):
    meter = DepositMeter()
    meter.read = lambda: pytest.fail("it was read")
    with pytest.raises(InputError, match=message):
        profile_model(
            MODEL, **{"model_name": "m", "meter": meter, "operations": ("update",)} | arguments
        )


def test_update_and_train_are_profiled_with_real_tensors():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        from profiler.meters import find_meter

        meter = find_meter("modelled")
        trace = profile_model(
            MODEL,
            model_name="linear",
            meter=meter,
            example_input=torch.randn(2, 4),
            batch_sizes=(2, 4),
            densities=(0.5,),
            precision=0.9,
            max_time_s=60.0,  # for a loaded machine; the precision is reached within two seconds
        )
        meter.close()
    finally:
        torch.set_num_threads(threads)
    assert set(trace.blocks["operation"]) == {"update", "train"}
    assert set(trace.metadata.implementations) == {"update", "train"}
    assert trace.metadata.origin == "modelled" and trace.metadata.assumptions
    dense = trace.blocks[trace.blocks["pattern"] == "dense"]
    assert (dense["k"] == dense["parameters"]).all() and len(dense)
    assert (trace.blocks["energy_j"] > 0).all()
