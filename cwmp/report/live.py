"""Progress of runs in a terminal: round, accuracy, joules, time left.

Where stderr is no terminal there is one line a run instead, when it ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from cwmp.conclusion import display_name
from profiler.listing import quantity

if TYPE_CHECKING:
    from cwmp.studies.runs import RoundRow
    from cwmp.studies.sweep import Seen


class LiveRuns:
    """A bar over all rounds of some runs; a context manager, and called with each round.

    Args:
        rounds: of all runs together that are still to be done; ``None`` until `seen` knows.
        console: to write to; stderr if it is not given.
    """

    def __init__(self, rounds: int | None = None, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._rounds = rounds
        self._last: dict[str, RoundRow] = {}
        self._bar: Progress | None = None
        if self.console.is_terminal:
            columns = (TextColumn("{task.description}", markup=False), BarColumn(),
                       MofNCompleteColumn(), TimeRemainingColumn())  # fmt: skip
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._task = self._bar.add_task("starting", total=rounds)

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

    def round(self, name: str, row: RoundRow, rounds: int) -> None:
        """A round of the run *name*, which has so many *rounds*, has ended."""
        self._last[name] = row
        if self._bar is not None:
            shown = f"{name}, round {row.round}/{rounds}, {describe_row(row)}"
            self._bar.update(self._task, description=shown, advance=1)

    def ended(self, name: str, done: int, runs: int) -> None:
        """The run *name* has ended; it is the *done*-th of all *runs*."""
        row = self._last.pop(name, None)
        if self._bar is None:
            found = "no round" if row is None else f"{row.round} rounds, {describe_row(row)}"
            text = Text(f"run {done}/{runs} {name}: {found}")
            self.console.print(text, highlight=False, soft_wrap=True)

    def seen(self, seen: Seen) -> None:
        """The same from a sweep: pass this as its progress."""
        name, rounds = name_of(seen.planned.labels), seen.planned.job.rounds
        if self._bar is not None and self._rounds is None:
            self._rounds = (seen.runs - seen.done) * rounds
            self._bar.update(self._task, total=self._rounds)
        if seen.row is None:
            self.ended(name, seen.done, seen.runs)
        else:
            self.round(name, seen.row, rounds)


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
