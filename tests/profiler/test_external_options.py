"""What follows ``external:``: a place and options, or one error that says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import CwmpError, InputError
from profiler.meters.external.options import ExternalOptions, parse_argument


def test_a_place_alone_has_the_defaults() -> None:
    options = parse_argument("plug.csv")
    assert options == ExternalOptions("plug.csv")
    assert options.offset == "auto" and options.accuracy is None and not options.is_url


def test_every_option_is_read_in_si_units() -> None:
    options = parse_argument(
        "http://127.0.0.1:80/status?id=0#time=ts,power=a.b,unit=mW,time_unit=ms,period=200ms,"
        "offset=-2.5,lag=50ms,accuracy=2%,max=1.5kW,negative=yes,name=bench supply,wait=5"
    )
    assert options.place == "http://127.0.0.1:80/status?id=0" and options.is_url
    assert (options.time, options.power, options.unit) == ("ts", "a.b", "mw")
    assert options.time_unit == "ms" and options.period_s == pytest.approx(0.2)
    assert options.offset == -2.5 and options.lag_s == pytest.approx(0.05)
    assert options.accuracy == pytest.approx(0.02) and options.max_w == pytest.approx(1500)
    assert options.negative and options.name == "bench supply" and options.wait_s == 5


def test_a_file_whose_name_has_the_mark_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "run#1"
    path.write_text("")
    assert parse_argument(str(path)).place == str(path)
    assert parse_argument(f"{path}#unit=mW").place == str(path)


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("", "needs a stream"),
        ("#unit=W", "needs a stream"),
        ("-", "mkfifo"),
        ("/dev/stdin", "mkfifo"),
        ("ftp://host/x", "http or https"),
        ("file:///etc/passwd", "http or https"),
        ("http://", "http or https"),
        ("http://host:99999/", "not a URL"),
        ("http://[::1/", "not a URL"),
        ("http://user:secret@host/", "password"),
        ("http://host/a b", "escape"),
        ("http://host/\r\nX: y", "escape"),
        ("f#speed=2", "no option"),
        ("f#unit", "no option"),
        ("f#unit=W,unit=mW", "twice"),
        ("f#unit=furlong", "furlong"),
        ("f#period=0", "above 0"),
        ("f#period=-1s", "above 0"),
        ("f#period=1h", "not a time"),
        ("f#period=1e999", "not a number"),
        ("f#offset=soon", "not a number"),
        ("f#lag=-1", "below 0"),
        ("f#accuracy=0", "share"),
        ("f#accuracy=200%", "share"),
        ("f#max=-5W", "power"),
        ("f#negative=maybe", "yes or no"),
        ("f#power=", "empty"),
        ("f#power=a,energy=b", "not both"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(argument: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        parse_argument(argument)
    assert "secret" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_options_or_one_of_our_errors(text: str) -> None:
    try:
        options = parse_argument("x#" + text.replace("\0", ""))
    except CwmpError as error:
        assert str(error)
    else:
        assert options.place
