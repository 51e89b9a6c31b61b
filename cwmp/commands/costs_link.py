"""``cwmp costs link`` and ``links``: sending priced by published figures."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from profiler.console import (
    ExampleCommand,
    force_option,
    json_option,
    output_option,
    print_json,
    print_table,
)
from profiler.units import format_scaled, format_si, prefix, si_exponent

if TYPE_CHECKING:
    from costmodels.composition.links import Bounds, Link


@click.command(
    cls=ExampleCommand,
    epilog="cwmp costs link costs.json --link wifi-uplink --rate 20e6 -o phone.json",
    no_args_is_help=True,
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--link", "name", required=True, help="One of 'cwmp costs links'.")
@click.option("--rate", "rate_bps", type=float, help="Payload bits a second; else the link's own.")
@click.option(
    "--receivers", type=int, default=1, show_default=True, help="Who get each message, in turn."
)
@click.option(
    "--base/--no-base",
    "include_base",
    default=None,
    help="Count the base power; else only where it is the transfer's alone.",
)
@output_option("The cost file to write.")
@force_option
@json_option
def link(
    file: Path,
    name: str,
    rate_bps: float | None,
    receivers: int,
    include_base: bool | None,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Write the costs in FILE with sending priced by a link, in the place of what was measured."""
    from costmodels.composition.compose import with_link
    from costmodels.composition.link_table import find_link
    from costmodels.costfile import CostFile
    from cwmp.commands.cost_table import write_costs
    from profiler.files import refuse_existing

    refuse_existing(output, force=force)
    found = with_link(
        CostFile.load(file),
        find_link(name),
        rate_bps=rate_bps,
        receivers=receivers,
        include_base=include_base,
    )
    write_costs(found, output, force=force, as_json=as_json)


@click.command(cls=ExampleCommand, epilog="cwmp costs links")
@json_option
def links(as_json: bool) -> None:
    """List what a byte and a transfer cost over each link, and who says so."""
    from costmodels.composition.link_table import LINKS

    if as_json:
        print_json([_document(found) for found in LINKS.values()])
        return
    print_table(
        "published link energies, modelled",
        ["link", "a byte [95 %]", "a transfer", "at, bit/s", "checked"],
        [
            [
                found.name,
                _range(found.byte_j()),
                _value(found.transfer_j()),
                _rate(found),
                found.verified,
            ]
            for found in LINKS.values()
        ],
    )
    _print_notes(list(LINKS.values()))


def _print_notes(found: list[Link]) -> None:
    from cwmp.commands.cost_table import echo

    click.echo()
    echo(
        "Intervals are assumed, but of wifi-survey: a factor of 2 around the source's figures "
        "(10 for Ethernet). 'at' is the rate that a base power is shared over, '*' where that "
        "power is not the transfer's alone and left out unless --base counts it; it is fixed for "
        "BLE and LoRa, and assumed elsewhere: give yours as --rate."
    )
    click.echo()
    by_source: dict[str, list[str]] = {}
    for one in found:
        by_source.setdefault(one.citation, []).append(one.name)
    for citation, names in by_source.items():
        echo(f"{', '.join(names)}: {citation}", bullet="- ")


def _value(bounds: Bounds | None) -> str:
    return "-" if bounds is None else format_si(bounds.value, "J")


def _range(bounds: Bounds) -> str:
    exponent = si_exponent(float(f"{bounds.value:.3g}"))
    value = format_scaled(bounds.value, exponent)
    low, high = (format_scaled(limit, exponent, 2) for limit in (bounds.low, bounds.high))
    return f"{value} [{low}, {high}] {prefix(exponent)}J"


def _rate(found: Link) -> str:
    if found.base_w is None:
        return "-"
    star = "*" if found.whole_device else ""
    return f"{format_si(found.rate_bps, '')}{star}"


def _document(found: Link) -> dict[str, object]:
    transfer = found.transfer_j()
    return {
        **asdict(found),
        "origin": found.origin,
        "byte_j": found.byte_j()._asdict(),
        "transfer_j": None if transfer is None else transfer._asdict(),
    }
