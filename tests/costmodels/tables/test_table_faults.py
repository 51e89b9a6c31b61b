"""Faults put into a table at random places: each is counted, and no kept row has a wrong joule."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from costmodels.samples import Samples
from costmodels.tables import TableSpec, read_samples
from profiler.errors import CwmpError

ROWS, WRAP_UJ, WINDOWS = 120, 4.0e11, 100
HEADER = "row,status,channels,filters,size,kernel,energy,time"
FIELD = {name: number for number, name in enumerate(HEADER.split(","))}
SPEC: dict[str, Any] = {
    "version": 1,
    "kind": "conv2d",
    "energy": {
        "column": "energy", "unit": "uJ", "time": "time", "time_unit": "ms",
        "wrap_size": WRAP_UJ, "wrap_windows": WINDOWS,
    },
    "shape": {
        "in_channels": "channels", "out_channels": "filters", "size": "size", "kernel": "kernel",
    },
    "groupings": {"row": "row"},
    "rows": {"failed": ["status == error"]},
}  # fmt: skip

# A fault -> the words of its finding.
WORDS = {
    "wrapped": "adding one wrap",
    "twice": "repeat an earlier one",
    "zero": "energies of zero",
    "deep": "one wrap does not explain",
    "failed": "failed rows",
    "empty": "rows without 'energy'",
    "word": "'energy' is not a finite number",
    "nan": "rows without 'energy'",
    "long": "more fields",
    "short": "fewer fields",
    "wild": "draw more than",
    "instant": "'time' is zero or below",
    "shapeless": "shape is missing or impossible",
}


def clean(seed: int) -> tuple[list[list[str]], dict[str, float]]:
    """Rows of text whose cells differ from row to row, and the joules of each by its name."""
    random = np.random.default_rng(seed)
    lines, joules = [], {}
    for row in range(ROWS):
        channels, filters = (int(value) for value in random.integers(1, 64, 2))
        size, kernel = int(random.integers(8, 40)), int(random.integers(1, 6))
        macs = channels * filters * (size - kernel + 1) ** 2 * kernel**2
        energy_uj = (500 + macs * 1e-4) * float(np.exp(random.normal(0, 0.2)))
        joules[str(row)] = energy_uj * 1e-6
        lines.append(
            [str(row), "ok", str(channels), str(filters), str(size), str(kernel),
             repr(energy_uj), repr(energy_uj * 1e-6 / 40 * 1e3)]
        )  # fmt: skip
    return lines, joules


def spoiled(line: list[str], fault: str) -> list[list[str]]:
    """What stands in the file in the place of *line*."""
    energy = float(line[FIELD["energy"]])
    cells = {
        "wrapped": {"energy": repr(energy - WRAP_UJ / WINDOWS)},
        "zero": {"energy": "0.0"},
        "deep": {"energy": repr(energy - 3 * WRAP_UJ / WINDOWS)},
        "failed": {"status": "error", "energy": "123456"},
        "empty": {"energy": " "},
        "word": {"energy": "n/a"},
        "nan": {"energy": "NaN"},
        "wild": {"time": repr(energy * 1e-6 / 2e6 * 1e3)},
        "instant": {"time": "0"},
        "shapeless": {"kernel": "77"},
    }.get(fault, {})
    changed = list(line)
    for name, text in cells.items():
        changed[FIELD[name]] = text
    return {"twice": [line, line], "long": [[*line, "7"]], "short": [line[:-1]]}.get(
        fault, [changed]
    )


def read(folder: Path, lines: list[list[str]], spec: dict[str, Any]) -> Samples:
    path = folder / "table.csv"
    path.write_text("\n".join([HEADER, *(",".join(line) for line in lines)]) + "\n")
    return read_samples(path, TableSpec.from_dict(spec))


def counted(samples: Samples) -> Counter[str]:
    """How many rows the findings have of each fault; one that fits no fault is an error."""
    found: Counter[str] = Counter()
    for finding in samples.findings:
        names = [words for words in set(WORDS.values()) if words in finding.what]
        if "all of which" in finding.what:  # a constant feature is no fault
            continue
        assert len(names) == 1, finding
        found[names[0]] += finding.rows
    return found


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 2**16),
    st.dictionaries(st.integers(0, ROWS - 2), st.sampled_from(sorted(WORDS)), max_size=45),
)
def test_each_fault_is_counted_and_no_joule_is_wrong(
    tmp_path: Path, seed: int, faults: dict[int, str]
) -> None:
    rows, joules = clean(seed)
    lines = [
        text
        for number, row in enumerate(rows)
        for text in (spoiled(row, faults[number]) if number in faults else [row])
    ]
    samples = read(tmp_path, lines, SPEC)
    assert counted(samples) == Counter(WORDS[fault] for fault in faults.values())

    kept = dict(zip(samples.groupings["row"].tolist(), samples.energy_j.tolist(), strict=True))
    gone = {str(row) for row, fault in faults.items() if fault not in ("wrapped", "twice")}
    assert set(kept) == set(joules) - gone
    # A repaired sum of 4e9 uJ and its negative keeps about 1e-16 x 4e3 J of either.
    assert all(abs(kept[row] - joules[row]) <= 1e-9 * joules[row] + 2e-12 for row in kept)
    dropped = sum(finding.rows for finding in samples.findings if finding.action == "dropped")
    assert len(samples) + dropped == len(lines)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**16), st.sets(st.integers(0, ROWS - 1), min_size=1, max_size=20))
def test_without_the_size_a_wrap_is_dropped_never_clipped(
    tmp_path: Path, seed: int, wrapped: set[int]
) -> None:
    rows, joules = clean(seed)
    lines = [
        spoiled(row, "wrapped")[0] if number in wrapped else row for number, row in enumerate(rows)
    ]
    energy = {key: value for key, value in SPEC["energy"].items() if "wrap" not in key}
    samples = read(tmp_path, lines, SPEC | {"energy": energy})
    negative = [f for f in samples.findings if "negative energies" in f.what]
    assert [(f.rows, f.action) for f in negative] == [(len(wrapped), "dropped")]
    assert "wrap_size" in negative[0].what
    assert negative[0].examples == tuple(sorted(row + 2 for row in wrapped)[:3])
    assert set(samples.group) == set(joules) - {str(row) for row in wrapped}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 2**16),
    st.dictionaries(
        st.integers(1, ROWS - 2),
        st.sampled_from(["failed", "empty", "word", "long", "short", "twice", "zero", "shapeless"]),
        max_size=30,
    ),
)
def test_no_difference_of_a_running_total_spans_a_fault(
    tmp_path: Path, seed: int, faults: dict[int, str]
) -> None:
    rows, joules = clean(seed)
    total, lines = 1e9, []
    for number, row in enumerate(rows):
        total += float(row[FIELD["energy"]])
        line = [*row]
        line[FIELD["energy"]] = repr(total)
        lines += spoiled(line, faults[number]) if number in faults else [line]
    energy = {"column": "energy", "unit": "uJ", "cumulative": True}
    samples = read(tmp_path, lines, SPEC | {"energy": energy})
    kept = dict(zip(samples.group.tolist(), samples.energy_j.tolist(), strict=True))
    wrong = [row for row in kept if abs(kept[row] / joules[row] - 1) > 1e-6]
    assert not wrong
    # A row without a fault at it or just before it is never lost.
    sound = {str(row) for row in range(1, ROWS) if row not in faults and row - 1 not in faults} - {
        "0"
    }
    assert sound <= set(kept)
    dropped = sum(finding.rows for finding in samples.findings if finding.action == "dropped")
    assert len(samples) + dropped == len(lines)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=60)
    | st.text('",;\t\n\r |#-1.e0aN\0(é', max_size=80).map(lambda text: text.encode())
    | st.lists(st.sampled_from(["a,b", "1,2", "0,-3", "1e400,5", '"', ",", "nan,1", "4", ""])).map(
        lambda lines: "\n".join(["a,b", *lines]).encode()
    )
)
def test_any_bytes_are_samples_or_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bytes.csv"
    path.write_bytes(content)
    spec = TableSpec.from_dict(
        {
            "version": 1,
            "energy": {"column": "a", "unit": "J"},
            "features": {"b": {"unit": "J/byte"}},
            "file": {"comment": "#"},
        }
    )
    try:
        samples = read_samples(path, spec)
    except CwmpError as error:
        assert str(error)
    else:
        assert (samples.energy_j > 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_wrap_of_a_running_total_is_repaired(tmp_path: Path, seed: int) -> None:
    rows, joules = clean(seed)
    wrap_uj = sum(joules.values()) * 1e6 / 3
    total = 0.0
    for row in rows:
        total = (total + float(row[FIELD["energy"]])) % wrap_uj
        row[FIELD["energy"]] = repr(total)
    energy = {"column": "energy", "unit": "uJ", "cumulative": True, "wrap_size": wrap_uj}
    samples = read(tmp_path, rows, SPEC | {"energy": energy})
    assert len(samples) == ROWS - 1
    wanted = [joules[row] for row in samples.group.tolist()]
    np.testing.assert_allclose(samples.energy_j, wanted, rtol=1e-6)
    assert sum(f.rows for f in samples.findings if f.action == "repaired") in (2, 3)
