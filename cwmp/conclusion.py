"""What a study found, in plain sentences computed from its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10

from cwmp.comparison import EQUAL_JOULES, MARGIN, Mean, Paired
from cwmp.fl.ledger import Phase
from cwmp.selectors.costs import SelectionCosts
from cwmp.summarise import kinds_of_total
from cwmp.summary import CellSummary, Comparison
from profiler.listing import quantity

NAMES = {"cwmp": "CWMP", "topk": "Top-K", "random": "Random-K", "dense": "dense"}
_VERDICTS = {
    "better": "better than",
    "worse": "worse than",
    "tied": "tied with",
    "unknown": "not told apart from",
}
_WORK: dict[Phase, str] = {
    "select": "selection",
    "encode": "encoding",
    "downlink": "downlink",
    "update": "update",
    "uplink": "uplink",
}
_DECLARED: tuple[Phase, ...] = ("uplink", "update")


def display_name(method: str) -> str:
    """How a method is written for people: ``cwmp:1,1+ef`` is CWMP (1,1) + EF."""
    rule, _, feedback = method.partition("+")
    name, _, exponents = rule.partition(":")
    shown = NAMES.get(name, name)
    shown = f"{shown} ({exponents})" if exponents else shown
    return f"{shown} + {feedback.upper().replace(':', ' ')}" if feedback else shown


def conclude(cells: Sequence[CellSummary], comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    """Sentences: who won at equal joules, what the exchange weighs, who is on the front."""
    sentences = []
    for comparison in _most_general(comparisons):
        sentences.append(_compared(comparison))
        pair = (comparison.method, comparison.other)
        parts = [c for c in comparisons if (c.method, c.other) == pair and c.budget is not None]
        if comparison.budget is None:
            shown = (f"{c.budget} {describe_difference(c.result)}" for c in parts)
            sentences.append(f"By budget: {'; '.join(shown)}.")
            spent = _spent(cells, [c.budget for c in parts], *pair)
        else:
            spent = _spent(cells, [comparison.budget], *pair)
        if spent is not None:
            sentences.append(spent)
    sentences += [said for said in (_training_share(cells), _front(cells)) if said]
    return tuple(sentences)


def nothing_fits(cells: Sequence[CellSummary], prices: SelectionCosts) -> str | None:
    """The smallest budget to ask for, where no budget of any sparsifier opens a layer."""
    budgets_j = [cell.budget_j for cell in cells if cell.method != "dense"]
    if not budgets_j or max(budgets_j) >= prices.cheapest_j:
        return None
    return (
        "No sparsifier can run at these budgets: the smallest that opens a layer is "
        f"{share_of_dense(prices.cheapest_j, prices)} of the dense cost, "
        f"{quantity(prices.cheapest_j, 'J')} a client and round."
    )


def share_of_dense(energy_j: float, prices: SelectionCosts) -> str:
    """``69.1%``, rounded up to three digits: a budget written so pays for *energy_j*."""
    percent = 100 * energy_j / prices.dense_j
    step = 10.0 ** (floor(log10(percent)) - 2)
    return f"{min(ceil(percent / step * (1 + 1e-12)) * step, 100.0):.6g}%"


def _most_general(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Of each pair of methods the comparison over all budgets, or its only one."""
    last = {(comparison.method, comparison.other): comparison for comparison in comparisons}
    return list(last.values())


def _compared(comparison: Comparison) -> str:
    ours, theirs = display_name(comparison.method), display_name(comparison.other)
    where = "over all budgets" if comparison.budget is None else f"at {comparison.budget}"
    result = comparison.result
    if result.identical:
        return (
            f"At equal declared joules a round, {where}, {ours} was tied with {theirs}: "
            f"the {_count(result.difference.n, 'run')} ended in equal accuracy."
        )
    margin = f"; the interval lies within {_points(MARGIN)}" if result.verdict == "tied" else ""
    return (
        f"At equal declared joules a round, {where}, {ours} was {_VERDICTS[result.verdict]} "
        f"{theirs} in final accuracy: {describe_difference(result)}{margin}."
    )


def describe_difference(result: Paired) -> str:
    """``+1.2 points (95 % -0.3 to 2.7, 3 paired seeds)``."""
    difference = result.difference
    seeds = _count(difference.n, "paired seed")
    text = f"{100 * difference.mean:+.1f} points"
    if difference.low is None or difference.high is None:
        return f"{text} with {seeds}, too few for an interval"
    interval = f"95 % {100 * difference.low:.1f} to {100 * difference.high:.1f}"
    return f"{text} ({interval}, {seeds})"


def describe_accuracy(accuracy: Mean) -> str:
    """``91.2 ± 0.8`` in percent, the spread being the standard deviation over seeds."""
    if accuracy.sd is None:
        return f"{100 * accuracy.mean:.1f}"
    return f"{100 * accuracy.mean:.1f} ± {100 * accuracy.sd:.1f}"


def _spent(
    cells: Sequence[CellSummary], budgets: Sequence[str | None], method: str, other: str
) -> str | None:
    """What equal declared joules came to with every phase that is priced, but training.

    Nothing is said where the two, or two budgets, are not priced in the same phases.
    """
    found = {(cell.method, cell.budget): cell.exchange for cell in cells if cell.exchange}
    pairs = [(found.get((method, str(b))), found.get((other, str(b)))) for b in budgets]
    whole = [(ours, theirs) for ours, theirs in pairs if ours and theirs and theirs.value_j > 0]
    kinds = {side.lacks for pair in whole for side in pair}
    if len(whole) < len(budgets) or len(kinds) != 1:
        return None
    (lacks,) = kinds
    ratios = [ours.value_j / theirs.value_j for ours, theirs in whole]
    low, high = min(ratios), max(ratios)
    times = f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
    charged = [work for phase, work in _WORK.items() if phase not in (*lacks, *_DECLARED)]
    too = f"With {_listed(charged)} charged too" if charged else "With nothing else charged"
    missing = f", {_listed([_WORK[phase] for phase in lacks])} not priced" if lacks else ""
    return (
        f"{too}{missing}, and training left out, "
        f"{display_name(method)} spent {times} times the joules of {display_name(other)}."
    )


def _training_share(cells: Sequence[CellSummary]) -> str | None:
    """Says when the rounds' exchange hardly matters beside local training."""
    shares = []
    kinds = kinds_of_total(cells)
    if len(kinds) != 1:
        return None
    for cell in cells:
        train = cell.phases.get("train")
        if train is not None and cell.total is not None and cell.total.value_j > 0:
            shares.append(train.value_j / cell.total.value_j)
    if not shares:
        return None
    low, high = (f"{100 * share:.3g}" for share in (min(shares), max(shares)))
    span = f"{low} %" if low == high else f"{low} to {high} %"
    return (
        f"Local training takes {span} of all joules{_without(kinds[0])}; "
        "the selectors can change the rest."
    )


def _front(cells: Sequence[CellSummary]) -> str | None:
    """Who ends on the front, and what counts as equal; or why there is none."""
    kinds = kinds_of_total(cells)
    if len(kinds) > 1:
        lacking = "; some lack ".join(", ".join(lacks) or "nothing" for lacks in kinds)
        return f"No Pareto front of total joules: some totals lack {lacking}."
    if not kinds:
        return None
    front = [_label(cell) for cell in cells if cell.on_front]
    ends = ", ".join(front) or "no run ends on it"
    return (
        f"Pareto front of total joules{_without(kinds[0])} and accuracy, against every round of "
        f"the others: {ends}. Joules count as equal where they differ by less than "
        f"{100 * EQUAL_JOULES:g} % of what is not training."
    )


def _without(lacks: Sequence[Phase]) -> str:
    return f" (without {', '.join(lacks)})" if lacks else ""


def _points(accuracy: float) -> str:
    return _count(100 * accuracy, "point")


def _listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _label(cell: CellSummary) -> str:
    name = display_name(cell.method)
    return name if cell.method == "dense" else f"{name} {cell.budget}"


def _count(number: float, noun: str) -> str:
    return f"{number:g} {noun}" + ("" if number == 1 else "s")
