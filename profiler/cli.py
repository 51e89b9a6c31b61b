"""The commands that need neither torch nor pandas: what a board can run by itself."""

from __future__ import annotations

from typing import NoReturn

import click

from profiler.console import LazyGroup, run

COMMANDS = {
    "devices": (
        "profiler.commands.devices:devices",
        "List energy sources, usable or not, and why.",
    ),
    "doctor": ("profiler.commands.doctor:doctor", "What spoils measurements here, and remedies."),
    "measure": ("profiler.commands.measure:measure", "Joules of a command, with an interval."),
    "compare": ("profiler.commands.compare:compare", "Which layers differ between two traces."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Measure energy on this device."""


def main() -> NoReturn:
    """Entry point of the light, torch-free installation."""
    run(cli)
