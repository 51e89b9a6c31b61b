"""A session on failing meters, dozing hosts and modules that raise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from stand_ins.sessions import profile_known, read_journal
from stand_ins.simulated_device import DepositMeter, KnownOperation
from torch import nn

from profiler import attempts, conditions, session
from profiler.errors import CounterFaultError, InputError, MeterReadError
from profiler.progress import Standing
from profiler.session import profile_model
from profiler.trace import Trace

pytestmark = pytest.mark.usefixtures("short_probe")


COARSE = {"precision": 0.2}


class Host:
    """A tree of real files for the conditions, disturbed in chosen blocks.

    Args:
        disturb: called with this host at the start of each ``run`` of those blocks.
        blocks: numbers of the pilot blocks that are disturbed, each time they are tried.
    """

    def __init__(self, root: Path, disturb: Callable[[Host], None], *blocks: int) -> None:
        cpu = root / "devices/system/cpu/cpu0"
        self.clock = cpu / "cpufreq/scaling_cur_freq"
        self.throttles = cpu / "thermal_throttle/core_throttle_count"
        for file, text in ((self.clock, "2000000"), (self.throttles, "7")):
            file.parent.mkdir(parents=True)
            file.write_text(text)
        self.disturb, self.blocks, self.next = disturb, blocks, -1
        self.slept_s = 0.0

    def hook(self) -> None:
        if self.next in self.blocks:
            self.disturb(self)
        else:
            self.clock.write_text("2000000")

    def follow(self, standing: Standing) -> None:
        if standing.stage == "pilot":
            self.next = standing.done

    def throttle(self) -> None:
        self.throttles.write_text(str(int(self.throttles.read_text()) + 1))


def _profile_on(host: Host, monkeypatch: pytest.MonkeyPatch) -> Trace:
    root = host.clock.parents[5]
    monkeypatch.setenv("CWMP_SYSFS", str(root))
    monkeypatch.setattr(conditions, "suspended_s", lambda: host.slept_s)
    monkeypatch.setattr(attempts, "_COOLING_S", 1e-4)
    meter = DepositMeter()
    operation = KnownOperation(meter, [10, 100], hook=host.hook)
    return profile_known(meter=meter, extra_operations=[operation], progress=host.follow, **COARSE)


def test_a_block_that_spans_a_suspend_is_dropped_and_measured_again(tmp_path, monkeypatch):
    def sleep_once(host: Host) -> None:
        host.slept_s = 100.0

    trace = _profile_on(Host(tmp_path, sleep_once, 9), monkeypatch)
    assert trace.metadata.dropped == {"suspend-gap": 1}
    assert set(trace.blocks["flags"]) == {""}
    assert trace.blocks["block"].tolist() == list(range(len(trace.blocks)))


@pytest.mark.parametrize(
    ("disturb", "flag"),
    [
        (lambda host: host.clock.write_text("1000000"), "frequency-shift"),
        (lambda host: host.throttle(), "throttled"),
    ],
)
def test_a_disturbed_block_is_measured_again_and_never_ends_the_session(
    tmp_path, monkeypatch, disturb, flag
):
    trace = _profile_on(Host(tmp_path, disturb, 5), monkeypatch)
    assert trace.metadata.dropped == {flag: 3}
    assert trace.blocks.loc[trace.blocks["flags"] != "", "block"].tolist() == [5]
    assert trace.blocks["flags"][5] == flag


def test_a_block_that_was_throttled_once_is_measured_again_unflagged(tmp_path, monkeypatch):
    def throttle_once(host: Host) -> None:
        host.throttle()
        host.blocks = ()

    trace = _profile_on(Host(tmp_path, throttle_once, 3), monkeypatch)
    assert trace.metadata.dropped == {"throttled": 1}
    assert set(trace.blocks["flags"]) == {""}


def test_what_a_disturbed_block_showed_does_not_plan_the_session(tmp_path, monkeypatch):
    """Its joules are those of another clock: neither a mean nor a spread may hold them."""
    calm = _profile_on(Host(tmp_path / "calm", Host.throttle), monkeypatch)
    spoilt = DepositMeter()

    def spoil(host: Host) -> None:
        host.throttle()
        spoilt.energy_j += 1.0  # a thousand times the block's own joules

    host = Host(tmp_path / "hot", spoil, 5)
    monkeypatch.setenv("CWMP_SYSFS", str(host.clock.parents[5]))
    operation = KnownOperation(spoilt, [10, 100], hook=host.hook)
    hot = profile_known(meter=spoilt, extra_operations=[operation], progress=host.follow, **COARSE)
    assert hot.blocks["flags"].str.contains("throttled").sum() == 1
    assert abs(len(hot.blocks) - len(calm.blocks)) <= 4


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
