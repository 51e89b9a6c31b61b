"""Progress of runs in a terminal: round, accuracy, joules, runs done, time left.

Where stderr is no terminal there is one line a run instead, when it ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column
from rich.text import Text

from cwmp.conclusion import display_name
from profiler.listing import quantity

if TYPE_CHECKING:
    from cwmp.studies.runs import RoundRow
    from cwmp.studies.sweep import Seen


class Pace:
    """Time left of a sweep, from the rounds that ended since it was started.

    What was done before an interruption counts neither as done now nor as left; nor do rounds
    that a run without a result never did. Several workers need no care: it is their rounds
    together that are timed.

    Args:
        clock: seconds, for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._started_s = clock, clock()
        self._ended = 0
        self._at: dict[str, int] = {}

    def seen(self, seen: Seen) -> None:
        """Take note of what a sweep tells."""
        key = seen.planned.job.key
        if seen.row is None:
            self._at.pop(key, None)
        else:
            self._ended += 1
            self._at[key] = seen.row.round

    def left_s(self, seen: Seen) -> float | None:
        """Seconds left as of *seen*; ``None`` before the first round."""
        if not self._ended:
            return None
        rounds = (seen.runs - seen.done) * seen.planned.job.rounds - sum(self._at.values())
        return max(0.0, (self._clock() - self._started_s) / self._ended * rounds)

    def share(self, seen: Seen) -> float:
        """Rounds that are behind the sweep, of all its rounds, those of earlier calls too."""
        rounds = seen.planned.job.rounds
        return (seen.done * rounds + sum(self._at.values())) / max(seen.runs * rounds, 1)


class LiveRuns:
    """A bar over all runs of a sweep; a context manager, and its `seen` is called by the sweep.

    Args:
        console: to write to; stderr if it is not given.
        clock: seconds, for tests.
    """

    def __init__(
        self, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.console = console or Console(stderr=True)
        self._pace = Pace(clock)
        self._last: dict[str, RoundRow] = {}
        self._bar: Progress | None = None
        if self.console.is_terminal:
            columns = (TextColumn("{task.fields[runs]}", markup=False), BarColumn(14),
                       TextColumn("{task.fields[left]}", markup=False),
                       # the one that is cut where the terminal is narrow
                       TextColumn("{task.description}", markup=False,
                                  table_column=Column(ratio=1, no_wrap=True)))  # fmt: skip
            self._bar = Progress(*columns, console=self.console, transient=True, expand=True)
            self._task = self._bar.add_task("starting", total=1.0, runs="", left="")

    def __enter__(self) -> LiveRuns:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def seen(self, seen: Seen) -> None:
        """A round, or a run, has ended: pass this to a sweep as its progress."""
        name = name_of(seen.planned.labels)
        self._pace.seen(seen)
        left_s = self._pace.left_s(seen)
        left = "" if left_s is None else f"about {duration(left_s)} left"
        if seen.row is not None:
            self._last[name] = seen.row
        if self._bar is None:
            if seen.row is None:
                self._ended(name, seen, left)
            return
        self._bar.update(
            self._task,
            completed=self._pace.share(seen),
            runs=f"{seen.done}/{seen.runs} runs",
            left=left,
        )
        if seen.row is not None:
            at = f"round {seen.row.round}/{seen.planned.job.rounds}"
            self._bar.update(self._task, description=f"{at}, {describe_row(seen.row)}: {name}")

    def _ended(self, name: str, seen: Seen, left: str) -> None:
        row = self._last.pop(name, None)
        found = "no round" if row is None else f"{row.round} rounds, {describe_row(row)}"
        more = f"; {left}" if left and seen.done < seen.runs else ""
        text = Text(f"run {seen.done}/{seen.runs} {name}: {found}{more}")
        self.console.print(text, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """``45 s``, ``12 min`` or ``1.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def describe_row(row: RoundRow) -> str:
    """``accuracy 81.3 %, 2.35 J``; joules up to and with the round, where they are priced."""
    text = f"accuracy {100 * row.accuracy:.1f} %"
    if row.cumulative is None:
        return f"{text}, joules not priced"
    return f"{text}, {quantity(row.cumulative.value_j, 'J')}"


def name_of(labels: Mapping[str, object]) -> str:
    """``CWMP 5%, phone, alpha 0.1, seed 3``."""
    control = f" ({labels['control']})" if labels.get("control") else ""
    parts = [f"{display_name(str(labels.get('method', '')))} {labels.get('budget', '')}{control}"]
    if labels.get("device"):
        parts.append(str(labels["device"]))
    parts += [f"{key} {labels[key]}" for key in ("alpha", "seed") if key in labels]
    return ", ".join(parts)
