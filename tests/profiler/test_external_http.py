"""A real server on this host, polled as a meter."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from stand_ins.eventually import eventually_raises

from profiler.errors import CounterFaultError, FileFormatError, MeterReadError
from profiler.meters import find_meter
from profiler.meters.base import energy_between

RAILS = ("external",)


@contextmanager
def _server(
    body: Callable[[], bytes], status: int = 200, headers: dict[str, str] | None = None
) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = body()
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/watts?id=0"
    finally:
        server.shutdown()
        server.server_close()
    assert set(asked) <= {"/watts?id=0"}


def test_a_real_load_shows_in_a_server_that_meters_this_process() -> None:
    def watts() -> bytes:
        now_s, cpu_s = time.perf_counter(), time.process_time()
        if now_s - last[0] > 0.05:
            last[:] = [now_s, cpu_s, 10 + 20 * (cpu_s - last[1]) / (now_s - last[0])]
        return b'{"apower": %f}' % last[2]

    last = [time.perf_counter(), time.process_time(), 10.0]
    with _server(watts) as url:
        meter = find_meter(f"external:{url}#period=25ms,accuracy=2%,name=plug")
        start = meter.read()
        time.sleep(0.2)
        assert energy_between(start, meter.read(), RAILS) > 0
        meter.close()
    assert meter.info.device == "plug" and meter.info.covers == "cpu"
    (term,) = meter.info.systematic
    assert term.relative == pytest.approx(0.02)
    assert any("load pattern" in sentence for sentence in meter.info.scope)


@pytest.mark.parametrize(
    ("body", "status", "headers", "kind", "says"),
    [
        (b"busy", 503, {}, MeterReadError, "503"),
        (b"", 302, {"Location": "http://127.0.0.1:1/elsewhere"}, MeterReadError, "redirects"),
        (b"9" * 70_000, 200, {}, MeterReadError, "longer than 65536 bytes"),
        (b"<html></html>", 200, {}, FileFormatError, "no power"),
        (b"[1, 2]", 200, {}, FileFormatError, "no power"),
        (b'{"watts": "much"}', 200, {}, CounterFaultError, "not a number"),
        (b"", 200, {}, MeterReadError, "sent 0 samples"),
    ],
)
def test_a_server_that_does_not_answer_with_watts_is_refused(
    body: bytes, status: int, headers: dict[str, str], kind: type[Exception], says: str
) -> None:
    with _server(lambda: body, status, headers) as url, pytest.raises(kind, match=says):
        find_meter(f"external:{url}#offset=none,period=20ms,wait=0.5")


def test_a_server_that_is_not_there_is_refused() -> None:
    with _server(lambda: b"1") as url:
        pass
    with pytest.raises(MeterReadError, match="refused"):
        find_meter(f"external:{url}#offset=none,period=20ms")


def test_a_server_that_fails_midway_is_a_loss_and_counting_goes_on() -> None:
    answers = [b'{"power_w": 20}']
    with _server(lambda: answers[0]) as url:
        meter = find_meter(f"external:{url}#offset=none,period=10ms")
        before = meter.read()
        answers[0] = b"9" * 70_000
        eventually_raises(meter, MeterReadError, "longer than")
        answers[0] = b'{\n "power_w": 20\n}'
        time.sleep(0.1)
        with suppress(MeterReadError):
            meter.read()  # what failed until then
        start = meter.read()
        time.sleep(0.5)
        end = meter.read()
        meter.close()
    assert start.losses > before.losses
    assert energy_between(start, end, RAILS) / (end.time_s - start.time_s) == pytest.approx(
        20.0, rel=0.2
    )
