"""``cwmp report``: a study as one HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from profiler.console import ExampleCommand, force_option, say

_EPILOG = """
cwmp report out/digits
cwmp report results -o page.html
"""


@click.command(cls=ExampleCommand, epilog=_EPILOG, no_args_is_help=True)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The page.  [default: FOLDER/report.html]",
)
@force_option
def report(folder: Path, output: Path | None, force: bool) -> None:
    """Write one self-contained HTML page of the study, or of the 'cwmp run', in FOLDER.

    It holds pictures, tables and where every number comes from; it reads without a network and
    prints. A study that still runs gives a page of the runs it has.
    """
    from cwmp.report.page import load_folder, page_of
    from profiler.errors import InputFileError
    from profiler.files import refuse_existing, write_atomic

    if not folder.is_dir():
        raise InputFileError(f"{folder} is not a folder; name that of a study or of 'cwmp run'")
    path = output or folder / "report.html"
    refuse_existing(path, force=force)
    page = page_of(load_folder(folder))
    write_atomic(path, page.encode(), force=force)
    say(f"wrote {path}")
