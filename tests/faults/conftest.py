"""The ledger of injected faults, and its line at the end of pytest's output."""

from __future__ import annotations

from typing import Any

import pytest
from ledger import Ledger

_KEY = pytest.StashKey[Ledger]()
_LINE = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def ledger(request: pytest.FixtureRequest) -> Ledger:
    return request.config.stash.setdefault(_KEY, Ledger())


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """With several processes one of them has the ledger, and tells this one what it says."""
    line = getattr(node, "workeroutput", {}).get("faults")
    if line:
        node.config.stash[_LINE] = line


def pytest_sessionfinish(session: pytest.Session) -> None:
    found = session.config.stash.get(_KEY, None)
    if found is not None and found.entries:
        session.config.stash[_LINE] = found.line()
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["faults"] = found.line()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many faults were injected, and what came of them."""
    line = terminalreporter.config.stash.get(_LINE, "")
    if line:
        terminalreporter.section("injected faults")
        terminalreporter.line(line)
