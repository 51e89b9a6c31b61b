"""Lines become samples in SI units as their header says, or are refused; never guessed at."""

from __future__ import annotations

import json
from math import isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import CounterFaultError, FileFormatError
from profiler.meters.external.format import LONGEST_LINE_BYTES, LineParser, Sample
from profiler.meters.external.options import parse_argument


def _parse(*lines: str | bytes, options: str = "") -> list[Sample]:
    parser = LineParser(parse_argument(f"meter.csv#{options}"))
    raw = (line if isinstance(line, bytes) else line.encode() for line in lines)
    return [sample for sample in map(parser.parse, raw) if sample is not None]


@pytest.mark.parametrize(
    ("header", "row", "options", "stamp_s", "value"),
    [
        ("time,watts", "1.5,20", "", 1.5, 20.0),
        ("time_s,power_w", "1.5,20", "", 1.5, 20.0),
        ("time_ms,power_mw", "1500,20000", "", 1.5, 20.0),
        ("Timestamp (us);Power (kW)", "1500000;0.02", "", 1.5, 20.0),
        ("t_ns\tp", "1500000000\t20", "", 1.5, 20.0),
        ("volts,time,power[uW]", "5,1.5,2e7", "", 1.5, 20.0),
        ("time,watts", "1970-01-01T00:00:01.5+00:00,20", "", 1.5, 20.0),
        ("time,watts", "1970-01-01T01:00:01.5+01:00,20", "", 1.5, 20.0),
        ("time,watts", "1970-01-01 00:00:01.5,20", "", 1.5, 20.0),
        ("time,watts", '"1970-01-01T00:00:01.500Z","20"', "", 1.5, 20.0),
        ("mW", "20000", "", None, 20.0),
        ("time,energy_j", "1.5,20", "", 1.5, 20.0),
        ("time,energy_mWh", "1.5,10", "", 1.5, 36.0),
        ("time,kWh", "1.5,0.001", "", 1.5, 3600.0),
        ("time,energy_wh,power_w", "1.5,9,20", "", 1.5, 20.0),
        ("time,energy_wh,power_w", "1.5,9,20", "energy=energy_wh", 1.5, 32400.0),
        ("ts,P", "1500,20000", "time=ts,power=P,unit=mW,time_unit=ms", 1.5, 20.0),
        ("when,load_mw", "1.5,20000", "time=when,power=load_mw", 1.5, 20.0),
    ],
)
def test_units_come_from_the_header(
    header: str, row: str, options: str, stamp_s: float | None, value: float
) -> None:
    (sample,) = _parse(header, row, options=options)
    assert sample.stamp_s == (None if stamp_s is None else pytest.approx(stamp_s))
    assert sample.value == pytest.approx(value)


@pytest.mark.parametrize(
    ("line", "options", "sample"),
    [
        ('{"time": 2, "watts": 3.5}', "", Sample(2.0, 3.5)),
        ('{"time_ms": 2000, "power_mw": "3500"}', "", Sample(2.0, 3.5)),
        ('{"watts": 3.5}', "", Sample(None, 3.5)),
        ('{"E": {"Power": 3.5}, "at": 2}', "power=E.Power,time=at", Sample(2.0, 3.5)),
        ('{"joules": 7, "time": 2}', "", Sample(2.0, 7.0)),
    ],
)
def test_json_objects_are_read(line: str, options: str, sample: Sample) -> None:
    assert _parse(line, options=options) == [sample]


def test_blank_lines_comments_and_a_repeated_header_are_skipped() -> None:
    lines = ["\ufeff# a logger", "", "time,watts", "1,2", "  ", "# note", "time,watts", "2,3\r"]
    assert _parse(*lines) == [Sample(1.0, 2.0), Sample(2.0, 3.0)]


def test_a_server_may_answer_with_bare_numbers_but_a_file_may_not() -> None:
    parser = LineParser(parse_argument("http://127.0.0.1/"))
    assert parser.parse(b"1.5,20") == Sample(1.5, 20.0)
    assert LineParser(parse_argument("http://127.0.0.1/")).parse(b"20") == Sample(None, 20.0)
    with pytest.raises(FileFormatError, match="must name the columns"):
        _parse("1.5,20")


@pytest.mark.parametrize(
    ("header", "options", "says"),
    [
        ("time,volts", "", "no power among"),
        ("time,watts", "power=P", "no column 'P'"),
        ("when,watts", "time=time", "no column 'time'"),
        ("time,watts", "unit=kWh", "cannot be in kwh"),
        ("watts,watts", "", "named twice"),
        ('{"volts": 1}', "", "no power among"),
    ],
)
def test_a_first_line_that_says_too_little_is_refused(header: str, options: str, says: str) -> None:
    with pytest.raises(FileFormatError, match=says):
        _parse(header, options=options)


@pytest.mark.parametrize(
    "row",
    [
        "1",
        "1,2,3",
        "1,x",
        "1,nan",
        "1,inf",
        "1,1e999",
        "1,1e305",
        "1,1_000",
        "1,٣",
        "1,",
        "soon,2",
        '1,"2',
        b"\xff\xfe,2",
        b"1,2\x00",
        "1," + "9" * LONGEST_LINE_BYTES,
        "9999-99-99T00:00:00,2",
        '{"time": 1, "watts": 2}',
    ],
)
def test_a_row_that_is_not_what_the_header_promised_is_a_fault(row: str | bytes) -> None:
    with pytest.raises(CounterFaultError):
        _parse("time,watts", row)


@pytest.mark.parametrize(
    "line",
    [
        '{"time": 1}',
        '{"time": 1, "watts": true}',
        '{"time": 1, "watts": null}',
        '{"time": 1, "watts": NaN}',
        '{"time": [1], "watts": 2}',
        '{"time": 1, "watts": 1' + "0" * 400 + "}",
        '{"time": 1, "watts": ' + "[" * 5000,
        '{"time": 1, "watts": 2',
        "1,2",
    ],
)
def test_a_json_line_that_lacks_what_the_first_had_is_a_fault(line: str) -> None:
    with pytest.raises(CounterFaultError):
        _parse('{"time": 0, "watts": 1}', line)


_HEADERS = st.sampled_from([b"time,watts", b'{"time": 0, "watts": 1}', b"time_ms;energy_kwh"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
_HOSTILE = st.one_of(
    st.binary(max_size=60),
    st.text(alphabet='0123456789.,;"eE+-naifT:Z{}[]\t ', max_size=30).map(str.encode),
    st.fixed_dictionaries({"time": _JSON, "watts": _JSON}).map(
        lambda value: json.dumps(value).encode()
    ),
)


@given(_HEADERS, st.lists(_HOSTILE, max_size=5))
def test_hostile_lines_are_finite_samples_or_our_errors(first: bytes, lines: list[bytes]) -> None:
    parser = LineParser(parse_argument("meter.csv"))
    parser.parse(first)
    for line in lines:
        try:
            sample = parser.parse(line)
        except CounterFaultError as error:
            assert "\n" not in str(error) and len(str(error)) < 500
            continue
        if sample is not None:
            assert isfinite(sample.value) and isfinite(sample.stamp_s or 0.0)


@given(st.lists(_HOSTILE, max_size=4))
def test_hostile_first_lines_are_refused_or_read(lines: list[bytes]) -> None:
    parser = LineParser(parse_argument("meter.csv"))
    for line in lines:
        try:
            sample = parser.parse(line)
        except (CounterFaultError, FileFormatError) as error:
            assert str(error)
        else:
            assert sample is None or isfinite(sample.value)
