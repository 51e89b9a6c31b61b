"""Where a running session stands, and a bar that shows it on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress

Stage = Literal["sizing", "pilot", "main"]
_REFRESH_S = 0.2


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the session stands after a block, and before the first.

    Attributes:
        stage: ``sizing``, ``pilot`` or ``main``.
        done, planned: blocks of this stage; those of an earlier run's main stage not counted.
        left_s: seconds left, from the blocks' lengths; for the main stage it is counted in
            only once the pilot has set the block counts. Before the first block this is the
            least that sizing and pilot take.
        operation, layer: what the block measured.
        relative_half_width: half-width of the 95 % interval of that layer's slope (or mean),
            relative to it; ``None`` before the pilot's second block, or when the estimate is 0.
    """

    stage: Stage
    done: int
    planned: int
    left_s: float
    operation: str
    layer: str
    relative_half_width: float | None = None


Report = Callable[[Standing], None]


class ProgressBar:
    """A live bar on *stream*; silent unless it is a terminal.

    The bar is drawn between blocks by the session itself: a thread that redraws would spend
    energy inside the windows.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._bar: Progress | None = None
        self._tasks: dict[str, int] = {}
        self._drawn_s = 0.0

    def __enter__(self) -> ProgressBar:
        if not self._stream.isatty():
            return self
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._bar = Progress(
            TextColumn("{task.description:<6}"),
            BarColumn(bar_width=16),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[text]}"),
            console=Console(file=self._stream),
            auto_refresh=False,
        )
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.refresh()
            self._bar.stop()
            self._bar = None

    def __call__(self, standing: Standing) -> None:
        if self._bar is None:
            return
        from rich.progress import TaskID

        if standing.stage == "sizing" and standing.done == 0:
            self._bar.console.print(
                f"sizing and pilot take at least {_minutes(standing.left_s)}", highlight=False
            )
        if standing.stage not in self._tasks:
            self._tasks[standing.stage] = int(self._bar.add_task(standing.stage, text=""))
        self._bar.update(
            TaskID(self._tasks[standing.stage]),
            completed=standing.done,
            total=standing.planned,
            text=describe_standing(standing),
        )
        now_s = time.monotonic()
        if now_s - self._drawn_s >= _REFRESH_S or standing.done == standing.planned:
            self._drawn_s = now_s
            self._bar.refresh()


def describe_standing(standing: Standing) -> str:
    """Time left, interval and layer in one short line."""
    width = standing.relative_half_width
    interval = "" if width is None else f" ±{min(width, 9.99):.0%}"
    return f"{_minutes(standing.left_s)} left {standing.operation} {standing.layer}{interval}"


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
