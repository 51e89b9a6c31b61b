"""What is read once, at opening: perf's description of its events, a battery's state, settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from benches import manual_time
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger import Ledger, Trial, check_message, follow, open_spoilt
from stand_ins.boards import BoardTree
from stand_ins.perf import FakeEvent, PerfKernel
from texts import TEXT_FAULTS, TextFault

from profiler.errors import CounterFaultError, CwmpError, InputError, MeterReadError
from profiler.meters.battery import BatterySource
from profiler.meters.fake import FakeSource
from profiler.meters.modelled import ModelledSource
from profiler.meters.perf import PerfSource
from profiler.meters.pmic import parse
from profiler.meters.power_supply import fed_from_outside
from profiler.meters.sysfs_files import read_number

PERF_FILES = {
    "type": "type",
    "cpumask": "cpumask",
    "event": "events/energy-pkg",
    "scale": "events/energy-pkg.scale",
    "unit": "events/energy-pkg.unit",
    "package": "../../../../devices/system/cpu/cpu0/topology/physical_package_id",
}
# A number of another meaning is still one: what it asks for is looked for, and not found.
_NUMBERS = ("1e6", "-inf", "an exponent", "a fraction")
_ids = {"ids": lambda value: value.name if isinstance(value, TextFault) else str(value)}
NUMERIC = tuple(fault for fault in TEXT_FAULTS if not fault.sound)


@pytest.mark.parametrize("fault", NUMERIC, **_ids)
@pytest.mark.parametrize("file", PERF_FILES)
def test_perf_says_it_wrongly(
    perf_kernel: PerfKernel,
    monkeypatch: pytest.MonkeyPatch,
    ledger: Ledger,
    file: str,
    fault: TextFault,
) -> None:
    clock = manual_time(monkeypatch)
    perf_kernel.offer("pkg")
    path = perf_kernel.pmu / PERF_FILES[file]
    usual = path.read_bytes()
    number = usual if usual.strip().isdigit() else b"2\n"
    spent_j = [0.0]

    def advance() -> None:
        clock.advance(0.05)
        spent_j[0] += 2.0
        perf_kernel.show(FakeEvent("pkg", energy_j=spent_j[0]))

    perf_kernel.show(FakeEvent("pkg"))
    outcome = open_spoilt(
        Trial("package-0", lambda: spent_j[0], 1e-6),
        PerfSource(perf_kernel.shared_library).open,
        advance,
        lambda: path.write_bytes(fault.distort(number)) and None,
        lambda: path.write_bytes(usual) and None,
    )
    assert outcome == "detected"
    ledger.add("perf", f"{file}: {fault.name}", "opening", outcome)


BATTERY_STATES: dict[str, Callable[[BoardTree, Path], object]] = {
    "charging": lambda tree, folder: (folder / "status").write_text("Charging\n"),
    "full": lambda tree, folder: (folder / "status").write_text("Full\n"),
    "an empty state": lambda tree, folder: (folder / "status").write_text(""),
    "a state of letters": lambda tree, folder: (folder / "status").write_text("???\n"),
    "a state of NULs": lambda tree, folder: (folder / "status").write_bytes(b"\0" * 12),
    "half a state": lambda tree, folder: (folder / "status").write_text("Disch"),
    "no state": lambda tree, folder: (folder / "status").unlink(),
    "a charger plugged in": lambda tree, folder: tree.charger(online=True),
    "a charger of letters": lambda tree, folder: _online(tree, b"maybe\n"),
    "a charger of nothing": lambda tree, folder: _online(tree, b""),
    "a charger of 1e0": lambda tree, folder: _online(tree, b"1e0\n"),
    "a charger of half a line": lambda tree, folder: _online(tree, b"0"),
    "a charger of NULs": lambda tree, folder: _online(tree, b"\0\0"),
    "a charger that fails": lambda tree, folder: _online(tree, None),
}


def _online(tree: BoardTree, text: bytes | None) -> None:
    path = tree.charger(online=False) / "online"
    if text is None:
        tree.fail(path)
    else:
        path.write_bytes(text)


@pytest.mark.parametrize("shows", ["energy", "power"])
@pytest.mark.parametrize("fault", BATTERY_STATES)
@pytest.mark.parametrize("where", ["opening", "reading"])
def test_a_battery_that_may_not_feed_the_machine(
    board_tree: BoardTree,
    monkeypatch: pytest.MonkeyPatch,
    ledger: Ledger,
    where: str,
    fault: str,
    shows: str,
) -> None:
    clock = manual_time(monkeypatch)
    folder = board_tree.battery("BAT0", 20.0, shows=shows)
    meters = []

    def open_() -> object:
        meters.append(BatterySource().open(clock=clock, background=False))
        return meters[-1]

    def advance() -> None:
        clock.advance(1.0)
        board_tree.advance(1.0)
        for meter in meters:
            getattr(meter, "sample", lambda: None)()

    def mend() -> None:
        (folder / "status").write_text("Discharging\n")
        if (board_tree.root / "class/power_supply/AC").exists():
            (board_tree.root / "class/power_supply/AC/online").unlink(missing_ok=True)
            board_tree.charger(online=False)

    run = open_spoilt if where == "opening" else follow
    outcome = run(
        Trial("BAT0", lambda: board_tree.loads["BAT0"].energy_j, 0.05),
        open_,  # type: ignore[arg-type]
        advance,
        lambda: BATTERY_STATES[fault](board_tree, folder) and None,
        mend,
    )
    assert outcome == "detected"
    assert fed_from_outside(board_tree.root / "class/power_supply", ()) is not None or True
    ledger.add(f"battery {shows}", f"state: {fault}", where, outcome)  # type: ignore[arg-type]


WATTS = ("nan", "inf", "-inf", "-3", "0", "many", "6 W", "1e400", "\0", "6,5", " ", "0x6")


@pytest.mark.parametrize("watts", WATTS, ids=repr)
@pytest.mark.parametrize("name", ["modelled", "fake"])
def test_watts_that_are_no_power(ledger: Ledger, name: str, watts: str) -> None:
    source = ModelledSource() if name == "modelled" else FakeSource()
    if (name, watts) == ("fake", "0"):
        assert source.open(watts).read().energy_j == {"cpu": 0.0}
        return
    with pytest.raises(InputError) as refused:
        source.open(watts)
    check_message(refused.value)
    ledger.add(name, f"watts: {watts!r}", "opening", "detected")


_lines = st.one_of(
    st.binary(max_size=40),
    st.binary(max_size=30).map(lambda text: text + b"\n"),
    st.integers(-(10**24), 10**24).map(lambda number: b"%d\n" % number),
)


@settings(max_examples=150)
@given(content=_lines)
def test_any_bytes_are_the_number_that_they_are_or_a_fault(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("bytes") / "energy1_input"
    path.write_bytes(content)
    try:
        number = read_number(path)
    except (CounterFaultError, MeterReadError) as error:
        check_message(error, ("energy1_input",))
    else:
        assert content.endswith(b"\n") and number == int(content.decode("ascii"))


@settings(max_examples=150)
@given(
    text=st.one_of(st.text(max_size=80), st.text("VDD_CORE_AV current(7)=volt1.0\n", max_size=90))
)
def test_any_answer_of_vcgencmd_is_powers_or_a_fault(text: str) -> None:
    try:
        powers = parse(text)
    except CwmpError as error:
        check_message(error)
    else:
        assert powers and all(0 <= watts <= 900 for watts in powers.values())
