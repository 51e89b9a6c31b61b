"""``cwmp costs diff``: which costs differ between two files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from profiler.console import ExampleCommand, json_option, print_json, print_table
from profiler.units import format_scaled

if TYPE_CHECKING:
    from costmodels.composition.differences import Change, Differences, Ratio


@click.command(cls=ExampleCommand, epilog="cwmp costs diff old.json new.json", no_args_is_help=True)
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@json_option
def diff(a: Path, b: Path, as_json: bool) -> None:
    """Print the costs in B over those in A, layer by layer, with 95 % intervals.

    E is compared at one k, in the middle of what both measured; c is what a further entry (or
    byte, or example) costs there.
    """
    from costmodels.composition.differences import diff as compare
    from costmodels.costfile import CostFile

    found = compare(CostFile.load(a), CostFile.load(b))
    if as_json:
        print_json(_document(found))
    else:
        _print(found, a, b)


def _print(found: Differences, a: Path, b: Path) -> None:
    from cwmp.commands.cost_table import echo

    if found.changes:
        print_table(
            f"{b} over {a}",
            ["layer", "operation", "E [95 %]", "c [95 %]", ""],
            [
                [
                    change.owner,
                    f"{change.operation}, {change.pattern}",
                    _cell(change.energy),
                    _cell(change.slope),
                    "" if change.allows_equal else "differs",
                ]
                for change in found.changes
            ],
        )
        click.echo()
        echo(f"{len(found.differing)} of {len(found.changes)} differ by more than their intervals.")
    else:
        echo("The files have no operation in common.")
    for path, names in ((a, found.only_a), (b, found.only_b)):
        if names:
            echo(f"only in {path}: {'; '.join(names)}")


def _cell(ratio: Ratio) -> str:
    high = "-" if ratio.high is None else format_scaled(ratio.high, 0)
    return f"{format_scaled(ratio.value, 0)} [{format_scaled(ratio.low, 0)}, {high}]"


def _document(found: Differences) -> dict[str, Any]:
    return {
        "changes": [_change(change) for change in found.changes],
        "only_a": list(found.only_a),
        "only_b": list(found.only_b),
    }


def _change(change: Change) -> dict[str, Any]:
    ratios = {"energy": change.energy, "slope": change.slope}
    return {
        "owner": change.owner,
        "operation": change.operation,
        "pattern": change.pattern,
        "k": change.k,
        **{
            name: {"value": ratio.value, "low": ratio.low, "high": ratio.high}
            for name, ratio in ratios.items()
        },
        "allows_equal": change.allows_equal,
    }
