"""Smaller corrections: what is tested of tables does not hang on the number of their trees."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _few_trees() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("costmodels.tablefit.TREES", 20)
        yield
