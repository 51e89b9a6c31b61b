"""The examples in the docstrings run and print what they say."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "cwmp.bounds",
        "cwmp.budget",
        "cwmp.codec",
        "cwmp.controller",
        "cwmp.controller_state",
        "cwmp.feedback",
        "cwmp.gain.expected",
        "cwmp.gain.predict",
        "cwmp.gain.tails",
        "cwmp.integrations.arguments",
        "cwmp.integrations.optim",
        "cwmp.payload",
        "cwmp.selection",
        "cwmp.selectors",
        "cwmp.selectors.block_shapes",
        "cwmp.selectors.blocks",
        "cwmp.selectors.burst_costs",
        "cwmp.selectors.bursts",
        "cwmp.selectors.cost_weighted",
        "cwmp.selectors.dense",
        "cwmp.selectors.element_costs",
        "cwmp.selectors.element_weighted",
        "cwmp.selectors.priced",
        "cwmp.selectors.random_k",
        "cwmp.selectors.refined",
        "cwmp.selectors.value_types",
        "cwmp.spending",
        "cwmp.wire.values",
    ],
)
def test_examples(module: str) -> None:
    outcome = doctest.testmod(import_module(module))
    assert outcome.attempted > 0
    assert outcome.failed == 0
