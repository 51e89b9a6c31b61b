"""One price for a whole run: joules over all rounds and clients, spent where they buy most.

Each round the server broadcasts one price of energy lambda, and every client keeps what is worth
it (`cwmp.selectors.priced`). That is optimal across clients. Let client j hold entries g_ij of
weight w_j and marginal cost c_ij, and consider one round::

    maximise  sum_j w_j^2 sum_i g_ij^2 x_ij   with 0 <= x_ij <= 1
    subject to  sum_j J_j <= B  (lambda),   J_j = sum_i c_ij x_ij <= b_j  (mu_j)

It is a linear programme, so these conditions (Karush, Kuhn and Tucker) are necessary and
sufficient: multipliers lambda, mu_j >= 0 with

    x_ij = 1 where w_j^2 g_ij^2 > (lambda + mu_j) c_ij,   0 where it is smaller,
    lambda (B - sum_j J_j) = 0,   mu_j (b_j - J_j) = 0.

The batteries b_j are private: mu_j = max(0, pi_j - lambda), with pi_j the price at which client
j alone would spend b_j. So client j acts on max(lambda, pi_j), which it finds by itself
(``cap_j`` of `PriceSelector.keep`), the server keeps nothing for it, and the joules of all as a
function of the price are sum_j min(J_j(lambda), b_j). Clients answer with that curve at a few
prices; the server adds the curves and reads the next price off the sum. Work, memory and
message are the same few numbers a client, however many clients there are.

Where it stops being optimal: fixed charges make J_j(lambda) jump, so that no price may spend
exactly B (what is kept is still the best for the joules it spends, Everett 1963); joules that
clients share, such as a downlink of the union of what they sent, are not a sum over clients; and
over rounds it is a heuristic: next round's updates are not known, so that the joules left are
spread evenly over the rounds left, and the last round's curve stands in for the next one's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import reduce
from math import exp, isfinite, log
from operator import add

from cwmp.controller_state import ControllerState
from cwmp.spending import PriceGrid, SpendReport, SpendTotal, solve
from profiler.errors import BudgetError, InputError

_LOWEST, _HIGHEST = 1e-200, 1e200
_WORST = log(8.0)
_MOST_CORRECTED = 1000.0


@dataclass(frozen=True, slots=True)
class PriceController:
    """Turns *budget_j* joules for *rounds* rounds into a price a round.

    `initial` starts from a guess and `probe` mends it without spending; `update` closes a round.
    They are pure: the state is all there is, and a run resumed from it goes on as if it had
    not stopped.

    Attributes:
        budget_j: joules over all rounds and clients.
        rounds: how many rounds they have to last.
        grid: the prices around the broadcast one that clients answer for.
        gain: how much of a forecast's error (in log) enters the correction, 0 to 1.
        client_limit_j: the most joules that one client can spend in a round; reports of more
            are refused. Without it one liar can claim any amount and starve the others.

    Raises:
        BudgetError: *budget_j* is not a positive number.
        InputError: another attribute out of its range.

    >>> controller = PriceController(budget_j=20.0, rounds=2, grid=PriceGrid(bins=4, ratio=2.0))
    >>> state = controller.initial(price=8.0)
    >>> controller.prices(state)
    (2.0, 4.0, 8.0, 16.0)
    >>> report = SpendReport("a", spent_j=8.0, curve_j=(32.0, 16.0, 8.0, 4.0))
    >>> controller.update(state, [report]).price < state.price  # 12 J are left for one round
    True
    """

    budget_j: float
    rounds: int
    grid: PriceGrid = field(default_factory=PriceGrid)
    gain: float = 0.2
    client_limit_j: float | None = None

    def __post_init__(self) -> None:
        if not (isfinite(self.budget_j) and self.budget_j > 0):
            raise BudgetError(f"the budget is {self.budget_j} J; it must be a positive number")
        if self.rounds < 1:
            raise InputError(f"a run has at least one round, not {self.rounds}")
        if not 0 <= self.gain <= 1:
            raise InputError(f"the gain of the correction is {self.gain}; it is from 0 to 1")
        limit_j = self.client_limit_j
        if limit_j is not None and not (isfinite(limit_j) and limit_j > 0):
            raise InputError(f"the limit of a client is {limit_j} J; it must be positive")

    def initial(self, price: float) -> ControllerState:
        """The state before the first round, at a guessed *price*: any, if `probe` mends it.

        Raises:
            InputError: *price* is not a positive number.
        """
        if not _LOWEST <= price <= _HIGHEST:
            raise InputError(f"the first price is {price}; guess a positive number of g^2 per J")
        return ControllerState(price=price)

    def prices(self, state: ControllerState) -> tuple[float, ...]:
        """The prices that clients answer for this round; they need no more than `state.price`."""
        return self.grid.prices(state.price)

    def remaining_j(self, state: ControllerState) -> float:
        """Joules left; 0 when the budget is spent, and then the run should end."""
        return max(0.0, self.budget_j - state.spent_j)

    def check(self, report: SpendReport) -> SpendReport:
        """*report*, if this run can use it: drop whoever fails and go on with the others.

        Raises:
            InputError: a curve of another grid, or more joules than a client can spend.
        """
        if len(report.curve_j) != self.grid.bins:
            raise InputError(
                f"client {report.client!r} reports {len(report.curve_j)} prices, not "
                f"{self.grid.bins}; refuse this report"
            )
        most_j = max(report.spent_j, report.curve_j[0])
        if self.client_limit_j is not None and most_j > self.client_limit_j:
            raise InputError(
                f"client {report.client!r} reports {most_j:.4g} J, above the limit of "
                f"{self.client_limit_j:.4g} J a client; refuse this report"
            )
        return report

    def probe(
        self,
        state: ControllerState,
        reports: Iterable[SpendReport] | SpendTotal,
        *,
        clients: int | None = None,
    ) -> ControllerState:
        """Move the price by what clients *would* spend; nobody sends, no round passes.

        Before the first round, repeat it until `ControllerState.bracketed`.

        Raises:
            InputError: as for `update`.
        """
        total = self._total(reports)
        return self._priced(state, total, self.rounds - state.round, clients)

    def update(
        self,
        state: ControllerState,
        reports: Iterable[SpendReport] | SpendTotal,
        *,
        clients: int | None = None,
    ) -> ControllerState:
        """The state after a round: what was spent is counted, and the next price is set.

        Args:
            state: the state whose price the clients were told.
            reports: of the clients that took part, or the sum of those that passed `check`.
            clients: how many are expected next round; ``None`` expects as many again.

        Raises:
            InputError: the run is over, or a report is bad (its client is named). The state is
                as it was.
        """
        if state.round >= self.rounds:
            raise InputError(f"the run is over: all of its {self.rounds} rounds were spent")
        total = self._total(reports)
        spent = state.model_copy(
            update={
                "round": state.round + 1,
                "spent_j": state.spent_j + total.spent_j,
                "correction": self._corrected(state, total),
                "clients": total.clients,
                "left_out": total.left_out,
            }
        )
        return self._priced(spent, total, self.rounds - spent.round, clients)

    def _total(self, reports: Iterable[SpendReport] | SpendTotal) -> SpendTotal:
        nothing = SpendTotal(0, 0, 0.0, (0.0,) * self.grid.bins)
        if isinstance(reports, SpendTotal):
            total = reports
        else:
            total = reduce(add, (SpendTotal.of(self.check(report)) for report in reports), nothing)
        if len(total.curve_j) != self.grid.bins:
            raise InputError(f"a sum of {len(total.curve_j)} prices, not {self.grid.bins}")
        if not isfinite(total.spent_j + sum(total.curve_j)):
            raise InputError(
                "the reports add up to infinite joules: set client_limit_j, so that the client "
                "that says so is refused"
            )
        SpendReport("(the sum of all)", total.spent_j, total.curve_j)  # a sum is checked alike
        return total

    def _corrected(self, state: ControllerState, total: SpendTotal) -> float:
        """The correction with this round's error in it, each error within a factor of 8."""
        if not (state.forecast_j and total.clients and total.spent_j):
            return state.correction
        forecast = log(state.forecast_j) + log(state.correction) + log(total.clients)
        error = log(total.spent_j) - forecast
        corrected = state.correction * exp(self.gain * max(-_WORST, min(error, _WORST)))
        return min(max(corrected, 1 / _MOST_CORRECTED), _MOST_CORRECTED)

    def _priced(
        self, state: ControllerState, total: SpendTotal, rounds: int, clients: int | None
    ) -> ControllerState:
        """*state* with the price at which the sum of the curves spends an even share."""
        if not rounds or not total.clients:
            return state
        expected = total.clients if clients is None else clients
        target_j = self.remaining_j(state) / rounds / max(expected, 1) / state.correction
        curve_j = [joules / total.clients for joules in total.curve_j]
        price, forecast_j, bracketed = solve(self.prices(state), curve_j, target_j)
        return state.model_copy(
            update={
                "price": min(max(price, _LOWEST), _HIGHEST),
                "forecast_j": forecast_j,
                "bracketed": bracketed,
            }
        )


def round_cap_j(battery_j: float, spent_j: float, rounds: int) -> float:
    """A client's cap for one round: what its battery has left, spread over *rounds* to come.

    Args:
        battery_j: joules that the whole run may take from it.
        spent_j: joules taken so far.
        rounds: rounds it expects to take part in, this one among them.

    Raises:
        InputError: joules that are negative or not finite, or less than one round.

    >>> round_cap_j(battery_j=10.0, spent_j=4.0, rounds=3)
    2.0
    """
    if not (isfinite(battery_j) and battery_j >= 0 and isfinite(spent_j) and spent_j >= 0):
        raise InputError(f"a battery of {battery_j} J with {spent_j} J spent: give joules >= 0")
    if rounds < 1:
        raise InputError(f"a cap is for at least one round to come, not {rounds}")
    return max(0.0, battery_j - spent_j) / rounds


def left_out(reports: Iterable[SpendReport]) -> tuple[str, ...]:
    """The clients that the price kept nothing of, in the order of *reports*."""
    return tuple(report.client for report in reports if report.spent_j == 0)
