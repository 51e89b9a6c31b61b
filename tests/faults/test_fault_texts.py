"""Any text in the place of a number: refused and said, or read as the number that it is."""

from __future__ import annotations

import pytest
from benches import AT_OPENING_ONLY, BENCHES, Bench, bench
from ledger import Ledger, Trial, follow, open_spoilt
from texts import TEXT_FAULTS, TextFault

__all__ = ["bench"]
_ids = {"ids": lambda value: value.name if isinstance(value, TextFault) else str(value)}


def _trial(bench: Bench) -> Trial:
    return Trial(bench.rail, bench.true_j, bench.step_j)


def _check(ledger: Ledger, name: str, fault: TextFault, where: str, outcome: str) -> None:
    believable = name == "rapl range" and fault.name.startswith("2**6")  # it never wraps, then
    assert fault.sound or believable or outcome == "detected", "the fault passed unseen"
    ledger.add(name, f"text: {fault.name}", where, outcome)  # type: ignore[arg-type]


@pytest.mark.parametrize("fault", TEXT_FAULTS, **_ids)
@pytest.mark.parametrize("bench", BENCHES, indirect=True)
def test_between_two_reads(
    bench: Bench, fault: TextFault, ledger: Ledger, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["bench"]
    outcome = follow(
        _trial(bench), bench.open, bench.advance, lambda: bench.spoil(fault.distort), bench.mend
    )
    _check(ledger, name, fault, "reading", outcome)


@pytest.mark.parametrize("fault", TEXT_FAULTS, **_ids)
@pytest.mark.parametrize("bench", {**BENCHES, **AT_OPENING_ONLY}, indirect=True)
def test_at_opening(
    bench: Bench, fault: TextFault, ledger: Ledger, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["bench"]
    outcome = open_spoilt(
        _trial(bench), bench.open, bench.advance, lambda: bench.spoil(fault.distort), bench.mend
    )
    _check(ledger, name, fault, "opening", outcome)
