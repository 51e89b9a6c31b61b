"""The bar: what it says on a terminal, and its silence elsewhere."""

from __future__ import annotations

import io

import pytest

from profiler.progress import ProgressBar, Standing, describe_standing


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


STANDING = Standing("main", 40, 40, 65.2, "update", "conv1.weight", 0.043)


def test_a_terminal_sees_time_left_interval_and_layer():
    stream = Terminal()
    with ProgressBar(stream) as bar:
        bar(STANDING)
    assert "1:05 left update conv1.weight ±4%" in stream.getvalue()
    assert "40/40" in stream.getvalue()


def test_the_least_time_comes_first():
    stream = Terminal()
    with ProgressBar(stream) as bar:
        bar(Standing("sizing", 0, 97, 912.0, "update", "conv1.weight"))
    assert "sizing and pilot take at least 15:12" in stream.getvalue()


def test_anything_else_sees_nothing():
    stream = io.StringIO()
    with ProgressBar(stream) as bar:
        bar(STANDING)
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("width", "text"),
    [(None, "0:00 left train fc"), (1e9, "0:00 left train fc ±999%")],
)
def test_an_interval_is_shown_only_when_there_is_one(width, text):
    assert describe_standing(Standing("pilot", 1, 2, 0.0, "train", "fc", width)) == text
