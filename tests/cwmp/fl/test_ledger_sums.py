"""Whatever a ledger holds, it adds up: by phase, party, round and client."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwmp.fl.batteries import Batteries
from cwmp.fl.ledger import ALL_PHASES, PHASES, Entry, Joules, Ledger, Total

values = st.floats(0, 1e3)
energies = st.builds(
    lambda low, more, most, origin: Joules(low + more, low, low + more + most, origin),
    values,
    values,
    values,
    st.sampled_from(["measured", "modelled", "assumed"]),
)
entries = st.builds(
    Entry,
    round=st.integers(1, 4),
    client=st.one_of(st.none(), st.integers(0, 3)),
    party=st.sampled_from(["client", "server"]),
    phase=st.sampled_from(ALL_PHASES),
    energy=st.one_of(st.none(), energies, energies, energies),
)


def _adds_up(parts: Sequence[Joules | None], total: Joules) -> None:
    for name in ("value", "low", "high"):
        found = sum(getattr(part, name) for part in parts if part is not None)
        assert found == pytest.approx(getattr(total, name), rel=1e-9, abs=1e-9)


@given(st.lists(entries, min_size=1))
def test_all_parts_add_up_to_the_total_over_the_phases_it_knows(cells: list[Entry]) -> None:
    ledger = Ledger(tuple(cells))
    total = ledger.total()
    unknown = {entry.phase for entry in cells if entry.energy is None}
    assert set(total.lacks) == unknown
    known = ledger.of_phases([phase for phase in ALL_PHASES if phase not in unknown])
    if total.energy is None:
        assert unknown >= set(PHASES)
        return
    _adds_up([ledger.phase(phase) for phase in ALL_PHASES], total.energy)
    _adds_up([part.total().energy for _, part in known.rounds()], total.energy)
    _adds_up([known.of_client(c).total().energy for c in (None, 0, 1, 2, 3)], total.energy)
    parties = [known.of_party(party) for party in ("client", "server")]  # type: ignore[arg-type]
    _adds_up([part.total().energy for part in parties], total.energy)
    assert all(part.total().lacks == () for part in parties)


@given(st.lists(entries))
def test_a_price_that_is_absent_is_never_0(cells: list[Entry]) -> None:
    phases = Ledger(tuple(cells)).by_phase()
    for phase in ALL_PHASES:
        own = [entry for entry in cells if entry.phase == phase]
        if any(entry.energy is None for entry in own):
            assert phases[phase] is None
        elif own:
            assert phases[phase] is not None
    assert ("idle" in phases) == any(entry.phase == "idle" for entry in cells)


@given(st.lists(entries), st.floats(0.1, 1e4))
def test_a_battery_loses_the_client_s_own_priced_cells(
    cells: list[Entry], capacity_j: float
) -> None:
    batteries = Batteries({0: capacity_j, 1: capacity_j})
    for number in range(1, 5):
        batteries.take([entry for entry in cells if entry.round == number])
    spent = sum(
        entry.energy.value
        for entry in cells
        if entry.client == 0 and entry.party == "client" and entry.energy
    )
    left = batteries.remaining_j(0)
    assert left == pytest.approx(max(0.0, capacity_j - spent), abs=1e-6)
    assert batteries.remaining_j(2) is None and batteries.covers_round(2)
    if left == 0:
        assert not batteries.covers_round(0)


def test_what_was_perhaps_not_done_has_0_as_its_low_end() -> None:
    most = Joules(2.0, 1.0, 3.0, "measured").as_most()
    assert most == Joules(2.0, 0.0, 3.0, "assumed")
    assert Joules(6.0, 5.0, 8.0, "modelled").scaled(0.5, 0.2, 1.0) == Joules(
        3.0, 1.0, 8.0, "assumed"
    )
    assert Ledger(()).total() == Total(Joules(0.0, 0.0, 0.0, "measured"))
