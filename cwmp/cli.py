"""The command ``cwmp``: thin, and quick to start; see `cwmp.commands` for each command."""

from __future__ import annotations

from typing import NoReturn

import click

from profiler.cli import COMMANDS as PROFILER_COMMANDS
from profiler.console import LazyGroup, run

COMMANDS = {
    "demo": ("cwmp.commands.demo:demo", "Profile, fit and run CWMP here, in a few minutes."),
    **PROFILER_COMMANDS,
    "profile": ("cwmp.commands.profile:profile", "Measure a model's layers into a trace."),
    "trace": ("cwmp.commands.trace:trace", "Make a trace of a session's journal."),
    "receive": ("cwmp.commands.receive:receive", "Drain payloads sent by a profiled machine."),
    "costs": ("cwmp.commands.costs:costs", "Write costs straight from a trace; compose them."),
    "fit": ("cwmp.commands.fit:fit", "Fit a cost model to traces."),
    "predict": ("cwmp.commands.predict:predict", "Write costs for a model never profiled."),
    "transfer": ("cwmp.commands.transfer:transfer", "Correct a cost model for another device."),
    "predict-gain": (
        "cwmp.commands.predict_gain:predict_gain",
        "Say what weighing by cost can gain here.",
    ),
    "run": ("cwmp.commands.run:run", "Train federated under joule budgets."),
    "study": ("cwmp.commands.study:study", "Run a study from its file, or go on with it."),
    "report": ("cwmp.commands.report:report", "Write one HTML page of a study or a run."),
    "flower": ("cwmp.commands.flower:flower", "Run a federated job with Flower."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cwmp")
def cli() -> None:
    """Measure the energy of model updates, learn what a parameter costs, and spend joules well."""


def main() -> NoReturn:
    """Entry point of the installed command."""
    run(cli)
