"""What the tests of drivers' faults share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from profiler.meters.fake import ManualClock


@pytest.fixture(autouse=True)
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(is_available=lambda: False, is_initialized=lambda: False)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    """Sampling meters of this module take their samples when told."""

    def background(module: object, clock: ManualClock) -> None:
        real = module.WaitingSampledMeter  # type: ignore[attr-defined]

        def build(*args: object, **options: object) -> object:
            return real(*args, **{**options, "clock": clock, "background": False})

        monkeypatch.setattr(module, "WaitingSampledMeter", build)

    return background  # type: ignore[return-value]
