"""Without Flower, its module says which extra to install."""

from __future__ import annotations

import sys

import pytest

from profiler.errors import MissingExtraError


@pytest.mark.parametrize("module", ["flower", "flower_replies"])
def test_the_extra_is_named(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flwr", None)
    for name in ("flwr.app", "cwmp.integrations.flower", "cwmp.integrations.flower_replies"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'cwmp\[flower\]'"):
        __import__(f"cwmp.integrations.{module}")
