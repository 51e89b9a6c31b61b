"""``cwmp devices``: what is there to measure with."""

from __future__ import annotations

from dataclasses import asdict

import click

from profiler.console import ExampleCommand, json_option, print_json
from profiler.errors import CwmpError
from profiler.listing import print_source
from profiler.meters import discover, meter_source
from profiler.meters.base import SourceReport
from profiler.probe import ProbeResult
from profiler.probe import probe as probe_meter

_PROBE_S = 1.0


@click.command(cls=ExampleCommand, epilog="cwmp devices --no-probe --json")
@click.option(
    "--probe/--no-probe",
    "probing",
    default=True,
    help="Watch each usable source for a second: update period, quantum, idle power.",
)
@json_option
def devices(probing: bool, as_json: bool) -> None:
    """List every energy source: its rails, how finely it counts, or why it is not usable.

    CWMP_SYSFS=/host/sys looks under another root than /sys.
    """
    found = []
    for report in discover():
        probed, failure = _probe_source(report) if probing and report.usable else (None, None)
        found.append((report, probed, failure))
    if as_json:
        print_json(
            {
                "sources": [
                    {
                        **asdict(report),
                        "probe": probed.as_dict() if probed else None,
                        "probe_error": failure,
                    }
                    for report, probed, failure in found
                ]
            }
        )
        return
    for report, probed, failure in found:
        print_source(report, probed, failure)
    click.echo("external:PLACE reads a meter of your own. No hardware, but meters too:")
    click.echo("replay:FILE plays a recording, fake:WATTS a constant.")


def _probe_source(report: SourceReport) -> tuple[ProbeResult | None, str | None]:
    """Probe all of a source's rails, or where some may not be read the counted ones."""
    every = [rail.name for rail in report.rails]
    counted = [rail.name for rail in report.rails if rail.counted]
    failure = None
    for rails in (every, counted):
        try:
            meter = meter_source(report.source).open(rails=rails)
            try:
                return probe_meter(meter, max_time_s=_PROBE_S), None
            finally:
                meter.close()
        except CwmpError as error:
            failure = " ".join(str(error).split())
    return None, failure
