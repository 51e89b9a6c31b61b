"""``cwmp costs show`` and ``validate``: read cost files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from profiler.console import DONE, REFUSED, ExampleCommand, json_option, print_json


@click.command(cls=ExampleCommand, epilog="cwmp costs show costs.json", no_args_is_help=True)
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def show(file: Path, as_json: bool) -> None:
    """Print the costs in FILE: layers, messages, training, and what they assume."""
    from costmodels.costfile import CostFile
    from cwmp.commands.cost_table import print_costs

    found = CostFile.load(file)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print_costs(found)


@click.command(cls=ExampleCommand, epilog="cwmp costs validate costs.json", no_args_is_help=True)
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
@json_option
@click.pass_context
def validate(ctx: click.Context, files: tuple[Path, ...], as_json: bool) -> None:
    """Say what is wrong or doubtful in each of FILES.

    An error keeps a selector from spending by the file: exit code 2. A warning says what its
    joules are worth: exit code 0.
    """
    from costmodels.composition.checks import validate as check
    from cwmp.commands.cost_table import echo

    found = {str(file): check(file) for file in files}
    errors = sum(s.severity == "error" for said in found.values() for s in said)
    if as_json:
        print_json({file: [asdict(s) for s in said] for file, said in found.items()})
        ctx.exit(REFUSED if errors else DONE)
    for file, said in found.items():
        refused = sum(suspicion.severity == "error" for suspicion in said)
        click.echo(f"{file}: {_count(refused, 'error')}, {_count(len(said) - refused, 'warning')}")
        for suspicion in said:
            where = f"{suspicion.where}: " if suspicion.where else ""
            echo(f"{where}{suspicion.what}", bullet=f"  {suspicion.severity}  ")
    ctx.exit(REFUSED if errors else DONE)


def _count(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'' if number == 1 else 's'}"
