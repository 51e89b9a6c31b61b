"""Threads do not survive a fork: a meter that has one counts in the process that opened it."""

from __future__ import annotations

import os

from profiler.errors import MeterReadError


class Opener:
    """Remembers the process that opened a meter.

    Args:
        name: of the meter.
    """

    def __init__(self, name: str) -> None:
        self._name, self._pid = name, os.getpid()

    @property
    def elsewhere(self) -> bool:
        """Whether this is another process."""
        return os.getpid() != self._pid

    def check(self) -> None:
        """Refuse to show a sum that nobody adds to here.

        Raises:
            MeterReadError: this is another process.
        """
        if self.elsewhere:
            raise MeterReadError(
                f"the {self._name} meter was opened in another process: open a meter after the fork"
            )
