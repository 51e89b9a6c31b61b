"""Lines from a web server that is asked again and again."""

from __future__ import annotations

import http.client
import ssl
import time
from urllib.parse import urlsplit

from profiler.errors import MeterReadError
from profiler.meters.external.format import LONGEST_LINE_BYTES

_LONGEST_TIMEOUT_S = 10.0
_SHOWN = 120


class HttpFeed:
    """A URL asked every *period_s*; each answer is a JSON object or lines of CSV.

    No redirect is followed, no proxy is used, and an answer over 64 KiB is refused.
    """

    ended = False

    def __init__(self, url: str, period_s: float) -> None:
        parts = urlsplit(url)
        self.period_s = period_s
        self._url = url
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        timeout_s = min(max(2 * period_s, 1.0), _LONGEST_TIMEOUT_S)
        self._timeout_s = timeout_s
        host = parts.hostname or ""
        self._connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context()
            self._connection = http.client.HTTPSConnection(
                host, parts.port, timeout=timeout_s, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(host, parts.port, timeout=timeout_s)
        self._due_s = time.monotonic()

    def poll(self, timeout_s: float) -> list[bytes]:
        wait_s = self._due_s - time.monotonic()
        if wait_s > 0:
            time.sleep(min(wait_s, timeout_s))
            if wait_s > timeout_s:
                return []
        try:
            body = self._ask()
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._connection.close()
            cause = getattr(error, "strerror", None) or str(error) or type(error).__name__
            cause = " ".join(cause.split())[:_SHOWN]
            raise MeterReadError(
                f"asking {self._url} failed: {cause}; is the meter there, and does it answer "
                f"within {self._timeout_s:g} s?"
            ) from error
        finally:
            self._due_s = max(self._due_s + self.period_s, time.monotonic())
        return _answer_lines(body)

    def close(self) -> None:
        self._connection.close()

    def _ask(self) -> bytes:
        until_s = time.monotonic() + self._timeout_s
        headers = {"Accept": "application/json, text/csv", "Accept-Encoding": "identity"}
        self._connection.request("GET", self._target, headers=headers)
        answer = self._connection.getresponse()
        if answer.status != 200:
            said = f"it said {answer.status} {answer.reason[:60]}"
            if 300 <= answer.status < 400:
                said += ", and redirects are not followed: give the final URL"
            raise ValueError(said)
        body = b""
        while part := answer.read1(LONGEST_LINE_BYTES + 1 - len(body)):
            body += part
            if len(body) > LONGEST_LINE_BYTES:
                raise ValueError(f"its answer is longer than {LONGEST_LINE_BYTES} bytes")
            if time.monotonic() > until_s:
                raise ValueError("its answer was not complete in time")
        if answer.length:
            raise ValueError(f"its answer broke off {answer.length} bytes before its end")
        return body


def _answer_lines(body: bytes) -> list[bytes]:
    """A JSON object is one line, however it is broken; CSV is its lines."""
    text = body.strip()
    if text.startswith(b"{"):
        return [text.replace(b"\r", b" ").replace(b"\n", b" ")]
    return text.split(b"\n") if text else []
