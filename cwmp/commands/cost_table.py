"""A cost file as tables for an 80-column terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path

import click

from costmodels.costfile import CostFile, Estimate, OperationCost
from costmodels.spread import marginal_spread
from profiler.console import print_json, print_table, say
from profiler.errors import InputError
from profiler.units import common_exponent, format_scaled, format_si, prefix

SIGNIFICANT = 0.05
_LEGEND = {
    "A": "A: a is below detection; pooled from other layers, within its limit",
    "C": "C: c is below detection; pooled from other layers, within its limit",
    "K": "K: more lines follow at larger k, in the file; this is the one at low density",
}


def print_costs(costs: CostFile, pattern: str = "random") -> None:
    """Print layers, messages, training, spread and assumptions of *costs*."""
    _print_layers(costs, pattern)
    _print_others(costs)
    click.echo()
    echo(spread_sentence(costs, pattern))
    if costs.assumptions:
        click.echo("\nAssumptions")
    for sentence in costs.assumptions:
        echo(sentence, bullet="- ")


def write_costs(costs: CostFile, output: Path, *, force: bool, as_json: bool) -> None:
    """Save *costs* as *output*, then print them: as tables, or as the document that was saved."""
    costs.save(output, force=force)
    if as_json:
        print_json(costs.model_dump(mode="json"))
    else:
        print_costs(costs)
        say(f"wrote {output}")


def spread_sentence(costs: CostFile, pattern: str = "random") -> str:
    """How much c differs between layers, in one line: the most that weighing can use."""
    try:
        spread = marginal_spread(costs, pattern)
    except InputError as error:
        return str(error)
    pooled = f"; {spread.undetected} of {spread.layers} pooled" if spread.undetected else ""
    return (
        f"c differs between layers by a factor of {spread.ratio:.3g}, "
        f"{format_si(spread.lowest_j, 'J')} to {format_si(spread.highest_j, 'J')} an entry "
        f"({spread.parameter_ratio:.3g} between 10 % and 90 % of the parameters{pooled}). "
        f"{_significance(spread.p_equal)}"
    )


def _significance(p_equal: float | None) -> str:
    if p_equal is None:
        return "Too few layers are above detection to tell a spread from noise."
    if p_equal < SIGNIFICANT:
        return f"That is more than the intervals allow for equal costs (p = {p_equal:.2g})."
    return f"Their intervals also allow equal costs (p = {p_equal:.2g}): no spread was shown."


def _print_layers(costs: CostFile, pattern: str) -> None:
    found = [(layer, layer.find("update", pattern)) for layer in costs.layers]
    rows = [(layer, cost) for layer, cost in found if cost is not None]
    first = [cost.pieces[0] for _, cost in rows]
    factor = _common_factor([e for _, cost in rows for e in _estimates(cost)])
    a_unit = common_exponent(piece.a_j.value for piece in first if piece.a_j)
    c_unit = common_exponent(piece.c_j.value for piece in first)
    band = "" if factor else " [95 %]"
    flags = [_flags(cost) for _, cost in rows]
    print_table(
        f"{costs.model} on {costs.device}: update, {pattern} indices ({costs.origin})",
        [
            "layer",
            "kind",
            "n",
            f"a, {prefix(a_unit)}J/call{band}",
            f"c, {prefix(c_unit)}J/entry{band}",
            "",
        ],
        [
            [
                layer.name,
                layer.kind.partition(".")[0],
                str(layer.parameters),
                _cell(piece.a_j, a_unit, factor),
                _cell(piece.c_j, c_unit, factor),
                flag,
            ]
            for (layer, _), piece, flag in zip(rows, first, flags, strict=True)
        ],
        note=_notes(flags, factor),
    )


def _print_others(costs: CostFile) -> None:
    messages = [(f"{cost.operation}, {cost.pattern}", cost) for cost in costs.message]
    steps = [
        (f"train {module.name}", cost) for module in costs.modules for cost in module.operations
    ]
    rows = [*messages, *steps]
    if not rows:
        return
    flags = [_flags(cost) for _, cost in rows]
    factors = [_common_factor(_estimates(cost)) for _, cost in rows]
    if None in factors:  # a column of factors only where it says all of it
        factors = [None] * len(factors)
    lines = [
        [
            name,
            _with_unit(cost.pieces[0].a_j, "call", factor),
            _with_unit(cost.pieces[0].c_j, cost.unit, factor),
            f"{factor:.3g}" if factor else "-",
            flag,
        ]
        for (name, cost), factor, flag in zip(rows, factors, flags, strict=True)
    ]
    columns = ["operation", "a [95 %]", "c [95 %]", "95 % factor", ""]
    if not any(factors):
        lines, columns = [[*line[:3], line[4]] for line in lines], [*columns[:3], ""]
    payers = "; ".join(sorted({f"paid by the {cost.payer}" for _, cost in rows}))
    print_table(f"\nmessages and training, {payers}", columns, lines, note=_notes(flags, None))


def _estimates(cost: OperationCost) -> list[Estimate]:
    piece = cost.pieces[0]
    return [estimate for estimate in (piece.a_j, piece.c_j) if estimate is not None]


def _common_factor(estimates: Sequence[Estimate]) -> float | None:
    """f when every interval is [value / f, value f], as a prediction's are."""
    factors = [estimate.high / estimate.value for estimate in estimates]
    same = all(
        abs(factor / factors[0] - 1) < 1e-6 and abs(e.value / (e.low or 1e-99) / factor - 1) < 1e-6
        for factor, e in zip(factors, estimates, strict=True)
    )
    return factors[0] if factors and same else None


def _cell(estimate: Estimate | None, exponent: int, factor: float | None = None) -> str:
    if estimate is None:
        return "-"
    value, low, high = (
        format_scaled(number, exponent) for number in (estimate.value, estimate.low, estimate.high)
    )
    return value if factor else f"{value} [{low}, {high}]"


def _with_unit(estimate: Estimate | None, unit: str, factor: float | None) -> str:
    if estimate is None:
        return "-"
    exponent = common_exponent([estimate.value])
    return f"{_cell(estimate, exponent, factor)} {prefix(exponent)}J/{unit}"


def _flags(cost: OperationCost) -> str:
    piece = cost.pieces[0]
    return (
        ("A" if piece.a_j is not None and piece.a_j.below_detection else "")
        + ("C" if piece.c_j.below_detection else "")
        + ("K" if len(cost.pieces) > 1 else "")
    )


def _notes(flags: Sequence[str], factor: float | None) -> str:
    notes = [f"95 % intervals: from 1/{factor:.3g} to {factor:.3g} times each"] if factor else []
    notes += [text for letter, text in _LEGEND.items() if any(letter in flag for flag in flags)]
    return "\n".join(notes)


def echo(text: str, bullet: str = "") -> None:
    """Print *text* folded to the terminal's width; lines after the first stand under the text."""
    width = max(shutil.get_terminal_size().columns, 40)
    indent = " " * len(bullet)
    click.echo(textwrap.fill(text, width, initial_indent=bullet, subsequent_indent=indent))
