"""The ledger of injected faults, and its line at the end of pytest's output."""

from __future__ import annotations

import pytest
from ledger import Ledger

_KEY = pytest.StashKey[Ledger]()


@pytest.fixture(scope="session")
def ledger(request: pytest.FixtureRequest) -> Ledger:
    return request.config.stash.setdefault(_KEY, Ledger())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many faults were injected, and what came of them."""
    found = terminalreporter.config.stash.get(_KEY, None)
    if found is not None and found.entries:
        terminalreporter.section("injected faults")
        terminalreporter.line(found.line())
