"""The peers' virtual environment, and a tool running in a process of its own."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import venv
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PINNED = {"zeus": "0.16.0", "pyJoules": "0.5.1", "codecarbon": "3.3.2"}


def install_peers(folder: Path) -> Path:
    """The Python of a virtual environment in *folder* that holds the peers, made where need be."""
    python = folder / "bin/python"
    wanted = [f"{name}=={version}" for name, version in PINNED.items()]
    if not (python.exists() and _holds(python)):
        print(f"installing {', '.join(wanted)} in {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        # pyJoules reads GPUs through nvidia-ml-py, which its extra names by an older name.
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, *wanted, "nvidia-ml-py"], check=True)
    return python


def _holds(python: Path) -> bool:
    ask = "import sys, importlib.metadata as m; print([m.version(n) for n in sys.argv[1:]])"
    found = subprocess.run(
        [python, "-c", ask, *PINNED], check=False, capture_output=True, text=True
    )
    return found.stdout.strip() == str(list(PINNED.values()))


class Process:
    """One tool behind ``peers_adapter.py``.

    Attributes:
        about: what it said when it was opened.
    """

    def __init__(self, tool: str, python: Path, environment: dict[str, str]) -> None:
        self.tool = tool
        self.about: dict[str, Any] = {}
        paths = {"PYTHONPATH": str(HERE.parent)} if python == Path(sys.executable) else {}
        self._process = subprocess.Popen(
            [python, "-W", "ignore", HERE / "peers_adapter.py", tool],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if "PEERS_VERBOSE" not in os.environ else None,
            text=True,
            bufsize=1,
            env=environment | paths,
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, order: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The reply to *order*; what went wrong where there is none."""
        self.send(order)
        return self.reply(timeout_s)

    def send(self, order: dict[str, Any]) -> None:
        """Give an order whose `reply` is awaited later."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(order) + "\n")

    def reply(self, timeout_s: float) -> dict[str, Any]:
        """The reply to the last order."""
        assert self._process.stdout is not None
        if self._process.poll() is not None:
            return {"error": f"crashed: exit code {self._process.returncode}"}
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(timeout_s):
                self._process.kill()
                return {"error": f"hung: no answer in {timeout_s:.0f} s"}
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "crashed: no answer"}
        return answer
