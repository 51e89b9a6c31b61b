"""Any text in a counter and any tree of zones: the exact joules, or one of our errors."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st
from stand_ins.sysfs import RANGE_UJ, SysfsTree

from profiler.errors import CounterFaultError, CwmpError, InputError
from profiler.meters.powercap import scan
from profiler.meters.processor import GUARD_POWER_W, SLACK_S
from profiler.meters.rapl import RaplMeter

START_UJ = 1_000_000

texts = st.one_of(
    st.binary(max_size=40),
    st.integers(-(10**24), 10**24).map(lambda number: b"%d\n" % number),
    st.integers(START_UJ, START_UJ + 90_000_000).map(lambda number: b"%d\n" % number),
    st.tuples(st.sampled_from([b" ", b"\t", b"\0", b"+", b"0", b""]), st.binary(max_size=4)).map(
        lambda parts: parts[0] + b"1500000" + parts[1]
    ),
)


@contextmanager
def _tree() -> Iterator[SysfsTree]:
    with tempfile.TemporaryDirectory() as folder:
        tree = SysfsTree(Path(folder) / "sys")
        try:
            yield tree
        finally:
            tree.close()


@settings(max_examples=80)
@given(content=texts)
@example(b"1500000" + b" " * 25 + b"77")
@example(b"1500000\n7\n")
def test_a_counter_is_read_exactly_or_refused(content: bytes) -> None:
    digits = content.strip()
    meant = int(digits) if re.fullmatch(rb"[0-9]+", digits) else None
    with _tree() as tree:
        tree.add("intel-rapl:0", "package-0", start_uj=START_UJ)
        (zone,) = scan(tree.powercap)
        meter = RaplMeter((zone,))
        zone.energy_path.write_bytes(content)
        try:
            energy_j = meter.read().energy_j["package-0"]
        except CounterFaultError as error:
            assert str(zone.energy_path) in str(error)
            # What is refused is no number, or one that no power explains.
            most_uj = GUARD_POWER_W * SLACK_S * 1e6
            sound = meant is not None and 0 <= (meant - START_UJ) < most_uj
            whole = content[:32].endswith(b"\n")
            assert not (sound and whole) or len(digits) > 20 or len(content) >= 32
        else:
            assert meant is not None
            assert energy_j == ((meant - START_UJ) % RANGE_UJ) * 1e-6
        finally:
            meter.close()


@settings(max_examples=40)
@given(content=texts)
def test_a_range_is_believed_only_where_it_can_be_followed(content: bytes) -> None:
    with _tree() as tree:
        tree.add("intel-rapl:0", "package-0", start_uj=START_UJ)
        (zone,) = scan(tree.powercap)
        zone.range_path.write_bytes(content)
        try:
            meter = RaplMeter((zone,))
        except CounterFaultError as error:
            assert str(zone.path) in str(error)
        else:
            meant = int(content.strip())
            assert meter.info.max_read_gap_s is not None
            assert meter.info.max_read_gap_s == meant * 1e-6 / GUARD_POWER_W - SLACK_S > 0
            meter.close()


@st.composite
def hosts(draw: st.DrawFn) -> list[tuple[str, str, frozenset[str], str | None]]:
    """Zones as (folder, name, what it counts, the zone it mirrors) of a host drawn at random."""
    zones: list[tuple[str, str, frozenset[str], str | None]] = []
    wholes = []
    for socket in range(draw(st.integers(0, 3))):
        dies = draw(st.integers(1, 2))
        label = f"package-{socket}"
        names = [label] if dies == 1 else [f"{label}-die-{die}" for die in range(dies)]
        mirrored = dies > 1 and draw(st.booleans())
        of_socket: set[str] = set()
        for die, name in enumerate(names):
            place = f"{socket}.{0 if mirrored else die}"
            of_socket |= {f"core {place}", f"uncore {place}", f"rest {place}"}
            wholes.append((name, place, mirrored and die > 0))
        if dies > 1 and draw(st.booleans()):
            zones.append(("", label, frozenset(of_socket), None))
    everything = frozenset(
        f"{part} {place}" for _, place, _ in wholes for part in ("core", "uncore", "rest", "dram")
    )
    if draw(st.booleans()):
        zones.append(("", "psys", everything | {"board"}, None))
    for name, place, mirror in wholes:
        inside = frozenset(f"{part} {place}" for part in ("core", "uncore", "rest"))
        zones.append(("", name, inside, place if mirror else None))
    order = draw(st.permutations(zones))
    placed: list[tuple[str, str, frozenset[str], str | None]] = []
    for number, (_, name, content, mirror) in enumerate(order):
        placed.append((f"intel-rapl:{number}", name, content, mirror))
        place = next((each for whole, each, _ in wholes if whole == name), None)
        if place is None:
            continue
        below = draw(st.lists(st.sampled_from(["core", "uncore", "dram"]), unique=True))
        for sub, part in enumerate(below):
            inside = frozenset({f"{part} {place}"})
            placed.append(
                (f"intel-rapl:{number}:{sub}", part, inside, mirror and f"{mirror}{part}")
            )
        if draw(st.booleans()):
            placed.append((f"intel-rapl-mmio:{number}", name, content, mirror))
    return placed


@settings(max_examples=35)
@given(host=hosts(), seed=st.integers(0, 2**16))
def test_no_joule_is_counted_twice_whatever_the_host(
    host: list[tuple[str, str, frozenset[str], str | None]], seed: int
) -> None:
    with _tree() as tree:
        counts: dict[str, frozenset[str]] = {}
        shared: dict[tuple[frozenset[str], bool], int] = {}
        for number, (folder, name, content, _) in enumerate(host):
            # A mirrored die shows the digits of its sibling; every other counter its own.
            key = (content, "mmio" in folder)
            start_uj = shared.setdefault(key, (seed + 1 + number) * 7_000)
            tree.add(folder, name, 10.0 * len(content), start_uj=start_uj)
            counts[folder] = content
        zones = scan(tree.powercap)
        assert len({zone.rail.name for zone in zones}) == len(zones) == len(host)
        counted = [zone for zone in zones if zone.rail.counted]
        for one, other in combinations(counted, 2):
            assert not counts[one.path.name] & counts[other.path.name], (one.rail, other.rail)
        try:
            meter = RaplMeter(zones)
        except InputError:
            assert not counted
            return
        tree.advance(0.02)
        energy_j = meter.read().energy_j
        for zone in counted:
            shown_j = tree.counters[zone.path.name].shown[-1][2] * 1e-6
            assert energy_j[zone.rail.name] == shown_j
        meter.close()
        packages = {atom for _, name, content, _ in host if "package" in name for atom in content}
        reached = frozenset().union(*(counts[zone.path.name] for zone in counted))
        assert packages <= reached, "a package is in no counted rail"


@settings(max_examples=30)
@given(
    names=st.lists(
        st.tuples(
            st.one_of(
                st.from_regex(r"\Aintel-rapl(-mmio)?(:[0-9]{1,3}){0,3}\Z"),
                st.text("intel-rapl:0129٣.", min_size=1, max_size=16),
            ),
            st.binary(max_size=20),
            texts,
        ),
        unique_by=lambda entry: entry[0],
        max_size=6,
    )
)
def test_any_folder_with_any_content_is_understood_or_refused(
    names: list[tuple[str, bytes, bytes]],
) -> None:
    with tempfile.TemporaryDirectory() as root:
        powercap = Path(root) / "class" / "powercap"
        for folder, name, content in names:
            if folder in (".", ".."):
                continue
            (powercap / folder).mkdir(parents=True)
            (powercap / folder / "name").write_bytes(name)
            (powercap / folder / "energy_uj").write_bytes(content)
            (powercap / folder / "max_energy_range_uj").write_bytes(b"262143328850\n")
        zones = scan(powercap)
        assert len({zone.rail.name for zone in zones}) == len(zones)
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        try:
            meter = RaplMeter(zones)
        except CwmpError:
            pass
        else:
            energy_j = meter.read().energy_j
            assert set(energy_j.values()) == {0.0}
            meter.close()
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
