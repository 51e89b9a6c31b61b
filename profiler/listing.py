"""Energy sources as text: a table of rails, or the cause and the remedy."""

from __future__ import annotations

import shutil
import textwrap

import click

from profiler.console import print_table
from profiler.meters.base import Rail, SourceReport
from profiler.probe import ProbeResult

_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n"))


NOT_SEEN = "not seen"
"""In place of 0 joules that nothing bounds: a counter that did not move."""


def quantity(value: float, unit: str) -> str:
    """*value* with three digits and an SI prefix: ``1.05 ms``, ``262 kJ``, ``0 J``."""
    if value == 0:
        return f"0 {unit}"
    scale, prefix = next(
        (pair for pair in _PREFIXES if abs(value) >= 0.9995 * pair[0]), _PREFIXES[-1]
    )
    scaled = value / scale
    decimals = 2 if abs(scaled) < 9.995 else 1 if abs(scaled) < 99.95 else 0
    return f"{scaled:.{decimals}f} {prefix}{unit}"


def print_source(report: SourceReport, probed: ProbeResult | None, failure: str | None) -> None:
    """One source of ``cwmp devices``.

    Args:
        report: what looking for it found.
        probed: how it behaves, where it was probed.
        failure: why probing failed, where it did.
    """
    if not report.usable and report.device is None:
        _print_absent(report)
    elif not report.usable:
        click.secho(f"{report.source}: not usable", bold=True)
        for label, text in (
            ("tried", report.path),
            ("cause", report.cause or "unknown"),
            ("remedy", report.remedy or "none known"),
        ):
            print_labelled(label, text)
    else:
        click.secho(f"{report.source}: {report.device}, counts {report.unit}", bold=True)
        rows = [_row(rail, probed) for rail in report.rails]
        columns = ["rail", "counted", "period", "p99", "quantum", "at rest"]
        print_table("", columns, rows)
        print_labelled("path", report.path)
        if failure:
            print_labelled("probe", f"failed: {failure}")
    click.echo()


def _print_absent(report: SourceReport) -> None:
    """Hardware that is not here, in two lines where they are long enough."""
    click.secho(_filled(f"{report.source}: not usable: {report.cause}", "", "  "), bold=True)
    click.echo(_filled(f"tried {report.path}; remedy: {report.remedy}", "  ", "  "))


def _row(rail: Rail, probed: ProbeResult | None) -> list[str]:
    counted = "yes" if rail.counted else f"no: {rail.excluded_because}"
    found = None
    if probed is not None:
        found = next((each for each in probed.rails if each.rail == rail.name), None)
    if found is None:
        return [rail.name, counted, "-", "-", "-", "-"]
    period = "no update" if found.period_s is None else quantity(found.period_s, "s")
    p99 = "-" if found.period_p99_s is None else quantity(found.period_p99_s, "s")
    quantum = "-" if found.quantum_j is None else quantity(found.quantum_j, "J")
    return [rail.name, counted, period, p99, quantum, quantity(found.idle_power_w, "W")]


def print_labelled(label: str, text: str) -> None:
    """``  label   text``, wrapped; further lines of *text* are commands and stay whole."""
    first, *commands = text.splitlines()
    indent = " " * 10
    click.echo(_filled(first, f"  {label:<8}", indent))
    for line in commands:
        click.echo(f"{indent}{line}")


def _filled(text: str, indent: str, further: str) -> str:
    return textwrap.fill(
        text,
        max(shutil.get_terminal_size().columns, 40),
        initial_indent=indent,
        subsequent_indent=further,
        break_long_words=False,
        break_on_hyphens=False,
    )
