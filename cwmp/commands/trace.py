"""``cwmp trace``: make a trace of a session's journal."""

from __future__ import annotations

from pathlib import Path

import click

from profiler.console import ExampleCommand, force_option, json_option, output_option, print_json


@click.command(cls=ExampleCommand, epilog="cwmp trace lenet.journal -o lenet.parquet")
@click.argument("journal", type=click.Path(path_type=Path))
@output_option("The trace, .parquet or .csv.")
@force_option
@json_option
def trace(journal: Path, output: Path, force: bool, as_json: bool) -> None:
    """Make a trace of JOURNAL: of a session killed midway, or recorded where pandas is missing.

    The journal stays as it is; a session that did not end can still be resumed from it.
    """
    from profiler.files import refuse_existing
    from profiler.from_journal import trace_of_journal
    from profiler.trace import check_suffix

    check_suffix(output)
    refuse_existing(output, force=force)
    made = trace_of_journal(journal)
    made.save(output, force=force)
    meta = made.metadata
    if as_json:
        names = ("model", "device", "meter", "origin", "dropped")
        print_json(
            {
                "trace": str(output),
                **{name: getattr(meta, name) for name in names},
                "remarks": list(meta.remarks),
                "blocks": len(made.blocks),
            }
        )
        return
    click.echo(
        f"{output}: {len(made.blocks)} blocks of {meta.model} on {meta.device} by {meta.meter}, "
        f"{meta.origin}"
    )
    for remark in meta.remarks:
        click.echo(remark)
