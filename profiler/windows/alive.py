"""Keeps a meter whose counters wrap from wrapping twice unseen."""

from __future__ import annotations

import threading

from profiler.meters.base import EnergyMeter


class KeptAlive:
    """Reads a wrapping meter four times in the time in which a second wrap could hide.

    Another meter is left alone. Reads that fail are kept, and reading goes on.

    Attributes:
        error: the first failure.
        failures: how many reads failed.
    """

    def __init__(self, meter: EnergyMeter) -> None:
        self.error: Exception | None = None
        self.failures = 0
        self._meter = meter
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cwmp-keep-alive", daemon=True)

    def __enter__(self) -> KeptAlive:
        if self._meter.info.max_read_gap_s is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        gap_s = self._meter.info.max_read_gap_s
        while gap_s is not None and not self._stop.wait(gap_s / 4):
            try:
                self._meter.read()
            except Exception as error:  # told where the window ends
                self.error = self.error or error
                self.failures += 1
