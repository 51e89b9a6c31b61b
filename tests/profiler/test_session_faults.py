"""A session on failing meters, dozing hosts and modules that raise."""

from __future__ import annotations

from itertools import count

import pytest
import torch
from stand_ins.sessions import profile_known, read_journal
from stand_ins.simulated_device import DepositMeter, KnownOperation
from torch import nn

from profiler import blocks, session, stages
from profiler.errors import CounterFaultError, InputError, MeterReadError
from profiler.session import profile_model

pytestmark = pytest.mark.usefixtures("short_probe")


def test_a_block_that_spans_a_suspend_is_dropped_and_measured_again(monkeypatch):
    asked = count(1)  # at both ends of each block: the host sleeps inside the tenth
    monkeypatch.setattr(blocks, "suspended_s", lambda: 100.0 if next(asked) >= 20 else 0.0)
    meter = DepositMeter()
    operation = KnownOperation(meter, [10, 100])
    trace = profile_known(meter=meter, extra_operations=[operation], precision=0.2)
    assert trace.metadata.dropped == {"suspend-gap": 1}
    assert set(trace.blocks["flags"]) == {""}
    assert trace.blocks["block"].tolist() == list(range(len(trace.blocks)))


def test_a_throttled_block_is_measured_again_and_never_ends_the_session(monkeypatch):
    clock = {"hz": 2e9}
    monkeypatch.setattr(blocks, "cpu_frequency_hz", lambda: clock["hz"])
    monkeypatch.setattr(stages, "cpu_frequency_hz", lambda: 2e9)
    meter = DepositMeter()

    def throttle(standing) -> None:
        clock["hz"] = 1e9 if (standing.stage, standing.done) == ("pilot", 5) else 2e9

    trace = profile_known(
        meter=meter,
        extra_operations=[KnownOperation(meter, [10, 100])],
        precision=0.2,
        progress=throttle,
    )
    assert trace.metadata.dropped == {"frequency-shift": 3}
    assert trace.blocks.loc[trace.blocks["flags"] != "", "block"].tolist() == [5]
    assert trace.blocks["flags"][5] == "frequency-shift"


def test_a_module_that_fails_is_named_and_what_was_measured_is_kept(tmp_path):
    class Scale(nn.Module):
        def __init__(self, factor: torch.Tensor, in_place: bool) -> None:
            super().__init__()
            self.factor, self.in_place = nn.Parameter(factor), in_place

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mul_(self.factor) if self.in_place else x * self.factor

    in_place = nn.Sequential(nn.Linear(4, 4), Scale(torch.ones(4), True))
    turned = Scale(torch.ones(4, dtype=torch.complex64), False)
    meter = DepositMeter()
    for model, layer, cause in (
        (in_place, "1", "in-place operation"),
        (turned, r"\*", "real scalar"),
    ):
        path = tmp_path / f"{layer.strip(chr(92))}.journal"
        message = rf"train of layer {layer} at k = 2 failed: .*{cause}.*"
        with pytest.raises(InputError, match=message):
            profile_model(
                model,
                model_name="odd",
                meter=meter,
                example_input=torch.randn(2, 4),
                operations=("train",),
                batch_sizes=(2,),
                journal=path,
            )
        assert path.exists() == (model is in_place)  # of which model and first layer were sized
    assert list(read_journal(tmp_path / "1.journal").sizing) == [0, 1]


def test_the_host_is_described_before_anything_is_measured(monkeypatch):
    def fail(*, identify: bool):
        raise KeyError("no user of that number")

    monkeypatch.setattr(session, "describe_host", fail)
    meter = DepositMeter()
    operation = KnownOperation(meter)
    with pytest.raises(KeyError):
        profile_known(meter=meter, extra_operations=[operation], identify=True)
    assert operation.prepared == [] and meter.reads == 0


def test_lost_reads_drop_their_block_which_is_measured_again():
    def faults(read: int) -> Exception | None:
        if read > 200 and read % 97 == 0:
            return MeterReadError("the counter was busy")
        if read > 200 and read % 131 == 0:
            return CounterFaultError("the counter jumped")
        return None

    meter = DepositMeter()
    operation = KnownOperation(meter, [10, 100], scatter=0.02)
    quiet = profile_known(meter=meter, extra_operations=[operation], precision=0.2)
    meter = DepositMeter()
    operation.meter = meter
    meter.faults = lambda read: None if "probed" not in state else faults(read)
    state: dict[str, bool] = {}
    operation.hook = lambda: state.setdefault("probed", True)
    trace = profile_known(meter=meter, extra_operations=[operation], precision=0.2)
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
    measured = read_journal(path)
    assert measured.blocks and measured.dropped["MeterReadError"] == 4
