"""Streams of an external meter: lines that make no sense, files that end, servers that fail."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ledger import Ledger, Trial, check_message
from stand_ins.streams import FileWriter

from profiler.errors import CwmpError, MeterReadError
from profiler.meters.base import EnergyMeter
from profiler.meters.external.meter import ExternalSource

WATTS, STEP_J = 20.0, 3.0
"""The stream's power, and what 0.15 s of it are: a read is that old, or a busy host that late."""
Line = Callable[[float], bytes]
LINES: dict[str, Line] = {
    "letters": lambda now: b"now,many\n",
    "an empty cell": lambda now: b"%.6f,\n" % now,
    "an empty time": lambda now: b",20\n",
    "nan": lambda now: b"%.6f,nan\n" % now,
    "inf": lambda now: b"%.6f,inf\n" % now,
    "1e400": lambda now: b"%.6f,1e400\n" % now,
    "1e200": lambda now: b"%.6f,1e200\n" % now,
    "hexadecimal": lambda now: b"%.6f,0x14\n" % now,
    "underscores": lambda now: b"%.6f,2_0\n" % now,
    "Arabic digits": lambda now: b"%.6f," % now + "٢٠\n".encode(),
    "a decimal comma": lambda now: b"%.6f,20,5\n" % now,
    "negative": lambda now: b"%.6f,-20\n" % now,
    "a million watts": lambda now: b"%.6f,1e6\n" % now,
    "a unit": lambda now: b"%.6f,20 W\n" % now,
    "one cell": lambda now: b"20\n",
    "three cells": lambda now: b"%.6f,20,20\n" % now,
    "NULs": lambda now: b"\0" * 30 + b"\n",
    "a NUL within": lambda now: b"%.6f,2\x000\n" % now,
    "invalid UTF-8": lambda now: b"\xff\xfe,20\n",
    "an open quote": lambda now: b'%.6f,"20\n' % now,
    "JSON": lambda now: b'{"time": 1, "watts": 20}\n',
    "half a line": lambda now: b"%.3f" % now,
    "100 kB in a line": lambda now: b"7" * 100_000 + b"\n",
    "a time of letters": lambda now: b"today,20\n",
    "a time of nan": lambda now: b"nan,20\n",
    "a time long ago": lambda now: b"%.6f,20\n" % (now - 3600),
    "a time to come": lambda now: b"%.6f,20\n" % (now + 3600),
    "a time of 1e300": lambda now: b"1e300,20\n",
    "a blank line": lambda now: b"\n",
    "a comment": lambda now: b"# restarted\n",
    "the header again": lambda now: b"time_s,power_w\n",
}
SOUND = ("a blank line", "a comment", "the header again")


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FileWriter, EnergyMeter]]:
    writer = FileWriter(tmp_path_factory.mktemp("stream") / "plug.csv", watts=str(WATTS))
    meter = ExternalSource().open(f"{writer.path}#offset=none")
    yield writer, meter
    meter.close()
    writer.stop()


def _trial() -> Trial:
    return Trial("external", lambda: WATTS * time.perf_counter(), STEP_J)


def _follow(trial: Trial, meter: EnergyMeter, inject: Callable[[], object], length_s: float) -> str:
    """Read before, during and after a fault, until it answers again."""
    until_s = time.perf_counter() + 5
    while not trial.read(meter) and time.perf_counter() < until_s:
        time.sleep(0.01)
    trial.errors.clear()  # of what came before
    inject()
    for _ in range(4):
        time.sleep(length_s / 4)
        trial.read(meter)
    until_s = time.perf_counter() + 5
    while not trial.read(meter) and time.perf_counter() < until_s:
        time.sleep(0.01)
    time.sleep(length_s / 4)
    assert trial.read(meter), trial.errors[-1]
    return trial.check()


@pytest.mark.parametrize("fault", LINES)
def test_a_line_that_makes_no_sense(
    stream: tuple[FileWriter, EnergyMeter], ledger: Ledger, fault: str
) -> None:
    writer, meter = stream

    def inject() -> None:
        with writer.path.open("ab") as file:
            file.write(LINES[fault](time.time()))

    outcome = _follow(_trial(), meter, inject, 0.12)
    assert fault in SOUND or outcome == "detected"
    ledger.add("external", f"line: {fault}", "reading", outcome)  # type: ignore[arg-type]


FILE_ENDS: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: os.truncate(path, 3),
    "removed": Path.unlink,
    "replaced": lambda path: path.with_name("new").replace(path),
}


@pytest.mark.parametrize("fault", [*FILE_ENDS, "silent"])
def test_a_file_that_ends(tmp_path: Path, ledger: Ledger, fault: str) -> None:
    writer = FileWriter(tmp_path / "plug.csv", watts=str(WATTS))
    meter = ExternalSource().open(f"{writer.path}#offset=none")
    trial = _trial()
    writer.stop()
    (tmp_path / "new").write_text("time_s,power_w\n")
    FILE_ENDS.get(fault, lambda path: None)(writer.path)
    until_s = time.perf_counter() + 4
    while trial.read(meter) and time.perf_counter() < until_s:
        time.sleep(0.02)
    assert trial.errors and not trial.read(meter), "0 J from a stream that ended"
    ledger.add("external", f"file: {fault}", "reading", "detected")
    meter.close()


@pytest.mark.parametrize(
    ("fault", "content"),
    [
        ("a folder", None),
        ("an empty file", b""),
        ("no header", b"1,2\n"),
        ("zeros", b"\0" * 100 + b"\n"),
        ("no power", b"time_s,humidity\n1,2\n"),
        ("a column twice", b"power_w,power_w\n1,2\n"),
        ("invalid UTF-8", b"\xff\xfe\xfd\n1,2\n"),
        ("1 MB in a line", b"7" * (1 << 20) + b"\n"),
        ("an unknown unit", b"time_s,power_horses\n1,2\n"),
    ],
)
def test_a_file_that_is_no_stream(
    tmp_path: Path, ledger: Ledger, fault: str, content: bytes | None
) -> None:
    path = tmp_path / "plug.csv"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(CwmpError) as refused:
        ExternalSource().open(f"{path}#offset=none,wait=0.3s")
    check_message(refused.value, ("plug.csv",))
    ledger.add("external", f"file: {fault}", "opening", "detected")


def test_a_pipe_without_a_writer(tmp_path: Path, ledger: Ledger) -> None:
    os.mkfifo(tmp_path / "plug.csv")
    with pytest.raises(MeterReadError) as refused:
        ExternalSource().open(f"{tmp_path / 'plug.csv'}#offset=none,wait=0.3s")
    check_message(refused.value, ("plug.csv",))
    ledger.add("external", "file: a pipe nobody writes to", "opening", "detected")


class Server:
    """Answers each request with a sample, or as told."""

    def __init__(self) -> None:
        self.answer: Callable[[BaseHTTPRequestHandler], None] | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if outer.answer is not None:
                    outer.answer(self)
                    return
                say(self, json.dumps({"time": time.time(), "watts": WATTS}).encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/watts"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def say(
    handler: BaseHTTPRequestHandler, body: bytes, code: int = 200, length: int | None = None
) -> None:
    """Answer with *body*, claiming another *length* where one is given."""
    handler.send_response(code)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def _close(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.close()
    handler.close_connection = True


def _slow(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(1.3)
    say(handler, b'{"time": 1, "watts": 20}')


ANSWERS: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {
    "404": lambda handler: say(handler, b"", 404),
    "500": lambda handler: say(handler, b"oops", 500),
    "503 with two lines": lambda handler: say(handler, b"a\nb", 503),
    "a redirect": lambda handler: say(handler, b"", 302),
    "no content": lambda handler: say(handler, b"", 204, 0),
    "it breaks off": lambda handler: say(handler, b'{"time": 1, "wat', length=40),
    "it hangs up": _close,
    "no HTTP": lambda handler: handler.wfile.write(b"hello\r\n\r\n") and None,
    "letters": lambda handler: say(handler, b"many"),
    "a JSON list": lambda handler: say(handler, b"[1, 2]"),
    "a JSON number": lambda handler: say(handler, b"20"),
    "half a JSON": lambda handler: say(handler, b'{"time": 1, "watts'),
    "null watts": lambda handler: say(handler, b'{"time": %f, "watts": null}' % time.time()),
    "a truth": lambda handler: say(handler, b'{"time": %f, "watts": true}' % time.time()),
    "NaN": lambda handler: say(handler, b'{"time": %f, "watts": NaN}' % time.time()),
    "a key less": lambda handler: say(handler, b'{"time": %f}' % time.time()),
    "deep nesting": lambda handler: say(handler, b'{"watts":' + b"[" * 5000),
    "100 kB": lambda handler: say(handler, b" " * 100_000),
    "an answer too late": _slow,
}


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Server, EnergyMeter]]:
    server = Server()
    meter = ExternalSource().open(f"{server.url}#offset=none,period=10ms")
    yield server, meter
    meter.close()
    server.close()


@pytest.mark.parametrize("fault", ANSWERS)
def test_a_server_that_fails(
    served: tuple[Server, EnergyMeter], ledger: Ledger, fault: str
) -> None:
    server, meter = served

    def inject() -> None:
        server.answer = ANSWERS[fault]
        threading.Timer(0.1, lambda: setattr(server, "answer", None)).start()

    length_s = 2.5 if fault == "an answer too late" else 0.25
    outcome = _follow(_trial(), meter, inject, length_s)
    assert outcome == "detected"
    ledger.add("external", f"server: {fault}", "reading", outcome)  # type: ignore[arg-type]


def test_an_answer_that_breaks_off_within_its_number(ledger: Ledger) -> None:
    """``20`` of ``200`` is a number, too: the length that was promised says that it is none."""
    server = Server()
    server.answer = lambda handler: say(handler, b"20.5")
    meter = ExternalSource().open(f"{server.url}#offset=none,period=20ms")
    server.answer = lambda handler: say(handler, b"20", length=4)
    trial = Trial("external", lambda: 0.0, 1e9)
    until_s = time.perf_counter() + 4
    while trial.read(meter) and time.perf_counter() < until_s:
        time.sleep(0.01)
    assert trial.errors and "broke off" in str(trial.errors[0])
    ledger.add("external", "server: it breaks off within a number", "reading", "detected")
    meter.close()
    server.close()
