"""A meter's own program, in a process of its own: it samples a known power and hands it on late.

Run with a `Plan` in JSON, it writes to a file or a pipe, or answers by HTTP and prints its port.
Its clock is not ours by `clock_s`; each sample is handed on `delay_s` after it was taken, or up to
twice that. The power is `power_w` of ``time.perf_counter``, which all processes of a host share,
and `LOAD_W` more while the file `busy` holds a 1.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

REST_W, PULSE_W, LOAD_W = 20.0, 60.0, 35.0
CYCLE_S = 0.4


@dataclass(frozen=True)
class Plan:
    """What the program does; `kind` is ``file``, ``pipe`` or ``http``."""

    kind: str
    target: str = ""
    busy: str = ""
    json_lines: bool = False
    stamped: bool = True
    counts_energy: bool = False
    pulses: bool = True
    period_s: float = 0.01
    clock_s: float = 5e6
    delay_s: float = 0.015
    samples: int = 1_000_000


def pulse_s(cycle: int) -> tuple[float, float]:
    """When the pulse of one cycle begins and ends; at no fixed phase of any sampling."""
    draw = random.Random(cycle)
    begin_s = draw.uniform(0.10, 0.13)
    return begin_s, begin_s + draw.uniform(0.02, 0.08)


def power_w(now_s: float) -> float:
    """20 W, and 60 W more in one pulse of each 0.4 s."""
    cycle, phase_s = divmod(now_s, CYCLE_S)
    begin_s, end_s = pulse_s(int(cycle))
    return REST_W + PULSE_W * (begin_s <= phase_s < end_s)


def energy_j(start_s: float, end_s: float) -> float:
    """The integral of `power_w` over a stretch that holds the pulse of the cycle it begins in."""
    begin_s, done_s = pulse_s(int(start_s // CYCLE_S))
    return REST_W * (end_s - start_s) + PULSE_W * (done_s - begin_s)


def _between_j(start_s: float, end_s: float) -> float:
    """The integral of `power_w` over any stretch."""
    total_j, cycle = 0.0, int(start_s // CYCLE_S)
    while cycle * CYCLE_S < end_s:
        low_s, high_s = (cycle * CYCLE_S + edge_s for edge_s in pulse_s(cycle))
        total_j += PULSE_W * max(min(high_s, end_s) - max(low_s, start_s), 0.0)
        cycle += 1
    return total_j + REST_W * (end_s - start_s)


class Program:
    """The process, started and stopped; ``with`` stops it."""

    def __init__(self, plan: Plan) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(asdict(plan))],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


class FileWriter:
    """A file of samples, 5 ms apart, by a thread; it can be made to misbehave."""

    def __init__(self, path: Path, watts: str = "20") -> None:
        self.path, self.watts = path, watts
        path.write_text("time_s,power_w\n1,99999\n2,1\n")  # of an earlier run; skipped
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def append(self, text: str) -> None:
        with self.path.open("a") as stream:
            stream.write(text)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.005):
            self.append(f"{time.time()!r},{self.watts}\n")


def samples(plan: Plan) -> Iterator[tuple[float, float]]:
    """(time, watts or joules) of each sample once it is due to be handed on."""
    waiting: deque[tuple[float, float, float]] = deque()
    jitter = random.Random(1)
    handed_s, total_j = 0.0, 0.0
    due_s = last_s = time.perf_counter()
    for _ in range(plan.samples):
        due_s += plan.period_s
        time.sleep(max(due_s - time.perf_counter(), 0.0))
        now_s = time.perf_counter()
        value = power_w(now_s) if plan.pulses else REST_W
        if plan.busy:
            value += LOAD_W * (Path(plan.busy).read_bytes() == b"1")
        total_j += _between_j(last_s, now_s) if plan.pulses else REST_W * (now_s - last_s)
        last_s = now_s
        handed_s = max(handed_s, now_s + plan.delay_s * jitter.uniform(1, 2))
        waiting.append((handed_s, now_s, total_j if plan.counts_energy else value))
        while waiting and waiting[0][0] <= time.perf_counter():
            yield waiting.popleft()[1:]


def line(plan: Plan, now_s: float, value: float) -> str:
    """One sample as this program writes it."""
    stamp_s = now_s + plan.clock_s
    if plan.json_lines:
        fields: dict[str, Any] = {"joules" if plan.counts_energy else "watts": value}
        return json.dumps({"time": stamp_s, **fields} if plan.stamped else fields)
    return f"{stamp_s!r},{value!r}" if plan.stamped else repr(value)


def header(plan: Plan) -> str:
    """The first line of a table."""
    name = "energy_j" if plan.counts_energy else "power_w"
    return f"time_s,{name}" if plan.stamped else name


def _say(port: int) -> None:
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()


def serve(plan: Plan) -> None:
    """Answer each GET with the newest sample."""
    newest = [line(plan, time.perf_counter(), REST_W)]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = newest[0].encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _say(server.server_port)
    for now_s, value in samples(plan):
        newest[0] = line(plan, now_s, value)


def write(plan: Plan) -> None:
    """Append to a file, or write to a pipe."""
    _say(0)
    with Path(plan.target).open("a", buffering=1) as stream:
        if not plan.json_lines:
            stream.write(header(plan) + "\n")
        for now_s, value in samples(plan):
            stream.write(line(plan, now_s, value) + "\n")


if __name__ == "__main__":
    chosen = Plan(**json.loads(sys.argv[1]))
    (serve if chosen.kind == "http" else write)(chosen)
