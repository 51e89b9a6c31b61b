"""A round as a row of a run: what its record and its ledger entries add up to."""

from __future__ import annotations

from collections.abc import Sequence

from cwmp.fl.ledger import Entry, Joules, Ledger, Total
from cwmp.fl.rounds import RoundRecord
from cwmp.results import add_totals, selection_sums
from cwmp.studies.runs import AbsentClient, EnergyCell, RoundRow


def row_of(record: RoundRecord, entries: Sequence[Entry], before: Total) -> tuple[RoundRow, Total]:
    """The row of *record*, and the total so far.

    Args:
        record: what the round did.
        entries: its cells of the ledger.
        before: the total of the rounds before.
    """
    phases = Ledger(tuple(entries)).by_phase()
    total = Ledger(tuple(entries)).total()
    so_far = add_totals(before, total)
    sums = selection_sums(record)
    clients = record.clients
    row = RoundRow(
        round=record.round,
        accuracy=record.accuracy,
        loss=record.loss,
        worst_decile=record.worst_decile,
        train_loss=sum(c.loss for c in clients) / len(clients),
        uplink_bytes=sum(c.payload_bytes for c in clients),
        downlink_bytes=sum(record.downlink_bytes + c.personal_bytes for c in clients),
        entries_kept=sum(touch.k for c in clients for touch in c.touched),
        declared_j=sums["energy_j"],
        captured=sums["captured"],
        captured_of=sums["total"],
        bound=sums["bound"],
        phases={phase: cell_of(energy) for phase, energy in phases.items()},
        lacks=total.lacks,
        total=cell_of(total.energy),
        cumulative=cell_of(so_far.energy),
        absent=tuple(AbsentClient(client=a.client, reason=a.reason) for a in record.absent),
    )
    return row, so_far


def client_sums(entries: Sequence[Entry], clients: int) -> list[float]:
    """Joules of each client's own cells that are priced; shape (clients,)."""
    spent_j = [0.0] * clients
    for entry in entries:
        if entry.client is not None and entry.party == "client" and entry.energy is not None:
            spent_j[entry.client] += entry.energy.value
    return spent_j


def cell_of(energy: Joules | None) -> EnergyCell | None:
    """*energy* as it is written; ``None`` stays ``None``."""
    if energy is None:
        return None
    return EnergyCell(
        value_j=energy.value, low_j=energy.low, high_j=energy.high, origin=energy.origin
    )
