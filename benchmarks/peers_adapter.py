"""One tool in a process of its own: JSON lines in, JSON lines out.

    python peers_adapter.py TOOL

{"do": "open", "sysfs": ..., "control": ..., "gpu": ...}  -> what the tool covers
{"do": "window", "length_s": ..., "wrap_after_j": ..., "blank": ..., "watch": ...}
    -> when the window began and ended, when work was on, and what the tool found

A window's work is the stand-in's: from the moment the tool has begun, for *length_s*, the power is
that of work; this process sleeps, and spins at the end. The first window is thrown away: some
tools look for their hardware or start their helpers within it. What the tool or its libraries
print goes to stderr.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from peers_layout import BLANK_AT, MOST_WINDOWS, SKIPS_AT, WINDOWS_AT, WINDOWS_FROM
from peers_tools import Tool, open_tool, version_of

_BLANK_BEFORE_S, _BLANK_AFTER_S = 5e-3, 40e-3
_UNTIL_SHOWN_S = 15e-3
_SPUN_S = 2e-3
_WARM_UP_S = 0.3


class Control:
    """The file by which the counters are steered; see ``ticker.c``."""

    def __init__(self, path: str) -> None:
        with Path(path).open("r+b") as file:
            self._view = mmap.mmap(file.fileno(), 0)

    def work(self, begin_s: float, end_s: float) -> None:
        """Let work's power be drawn between these times."""
        (number,) = struct.unpack_from("<q", self._view, WINDOWS_AT)
        place = WINDOWS_FROM + 16 * (number % MOST_WINDOWS)
        struct.pack_into("<dd", self._view, place, begin_s, end_s)
        struct.pack_into("<q", self._view, WINDOWS_AT, number + 1)

    def blank(self, begin_s: float, end_s: float) -> None:
        """Let the counters' files be empty between these times."""
        struct.pack_into("<dd", self._view, BLANK_AT, begin_s, end_s)

    def wrap_after(self, joules: float) -> None:
        """Move the first counter to *joules* before its range, as if hours had passed."""
        (number,) = struct.unpack_from("<q", self._view, SKIPS_AT)
        struct.pack_into("<d", self._view, SKIPS_AT + 8, joules)
        struct.pack_into("<q", self._view, SKIPS_AT, number + 1)
        time.sleep(_UNTIL_SHOWN_S)


def measure(tool: Tool, control: Control, order: dict[str, Any]) -> dict[str, Any]:
    """One window."""
    clock, watch = time.perf_counter, order.get("watch")
    if order.get("wrap_after_j"):
        control.wrap_after(order["wrap_after_j"])
    if hasattr(tool, "prepare"):
        tool.prepare()
    tool.begin()
    begin_s = clock()
    work_s = (begin_s, begin_s + order["length_s"])
    if order.get("blank"):
        control.blank(work_s[1] - _BLANK_BEFORE_S, work_s[1] + _BLANK_AFTER_S)
    control.work(*work_s)
    first = _value(watch)
    time.sleep(max(work_s[1] - _SPUN_S - clock(), 0.0))
    last = _value(watch)
    while clock() < work_s[1]:
        pass  # awake at the end, as a processor that works is
    end_s = clock()
    answer: dict[str, Any] = {"stretch_s": (begin_s, end_s), "work_s": work_s}
    answer["wrapped"] = None if first is None or last is None else last < first
    try:
        answer |= tool.end()
    except Exception as error:
        answer["error"] = _said(error)
    if order.get("blank"):
        time.sleep(_BLANK_AFTER_S + _UNTIL_SHOWN_S)
    return answer


def main() -> None:
    """Answer orders until there are no more."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    tool: Tool | None = None
    control: Control | None = None
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if order["do"] == "open":
                control = Control(order["control"])
                tool = open_tool(sys.argv[1], order["sysfs"], order["gpu"])
                tool.begin()
                time.sleep(_WARM_UP_S)
                tool.end()
                answer = {
                    "version": version_of(sys.argv[1]),
                    "domains": tool.domains,
                }
            elif tool is None or control is None:
                answer = {"error": "nothing is open"}
            else:
                answer = measure(tool, control, order)
        except Exception as error:
            traceback.print_exc()
            answer = {"error": _said(error)}
        replies.write(json.dumps(answer) + "\n")


def _value(path: str | None) -> int | None:
    return int(Path(path).read_text()) if path else None


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
