"""One price for many clients: does the total meet the budget, and what does one price buy?

    python benchmarks/price_controller.py [--clients N] [--seeds N] [--quick] [--json FILE]

Rounds of virtual clients of mixed devices (see `virtual_clients.py`): a tenth is invited a round
and 70 to 95 % of those answer, updates shrink and drift, meters disagree with the declared costs
by class and by 10 % a client, many run on batteries. Printed beside its target: joules against
the budget, what one price captures over equal budgets at equal joules, over the round's optimum
and over one constant price chosen in hindsight, who is left out, and the server's cost a client.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from virtual_clients import (
    CLASSES,
    DENSE,
    METER_BIAS,
    Cohort,
    Fleet,
    play_round,
    under_budgets,
    under_price,
)

from cwmp.controller import PriceController
from cwmp.spending import SpendReport, SpendTotal

ROUNDS = 50
INVITED = 0.1
CLIENT_J = 1e-3
"""Joules of the budget by client that takes part and round."""
LOOKED_AT = 5
"""Every how many rounds equal budgets and the round's optimum are worked out."""


def bisect(joules: Callable[[float], float], target_j: float, low: float, high: float) -> float:
    """The price between *low* and *high* where *joules* falls to the target."""
    for _ in range(24):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if joules(middle) > target_j else (low, middle)
    return high


def equal_budgets(cohort: Cohort, total_j: float) -> np.ndarray:
    """One budget for everyone, or a client's most where that is less; they add up to *total_j*."""
    most_j = np.minimum(cohort.cap_j, DENSE * cohort.entry_j)
    low, high = 0.0, float(most_j.max())
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if np.minimum(most_j, middle).sum() < total_j else (low, middle)
    return np.minimum(most_j, low)


def simulate(clients: int, seed: int) -> dict[str, object]:
    """One run under the controller, and what others would have captured on the same updates."""
    numbers = np.random.default_rng(seed)
    fleet = Fleet.draw(clients, ROUNDS * INVITED * 0.8, numbers)
    budget_j = CLIENT_J * clients * INVITED * 0.825 * ROUNDS
    controller = PriceController(budget_j, ROUNDS)
    state = controller.initial(1.0)
    played, answered, probes = [], [], 0
    sums = {name: np.zeros(2) for name in ("price", "equal", "optimum")}
    asked, silent, capped = (np.zeros(len(CLASSES)) for _ in range(3))
    took_part, kept_something = np.zeros(clients, bool), np.zeros(clients, bool)
    while state.round < ROUNDS:
        invited = numbers.choice(clients, int(INVITED * clients), replace=False)
        rows = invited[numbers.random(invited.size) < numbers.uniform(0.7, 0.95)]
        cohort = Cohort.of(fleet, rows, (ROUNDS - state.round) * INVITED)
        prices = np.array(controller.prices(state))
        centre = controller.grid.centre
        spent_j, curve_j = play_round(prices, centre, *cohort.columns, cohort.cap_j, numbers)
        metered_j = spent_j * np.array(METER_BIAS)[cohort.kind]
        metered_j *= np.exp(numbers.normal(0, 0.1, rows.size))
        nothing = int((spent_j == 0).sum())
        total = SpendTotal(rows.size, nothing, float(metered_j.sum()), tuple(curve_j.tolist()))
        if not (state.round or state.bracketed):
            state, probes = controller.probe(state, total), probes + 1
            continue
        price = state.price
        answered.append(rows.size)
        state = controller.update(state, total, clients=round(np.mean(answered)))
        played.append((price, cohort))
        fleet.used_j[rows] += spent_j
        took_part[rows] = True
        kept_something[rows[spent_j > 0]] = True
        asked += np.bincount(cohort.kind, minlength=len(CLASSES))
        silent += np.bincount(cohort.kind[spent_j == 0], minlength=len(CLASSES))
        at_cap = (spent_j > 0) & (spent_j >= cohort.cap_j)
        capped += np.bincount(cohort.kind[at_cap], minlength=len(CLASSES))
        if (state.round - 1) % LOOKED_AT == 0:
            seen = metered_j.sum() / spent_j.sum() if spent_j.any() else 1.0
            declared_j = budget_j / ROUNDS / seen
            for name, pair in others(cohort, price, declared_j).items():
                sums[name] += pair
        fleet.drift(numbers)
    left = took_part & ~kept_something
    return {
        "seed": seed,
        "spent_over_budget": state.spent_j / budget_j,
        "probes": probes,
        "over_equal": sums["price"][1] / sums["equal"][1],
        "joules_over_equal": sums["price"][0] / sums["equal"][0],
        "over_optimum": sums["price"][1] / sums["optimum"][1],
        "joules_over_optimum": sums["price"][0] / sums["optimum"][0],
        "over_hindsight": over_hindsight(played),
        "client_rounds": asked.tolist(),
        "left_out_rounds": silent.tolist(),
        "capped_rounds": capped.tolist(),
        "clients": np.bincount(fleet.kind[took_part], minlength=len(CLASSES)).tolist(),
        "never_kept": np.bincount(fleet.kind[left], minlength=len(CLASSES)).tolist(),
        "batteries_overdrawn": int((fleet.used_j > fleet.battery_j * (1 + 1e-9)).sum()),
    }


def others(cohort: Cohort, price: float, share_j: float) -> dict[str, np.ndarray]:
    """Joules and weighted g^2 of one price, of equal budgets, and of the round's optimum.

    Equal budgets get the joules that the price spent. The optimum gets *share_j*, an even share
    of the run's budget, and its exact price.
    """

    def spent_at(candidate: float) -> float:
        return float(under_price(candidate, *cohort.columns, cohort.cap_j)[0])

    mine = np.array(under_price(price, *cohort.columns, cohort.cap_j))
    split = np.array(under_budgets(equal_budgets(cohort, mine[0]), *cohort.columns))
    exact = bisect(spent_at, share_j, price / 8, price * 8)
    best = np.array(under_price(exact, *cohort.columns, cohort.cap_j))
    return {"price": mine, "equal": split, "optimum": best}


def over_hindsight(played: list[tuple[float, Cohort]]) -> float:
    """Captured over that of the one constant price that spends the same joules in the run."""

    def whole(price: float) -> np.ndarray:
        return sum(np.array(under_price(price, *c.columns, c.cap_j)) for _, c in played)

    mine = sum(np.array(under_price(p, *c.columns, c.cap_j)) for p, c in played)
    low, high = min(p for p, _ in played), max(p for p, _ in played)
    for _ in range(9):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if whole(middle)[0] > mine[0] else (low, middle)
    under = whole(high)
    return float(mine[1] / (under[1] + high * (mine[0] - under[0])))


def server_cost(sizes: list[int]) -> list[dict[str, float]]:
    """Time a client of reading, checking and adding reports, and bytes, for growing fleets."""
    numbers = np.random.default_rng(0)
    controller = PriceController(1.0, ROUNDS, client_limit_j=10.0)
    prices = np.array(controller.grid.prices(1.0))
    wire = [
        SpendReport("c", 1e-6, tuple((scale / prices).tolist())).to_bytes()
        for scale in numbers.uniform(1e-7, 1e-5, 1000)
    ]
    costs = []
    for size in sizes:
        took_s = []
        for _ in range(3):
            begin = time.perf_counter()
            reports = (SpendReport.from_bytes("c", wire[j % len(wire)]) for j in range(size))
            state = controller.update(controller.initial(1.0), reports)
            took_s.append(time.perf_counter() - begin)
        costs.append(
            {
                "clients": size,
                "us_a_client": 1e6 * min(took_s) / size,
                "message_bytes": len(wire[0]),
                "state_bytes": len(state.to_json()),
            }
        )
    return costs


def show(runs: list[dict[str, object]], costs: list[dict[str, float]]) -> None:
    """The figures, each beside its target."""

    def spread(name: str) -> str:
        values = np.array([run[name] for run in runs], dtype=float)
        return f"{values.mean():.4f} ({values.min():.4f} to {values.max():.4f})"

    worst = max(abs(float(run["spent_over_budget"]) - 1) for run in runs)
    print(f"n = {len(runs)} runs; mean (lowest to highest)\n")
    off = np.median([abs(float(run["spent_over_budget"]) - 1) for run in runs])
    print(f"joules / budget                    {spread('spent_over_budget')}")
    print(f"  median distance                  {off:.2%}")
    print(f"  furthest from it                 {worst:.2%}  target 1 %  ratio {worst / 0.01:.2f}")
    print(f"captured, one price / equal split  {spread('over_equal')}  target >= 1")
    print(f"  at joules                        {spread('joules_over_equal')}")
    print(f"captured / round's optimum         {spread('over_optimum')}")
    print(f"  at joules                        {spread('joules_over_optimum')}")
    print(f"captured / best constant price     {spread('over_hindsight')}")
    print(f"probes before the first round      {spread('probes')}")
    print(f"batteries overdrawn                {sum(run['batteries_overdrawn'] for run in runs)}\n")
    print("class             client rounds   left out   at the cap   never kept anything")
    table = ("client_rounds", "left_out_rounds", "capped_rounds", "clients", "never_kept")
    rows = [np.mean([run[key] for run in runs], axis=0) for key in table]
    for name, asked, silent, capped, clients, never in zip(CLASSES, *rows, strict=True):
        print(
            f"{name:16}  {asked:13,.0f}  {silent / max(asked, 1):8.1%}  "
            f"{capped / max(asked, 1):10.1%}  {never:12,.0f} of {clients:,.0f}"
        )
    print("\nserver        us a client   bytes a client   bytes of state")
    for cost in costs:
        print(
            f"{cost['clients']:>9,}  {cost['us_a_client']:13.2f}  {cost['message_bytes']:15,}  "
            f"{cost['state_bytes']:15,}"
        )
    growth = costs[-1]["us_a_client"] / costs[0]["us_a_client"]
    print(f"time a client, largest / smallest fleet: {growth:.2f}  target 1 (flat)")


def main() -> int:
    """Simulate, measure the server, print."""
    parser = argparse.ArgumentParser(description="One price of energy for a fleet of clients.")
    parser.add_argument("--clients", type=int, default=1_000_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="20,000 clients, two seeds")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    options = parser.parse_args()
    clients = 20_000 if options.quick else options.clients
    runs = []
    for seed in range(2 if options.quick else options.seeds):
        begin = time.perf_counter()
        runs.append(simulate(clients, seed))
        print(f"seed {seed}: {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    costs = server_cost([1_000, 10_000, 100_000, *([] if options.quick else [1_000_000])])
    print(f"{clients:,} clients, {ROUNDS} rounds, {INVITED:.0%} invited a round")
    show(runs, costs)
    if options.json:
        options.json.write_text(json.dumps({"runs": runs, "server": costs}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
