"""What a study found, in plain sentences computed from its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from cwmp.comparison import Mean, Paired
from cwmp.summary import CellSummary, Comparison

NAMES = {"cwmp": "CWMP", "topk": "Top-K", "random": "Random-K", "dense": "dense"}
_VERDICTS = {
    "better": "better than",
    "worse": "worse than",
    "tied": "tied with",
    "unknown": "not told apart from",
}


def display_name(method: str) -> str:
    """How a method is written for people: ``cwmp:1,1`` is CWMP (1,1)."""
    name, _, exponents = method.partition(":")
    shown = NAMES.get(name, name)
    return f"{shown} ({exponents})" if exponents else shown


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
    share = _training_share(cells)
    if share is not None:
        sentences.append(share)
    front = [_label(cell) for cell in cells if cell.on_front]
    if front:
        sentences.append(f"Pareto front of total joules and accuracy: {', '.join(front)}.")
    return tuple(sentences)


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
    return (
        f"At equal declared joules a round, {where}, {ours} was {_VERDICTS[result.verdict]} "
        f"{theirs} in final accuracy: {describe_difference(result)}."
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
    """What equal declared joules came to once selection, encoding and downlink are charged."""
    found = {
        (cell.method, cell.budget): cell.exchange.value_j
        for cell in cells
        if cell.exchange is not None
    }
    pairs = [(found.get((method, str(b))), found.get((other, str(b)))) for b in budgets]
    ratios = [ours / theirs for ours, theirs in pairs if ours is not None and theirs]
    if not ratios or len(ratios) < len(budgets):
        return None
    low, high = min(ratios), max(ratios)
    times = f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
    return (
        f"With selection, encoding and downlink charged too, and training left out, "
        f"{display_name(method)} spent {times} times the joules of {display_name(other)}."
    )


def _training_share(cells: Sequence[CellSummary]) -> str | None:
    """Says when the rounds' exchange hardly matters beside local training."""
    shares = []
    for cell in cells:
        train = cell.phases.get("train")
        if train is not None and cell.total is not None and cell.total.value_j > 0:
            shares.append(train.value_j / cell.total.value_j)
    if not shares:
        return None
    low, high = (f"{100 * share:.3g}" for share in (min(shares), max(shares)))
    span = f"{low} %" if low == high else f"{low} to {high} %"
    return f"Local training takes {span} of all joules; the selectors can change the rest."


def _label(cell: CellSummary) -> str:
    name = display_name(cell.method)
    return name if cell.method == "dense" else f"{name} {cell.budget}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
