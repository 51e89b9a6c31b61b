"""The surroundings in which Flower and Ray run quietly and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from profiler.errors import RoundError

_RAY_HOME = "ray_bootstrap_config.yaml"
_STOP_S = 8.0
_FRAME = " ╭─╮│╰╯"
_NOISE = ("UserWarning", "DeprecationWarning", "warnings.warn")


def quiet_environment(home: Path) -> dict[str, str]:
    """This process's environment with *home* as HOME: no telemetry, no look for updates, and
    none of Ray's questions to a cloud."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / _RAY_HOME).write_text("provider: {type: local}\n")
    programs = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "HOME": str(home),
        "FLWR_HOME": str(home / ".flwr"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}",
    }


class Program:
    """A program that runs in a session of its own, its output in a file.

    Args:
        name: for errors, and of the output's file.
        command: and its arguments.
        folder: where the output goes.
        environment: of the program.
    """

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log = folder / f"{name.replace(' ', '-')}.log"
        self._below: set[psutil.Process] = set()
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=folder,
                start_new_session=True,
            )

    def check(self) -> None:
        """Say so if it has ended.

        Raises:
            RoundError: it has; with the last line that it said.
        """
        code = self.process.poll()
        if code is not None:
            raise RoundError(f"{self.name} ended with code {code}: {self.last_words()}")

    def last_words(self) -> str:
        """The last three lines of its output that are no warnings, as one."""
        lines = [x.strip(_FRAME) for x in self.log.read_text(errors="replace").splitlines()]
        told = [x for x in lines if x and not any(n in x for n in _NOISE)]
        return " ".join(told[-3:])[-300:] if told else "it said nothing"

    def interrupt(self) -> None:
        """Ask it and all that it started to end, also what has a session of its own.

        Whom a process started can be told only while it lives, so this looks before it asks.
        """
        self._look_below()
        _signal(self.process.pid, signal.SIGTERM)
        for process in self._below:
            with suppress(psutil.NoSuchProcess):
                process.terminate()

    def finish(self, by_s: float) -> None:
        """Wait until *by_s* of the monotonic clock, then end its session and all below it."""
        while time.monotonic() < by_s and (_running(self.process) or any(map(_alive, self._below))):
            time.sleep(0.05)
        self._look_below()
        _signal(self.process.pid, signal.SIGKILL)
        for process in self._below:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    def _look_below(self) -> None:
        """Remember the processes that it, or one of those remembered, started."""
        tops = {*self._below}
        with suppress(psutil.NoSuchProcess):
            if self.process.poll() is None:
                tops.add(psutil.Process(self.process.pid))
        for top in tops:
            with suppress(psutil.NoSuchProcess):
                self._below.update(top.children(recursive=True))


class Programs:
    """Programs that are all ended when the block is left, however it is left."""

    def __init__(self) -> None:
        self.started: list[Program] = []

    def start(
        self, name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> Program:
        """Start one more; see `Program`."""
        program = Program(name, command, folder, environment)
        self.started.append(program)
        return program

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for program in self.started:
            program.interrupt()
        by_s = time.monotonic() + _STOP_S
        for program in self.started:
            program.finish(by_s)


def _running(process: subprocess.Popen[bytes]) -> bool:
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal(group: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)
