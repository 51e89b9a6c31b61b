"""A real browser, driven over WebDriver's HTTP with nothing but the standard library."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Escape": "\ue00c", "ArrowLeft": "\ue012",
         "ArrowUp": "\ue013", "ArrowRight": "\ue014", "ArrowDown": "\ue015", "End": "\ue010",
         "Home": "\ue011", "Space": " "}  # fmt: skip
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
          "--hide-scrollbars", "--disable-background-networking")  # fmt: skip


def browser_missing() -> str:
    """Why no browser can be driven here; empty if one can."""
    if shutil.which("chromedriver") is None:
        return "chromedriver is not installed"
    return "" if _binary() else "chromium is not installed"


def _binary() -> str | None:
    return shutil.which("chromium") or shutil.which("google-chrome")


class Browser:
    """One session. Everything waits until the page has loaded."""

    def __init__(self, base: str, session: str) -> None:
        self._url = f"{base}/session/{session}"

    def open(self, page: Path) -> None:
        _call("POST", f"{self._url}/url", {"url": page.absolute().as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        """What the body of a function *script* returns."""
        body = {"script": script, "args": list(arguments)}
        return _call("POST", f"{self._url}/execute/sync", body)

    def click(self, selector: str) -> None:
        element = self.run(
            "const e = document.querySelector(arguments[0]); e.scrollIntoView({block: 'center'});"
            "return e",
            selector,
        )
        _call("POST", f"{self._url}/element/{element[_ELEMENT]}/click", {})

    def press(self, *keys: str) -> None:
        """Real key presses, to whatever has the focus."""
        actions = [
            {"type": kind, "value": _KEYS[key]} for key in keys for kind in ("keyDown", "keyUp")
        ]
        body = {"actions": [{"type": "key", "id": "keys", "actions": actions}]}
        _call("POST", f"{self._url}/actions", body)

    def hover(self, x: float, y: float) -> None:
        """Move the pointer to a place of the window."""
        move = {"type": "pointerMove", "x": round(x), "y": round(y), "duration": 0}
        body = {"actions": [{"type": "pointer", "id": "mouse", "actions": [move]}]}
        _call("POST", f"{self._url}/actions", body)

    def resize(self, width: int, height: int) -> None:
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def devtools(self, command: str, **parameters: Any) -> Any:
        """A command that WebDriver has no word for, such as emulating print."""
        body = {"cmd": command, "params": parameters}
        return _call("POST", f"{self._url}/goog/cdp/execute", body)

    def log(self, kind: str) -> list[dict[str, Any]]:
        """Entries since the last call: ``browser`` (the console) or ``performance``."""
        found: list[dict[str, Any]] = _call("POST", f"{self._url}/se/log", {"type": kind})
        return found

    def requests(self) -> list[str]:
        """Addresses that anything asked for since the last call, but for the page itself."""
        urls = []
        for entry in self.log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                urls.append(message["params"]["request"]["url"])
        return urls

    def screenshot(self, path: Path) -> None:
        """The whole page, not the window alone."""
        found = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless browser with a profile of its own, ended with the context."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    driver = shutil.which("chromedriver") or "chromedriver"
    process = subprocess.Popen(
        [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    base = f"http://127.0.0.1:{port}"
    try:
        _wait(base)
        session = _call("POST", f"{base}/session", {"capabilities": {"alwaysMatch": _wanted()}})
        try:
            yield Browser(base, session["sessionId"])
        finally:
            _call("DELETE", f"{base}/session/{session['sessionId']}", None)
    finally:
        process.terminate()
        process.wait(10)


def _wanted() -> dict[str, Any]:
    return {
        "browserName": "chrome",
        "goog:chromeOptions": {"binary": _binary(), "args": list(_FLAGS)},
        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
    }


def _wait(base: str) -> None:
    for _ in range(200):
        try:
            if _call("GET", f"{base}/status", None)["ready"]:
                return
        except (URLError, ConnectionError):
            time.sleep(0.05)
    raise TimeoutError("chromedriver did not start")


def _call(method: str, url: str, body: dict[str, Any] | None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urlopen(request, timeout=60) as reply:
            return json.load(reply)["value"]
    except HTTPError as error:
        raise RuntimeError(json.load(error)["value"]["message"]) from error
