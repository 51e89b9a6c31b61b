"""A whole session on joules that are known: estimates, faults, interruption, resumption."""

from __future__ import annotations

from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from stand_ins.simulated_device import DepositMeter, KnownOperation
from torch import nn

from profiler import design, session
from profiler.errors import (
    CounterFaultError,
    FileFormatError,
    InputError,
    MeterReadError,
    OutputExistsError,
)
from profiler.journal import Journal
from profiler.session import SessionInterrupted, profile_model
from profiler.trace import Trace

MODEL = nn.Linear(4, 2)
profile_known = partial(profile_model, MODEL, model_name="known", operations=())


@pytest.fixture(autouse=True)
def short_probe(monkeypatch):
    monkeypatch.setattr(session, "_PROBE_S", 0.2)


def _fit(trace: Trace):
    cells = []
    for k, rows in trace.blocks.groupby("k"):
        cells.append(
            design.cell_statistics(
                k,
                rows["cost_j_per_call"],
                rows["energy_j"] / rows["repetitions"],
                rows["stage"] == "pilot",
                float((rows["standard_error_j_per_call"] ** 2).mean()),
            )
        )
    return design.fit_cells(cells)


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


def test_lost_reads_drop_their_block_which_is_measured_again():
    def faults(read: int) -> Exception | None:
        if read > 200 and read % 97 == 0:
            return MeterReadError("the counter was busy")
        if read > 200 and read % 131 == 0:
            return CounterFaultError("the counter jumped")
        return None

    meter = DepositMeter()
    operation = KnownOperation(meter, [10, 100], scatter=0.02)
    quiet = profile_known(meter=meter, extra_operations=[operation])
    meter = DepositMeter()
    operation.meter = meter
    meter.faults = lambda read: None if "probed" not in state else faults(read)
    state: dict[str, bool] = {}
    operation.hook = lambda: state.setdefault("probed", True)
    trace = profile_known(meter=meter, extra_operations=[operation])
    assert trace.metadata.dropped and set(trace.metadata.dropped) <= {
        "MeterReadError",
        "CounterFaultError",
    }
    assert trace.blocks["block"].tolist() == list(range(len(trace.blocks)))
    assert quiet.metadata.dropped == {}
    assert trace.blocks["cost_j_per_call"].mean() == pytest.approx(
        quiet.blocks["cost_j_per_call"].mean(), rel=0.2
    )


def test_a_meter_that_stays_silent_ends_the_session_and_keeps_the_journal(tmp_path):
    meter = DepositMeter()
    state = {"blocks": 0}

    def hook() -> None:
        state["blocks"] += 1
        if state["blocks"] > 60:
            meter.faults = lambda read: MeterReadError("unplugged")

    path = tmp_path / "t.journal"
    operation = KnownOperation(meter, [10, 100], hook=hook)
    with pytest.raises(MeterReadError, match=r"4 blocks in a row were lost: unplugged.*--resume"):
        profile_known(meter=meter, extra_operations=[operation], journal=path)
    _, measured = Journal.reopen(path)
    assert measured.blocks and measured.dropped["MeterReadError"] == 4


def test_a_time_cap_scales_the_blocks_down_and_is_flagged():
    meter = DepositMeter()
    operation = KnownOperation(meter, scatter=0.5)
    trace = profile_known(meter=meter, extra_operations=[operation], max_time_s=2.0, precision=0.01)
    assert set(trace.blocks["flags"]) == {"time-capped"}
    assert any(
        remark.startswith("time-capped: in 3 of 3 cells") for remark in trace.metadata.remarks
    )
    assert trace.blocks["start_s"].max() < 2.0
    assert trace.blocks.groupby("k").size().min() >= design.PILOT_BLOCKS


def test_too_little_time_still_leaves_two_pilot_blocks_a_cell():
    meter = DepositMeter()
    operation = KnownOperation(meter)
    trace = profile_known(meter=meter, extra_operations=[operation], max_time_s=0.01)
    assert (trace.blocks.groupby("k").size() == 2).all()
    assert set(trace.blocks["stage"]) == {"pilot"}
    assert any("ended the pilot early" in remark for remark in trace.metadata.remarks)


COARSE = {"precision": 0.12}


def _interrupt_after(runs: int):
    state = {"runs": 0}

    def hook() -> None:
        state["runs"] += 1
        if state["runs"] == runs:
            raise KeyboardInterrupt

    return hook


@pytest.mark.parametrize("runs", [45, 70])
def test_an_interrupted_session_keeps_its_blocks_and_is_resumed(tmp_path, runs):
    path = tmp_path / "t.journal"
    meter = DepositMeter()
    operation = KnownOperation(meter, [10, 100], scatter=0.1, hook=_interrupt_after(runs))
    with pytest.raises(SessionInterrupted) as stop:
        profile_known(meter=meter, extra_operations=[operation], journal=path, seed=4, **COARSE)
    partial_trace = stop.value.trace
    assert isinstance(stop.value, KeyboardInterrupt)
    assert partial_trace.metadata.remarks[0] == "interrupted"
    kept = partial_trace.blocks

    meter = DepositMeter()
    operation = KnownOperation(meter, [10, 100], scatter=0.1)
    ready = {"extra_operations": [operation], "seed": 4, "journal": path, **COARSE}
    with pytest.raises(OutputExistsError, match="--resume"):
        profile_known(meter=meter, **ready)
    with pytest.raises(FileFormatError, match="its seed is 4, now it is 5"):
        profile_known(meter=meter, **{**ready, "seed": 5}, resume=True)
    trace = profile_known(meter=meter, **ready, resume=True)
    assert trace.blocks["block"].tolist() == list(range(len(trace.blocks)))
    assert "interrupted" not in trace.metadata.remarks
    again = trace.blocks.set_index("block").loc[kept["block"], "energy_j"]
    assert again.tolist() == kept["energy_j"].tolist()
    assert trace.blocks["start_s"].is_monotonic_increasing

    meter = DepositMeter()
    whole = profile_known(
        meter=meter,
        extra_operations=[KnownOperation(meter, [10, 100], scatter=0.1)],
        seed=4,
        **COARSE,
    )
    pilot = whole.blocks["stage"] == "pilot"
    same = trace.blocks["stage"] == "pilot"
    assert whole.blocks.loc[pilot, "k"].tolist() == trace.blocks.loc[same, "k"].tolist()


def test_an_interruption_before_the_first_block_has_no_trace():
    meter = DepositMeter()
    operation = KnownOperation(meter, hook=_interrupt_after(1))
    with pytest.raises(SessionInterrupted) as stop:
        profile_known(meter=meter, extra_operations=[operation])
    assert stop.value.trace is None


def test_progress_is_told_after_each_block():
    meter = DepositMeter()
    standings = []
    trace = profile_known(
        meter=meter, extra_operations=[KnownOperation(meter, [10, 100])], progress=standings.append
    )
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
    ],
)
def test_bad_arguments_are_refused_before_anything_is_read(arguments, message):
    meter = DepositMeter()
    with pytest.raises(InputError, match=message):
        profile_model(
            MODEL, **{"model_name": "m", "meter": meter, "operations": ("update",)} | arguments
        )
    assert meter.reads == 0


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
            max_time_s=1.0,
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
