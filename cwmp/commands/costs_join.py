"""``cwmp costs merge`` and ``mix``: several cost files as one."""

from __future__ import annotations

from pathlib import Path

import click

from profiler.console import ExampleCommand, force_option, json_option, output_option
from profiler.errors import InputError


@click.command(
    cls=ExampleCommand,
    epilog="cwmp costs merge layers.json messages.json -o costs.json",
    no_args_is_help=True,
)
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
@output_option("The cost file to write.")
@force_option
@json_option
def merge(files: tuple[Path, ...], output: Path, force: bool, as_json: bool) -> None:
    """Write all that FILES price, of one device and model, as one cost file.

    What two of them price must be the same in both.
    """
    from costmodels.composition.merging import merge as merge_files
    from costmodels.costfile import CostFile
    from cwmp.commands.cost_table import write_costs
    from profiler.files import refuse_existing

    refuse_existing(output, force=force)
    found = merge_files([CostFile.load(file) for file in files])
    write_costs(found, output, force=force, as_json=as_json)


@click.command(
    cls=ExampleCommand,
    epilog="cwmp costs mix phone.json:0.7 board.json:0.3 -o fleet.json",
    no_args_is_help=True,
)
@click.argument("files", metavar="FILE:SHARE...", nargs=-1, required=True)
@output_option("The cost file to write.")
@force_option
@json_option
def mix(files: tuple[str, ...], output: Path, force: bool, as_json: bool) -> None:
    """Write the expected costs of a device drawn from a fleet.

    Each FILE is of the same model on another device; SHAREs are positive and are scaled to add
    up to one.
    """
    from costmodels.composition.mixing import mix as mix_files
    from costmodels.costfile import CostFile
    from cwmp.commands.cost_table import write_costs
    from profiler.files import refuse_existing

    refuse_existing(output, force=force)
    shares = [_share(text) for text in files]
    found = mix_files([(CostFile.load(path), share) for path, share in shares])
    write_costs(found, output, force=force, as_json=as_json)


def _share(text: str) -> tuple[Path, float]:
    path, colon, share = text.rpartition(":")
    try:
        number = float(share)
    except ValueError:
        number = 0.0
    if not (colon and path and number > 0):
        raise InputError(f"{text!r} is not FILE:SHARE with a positive share, as in phone.json:0.7")
    return Path(path), number
