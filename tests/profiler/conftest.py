"""What the tests of sessions share."""

from __future__ import annotations

import pytest


@pytest.fixture
def short_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A simulated counter is probed for a fifth of a second."""
    from profiler import session

    monkeypatch.setattr(session, "_PROBE_S", 0.2)
