"""``cwmp doctor``: what on this host spoils a measurement, what it costs, what mends it."""

from __future__ import annotations

import click

from profiler.checks.finding import Finding
from profiler.console import REFUSED, ExampleCommand, json_option, print_json, say
from profiler.doctor import Diagnosis, diagnose
from profiler.host_noise import MOST_BLOCKS, HostNoise
from profiler.listing import print_labelled, quantity

_HEADINGS = {"spoils": "SPOILS", "widens": "widens", "note": "note"}


@click.command(cls=ExampleCommand, epilog="cwmp doctor --no-measure --json")
@click.option("--meter", "spec", default="auto", show_default=True, help="auto or NAME[:ARGUMENT].")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda:N.")
@click.option(
    "--measure/--no-measure",
    default=True,
    help="Measure this host's noise: equal work, metered in pairs for some 5 s.",
)
@click.option(
    "--strict", is_flag=True, help="Exit with 2 where something spoils measurements (for scripts)."
)
@json_option
def doctor(spec: str, device: str, measure: bool, strict: bool, as_json: bool) -> None:
    """Find what on this host spoils a measurement, how much it costs, and what mends it.

    Nothing is changed; the commands shown are for you to run. Findings are no errors: the exit
    code is 0 unless --strict is given.
    """
    if not as_json:
        say(f"looking at this host for {'some 10 s' if measure else 'a second'} ...")
    found = diagnose(spec, device=device, measure=measure)
    if as_json:
        print_json(found.as_dict())
    else:
        print_diagnosis(found)
    if strict and found.spoiled:
        raise click.exceptions.Exit(REFUSED)


def print_diagnosis(found: Diagnosis) -> None:
    """The meter, each finding, and what the host's noise costs."""
    click.secho(_meter_line(found), bold=True)
    click.echo()
    for finding in found.findings:
        _print_finding(finding)
    if not found.findings:
        click.echo("Nothing was found that would spoil a measurement.\n")
    if found.noise is not None:
        _print_noise(found.noise, found.meter.origin if found.meter else "measured")
    else:
        print_labelled("noise", f"not measured: {found.no_noise_because}")


def _meter_line(found: Diagnosis) -> str:
    info = found.meter
    if info is None:
        return f"NOTHING HERE MEASURES ENERGY: {found.no_noise_because}"
    if info.origin != "measured":
        return f"NOTHING HERE MEASURES ENERGY: '{info.name}' only models it ({info.assumptions[0]})"
    return f"meter: {info.name} ({info.device}), rails: {' + '.join(info.selected)}"


def _print_finding(finding: Finding) -> None:
    click.secho(f"{_HEADINGS[finding.severity]}: {finding.name}", bold=True)
    print_labelled("what", finding.what)
    print_labelled("effect", f"{finding.effect} ({finding.basis})")
    print_labelled("remedy", finding.remedy)
    print_labelled("seen", finding.evidence)
    click.echo()


def _print_noise(noise: HostNoise, origin: str) -> None:
    low, high = noise.scatter_interval
    fewest, most = (_count(blocks) for blocks in noise.blocks_interval)
    click.secho(f"noise of this host ({origin})", bold=True)
    for label, text in (
        (
            "test",
            f"{noise.pairs} pairs of windows of equal work, {quantity(noise.window_s, 's')} each, "
            f"at {quantity(noise.power_w, 'W')}",
        ),
        (
            "scatter",
            f"{_percent(noise.scatter)} of a window's energy (95 %: {_percent(low)} to "
            f"{_percent(high)}); the counter's steps alone: {_percent(noise.steps_scatter)}; "
            f"the windows' lengths: {_percent(noise.time_scatter)}",
        ),
        (
            "costs",
            f"blocks needed for {100 * noise.width:g} %: {_count(noise.blocks)} ({fewest} to "
            f"{most}) instead of {_count(noise.blocks_by_steps)}",
        ),
        (
            "",
            "for a difference as large as a window's energy; one of a tenth of it needs "
            "100 times as many",
        ),
        ("varies", _what_varies(noise)),
    ):
        print_labelled(label, text)


def _what_varies(noise: HostNoise) -> str:
    if noise.scatter <= 1.5 * noise.steps_scatter:
        return "little more than the counter's steps: this host is quiet enough for its counter"
    if noise.time_scatter > 0.7 * noise.scatter:
        return "how long equal work takes: look at other load, stolen time and the clock"
    return "power, at equal time: look at other load, temperature and turbo"


def _percent(share: float) -> str:
    return "under 0.001 %" if share < 1e-5 else f"{100 * share:.2g} %"


def _count(blocks: int) -> str:
    return f"over {MOST_BLOCKS}" if blocks >= MOST_BLOCKS else str(blocks)
