"""``cwmp compare``: which layers' costs differ between two traces."""

from __future__ import annotations

import shutil
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import click

from profiler.compare import Comparison, Row, compare_traces
from profiler.console import ExampleCommand, json_option, print_json, print_table
from profiler.errors import MissingExtraError
from profiler.trace import Trace
from profiler.units import format_si

_LISTED = 12
_LONGEST = 50
_PATH = click.Path(path_type=Path, dir_okay=False)


@click.command(cls=ExampleCommand, epilog="cwmp compare before.parquet after.parquet --margin 0.1")
@click.argument("a", type=_PATH, metavar="A.trace")
@click.argument("b", type=_PATH, metavar="B.trace")
@click.option(
    "--margin", default=0.05, show_default=True, help="Share within which costs count as equal."
)
@click.option(
    "--level", default=0.05, show_default=True, help="Chance of one false finding in a table."
)
@click.option(
    "--systematic",
    nargs=2,
    type=float,
    metavar="A B",
    help="Shares by which the two meters may be off, as for two boards of one kind.",
)
@json_option
def compare(
    a: Path,
    b: Path,
    margin: float,
    level: float,
    systematic: tuple[float, float] | None,
    as_json: bool,
) -> None:
    """Which layers' costs differ between two traces, B against A, and by how much.

    Every cell that both traces have is tested, and the tests are corrected for their number
    (Holm). 'cannot tell' is not 'equal': each row says what would have been found.
    """
    found = compare_traces(_load(a), _load(b), margin=margin, level=level, systematic=systematic)
    if as_json:
        print_json({"a": str(a), "b": str(b)} | found.as_dict())
        return
    click.secho(f"B = {b.name} against A = {a.name}", bold=True)
    if found.one_session:
        click.echo("A and B are one session: that they agree says nothing; compare two runs.")
    _print_metadata(found)
    _print_family("cells: marginal joules a call", found.cells, found)
    if found.fits:
        _print_family("lines E(k) = a + c k: a in J a call, c in J a unit of k", found.fits, found)
    _print_summary(found)


def _load(path: Path) -> Trace:
    try:
        return Trace.load(path)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{path}: reading traces needs pandas: pip install pandas"
        ) from error


def _print_metadata(found: Comparison) -> None:
    if not found.metadata:
        click.echo("They were made with the same device, meter, governor and software.")
    else:
        rows = [[each.name, _short(each.a), _short(each.b)] for each in found.metadata]
        click.echo("They were not made alike:")
        print_table("", ["", "A", "B"], rows)
    click.echo(f"gain errors of the meters: {_gains(found)}\n")


def _gains(found: Comparison) -> str:
    if found.same_gain:
        return "one kind of device and meter; they cancel in B/A if it is the same board"
    if None in found.systematic:
        return "unknown, and not in the intervals; --systematic A B gives them"
    a, b = (f"{100 * (gain or 0):g} %" for gain in found.systematic)
    return f"A {a}, B {b}; the last interval includes them"


def _print_family(title: str, rows: Sequence[Row], found: Comparison) -> None:
    """A row a comparison; B's own joules are left to --json."""
    widened = any(row.ratio_with_gain for row in rows)
    columns = ["", "A", "B/A", f"{_sure(found)} interval"]
    columns += ["with gain"] * widened + ["finds", "verdict"]
    table = []
    for row in rows:
        contrast = row.contrast
        cells = [
            f"{row.operation} {row.layer} {row.pattern} {row.quantity}",
            format_si(contrast.a.mean, "J"),
            "-" if contrast.ratio is None else f"{contrast.ratio:.3g}",
            _interval(contrast.ratio_interval),
        ]
        cells += [_interval(row.ratio_with_gain)] * widened
        table.append([*cells, _percent(contrast.detectable), _verdict(row, found)])
    click.secho(f"{title}; {len(rows)} compared", bold=True)
    print_table("", columns, table)
    click.echo()


def _verdict(row: Row, found: Comparison) -> str:
    contrast = row.contrast
    low, high = contrast.difference_interval
    sharper = "*" if contrast.differs and low <= 0 <= high else ""
    small = f", within {100 * found.margin:g} %" if contrast.differs and contrast.agrees else ""
    return f"{contrast.verdict}{sharper}{small}"


def _print_summary(found: Comparison) -> None:
    verdicts = Counter(row.contrast.verdict for row in found.cells)
    ratios = [row.contrast.ratio for row in found.cells if row.contrast.ratio is not None]
    layers = found.layers_that_differ
    lines = [
        f"differs {verdicts['differs']}, agrees within {100 * found.margin:g} % "
        f"{verdicts['agrees']}, cannot tell {verdicts['cannot tell']}, of {len(found.cells)} cells",
        f"layers that differ: {', '.join(layers) if layers else 'none was found'}",
    ]
    if ratios:
        lines.append(f"median B/A over the cells: {median(ratios):.3g}")
    if found.unmatched:
        lines.append(f"not compared: {len(found.unmatched)} cells")
        shown = list(found.unmatched.items())[:_LISTED]
        lines += [f"- {name}: {why}" for name, why in shown]
        if len(found.unmatched) > _LISTED:
            lines.append("- ... (--json lists all)")
    lines += [
        "intervals: they hold for all rows of a table together (Bonferroni). Verdicts are Holm's, "
        "which is sharper: a row may differ though its interval reaches 1 (*), or agree though it "
        "reaches beyond the margin",
        "finds: the difference that would have been found 4 times in 5",
    ]
    if not found.one_session:
        lines.append(
            "one session each: what changed between the sessions, the room's temperature too, is "
            "in every row"
        )
    width = max(shutil.get_terminal_size().columns, 40)
    for line in lines:
        click.echo(textwrap.fill(line, width, subsequent_indent="  ", break_on_hyphens=False))


def _percent(share: float | None) -> str:
    if share is None:
        return "-"
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def _sure(found: Comparison) -> str:
    return f"{100 * (1 - found.level):g} %"


def _interval(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.3g} to {interval[1]:.3g}"


def _short(value: object) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."
