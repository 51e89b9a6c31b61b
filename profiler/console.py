"""What every command shares: lazy subcommands, one-line errors, tables and ``--json``.

Results go to stdout, progress and errors to stderr. Exit codes: 0 done, 2 refused, 130
interrupted with what was measured kept.
"""

from __future__ import annotations

import importlib
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from profiler.errors import CwmpError

DONE, REFUSED, INTERRUPTED = 0, 2, 130
_Function = TypeVar("_Function", bound=Callable[..., Any])


class LazyGroup(click.Group):
    """A command group whose subcommands are imported when they are called.

    Args:
        lazy: name -> ("module:command", one line of help).
    """

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return None
        module, _, attribute = self.lazy[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.lazy.items()])


class ExampleCommand(click.Command):
    """A command whose epilog, an example, is printed as it stands."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.epilog:
            with formatter.section("Example"):
                for line in self.epilog.strip().splitlines():
                    formatter.write(f"  {line.strip()}\n")


class Interrupted(click.exceptions.Exit):
    """Leave with 130 after an interruption whose partial result was kept."""

    def __init__(self) -> None:
        super().__init__(INTERRUPTED)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that it can stop what it started."""
    if threading.current_thread() is not threading.main_thread():  # signals are not for it
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run(group: click.Group, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run *group*, turn the project's errors into one line on stderr, and exit."""
    try:
        code = group.main(args=arguments, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(REFUSED)
    except click.ClickException as error:
        _complain(" ".join(error.format_message().split()))
        sys.exit(REFUSED)
    except (KeyboardInterrupt, click.Abort):
        _complain("interrupted")
        sys.exit(INTERRUPTED)
    except CwmpError as error:
        _complain(" ".join(str(error).split()))
        sys.exit(REFUSED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(DONE)
    sys.exit(code if isinstance(code, int) else DONE)


def json_option(function: _Function) -> _Function:
    """Add ``--json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Machine-readable output on stdout, nothing else."
    )(function)


def output_option(meaning: str) -> Callable[[_Function], _Function]:
    """Add a required ``-o FILE``; *meaning* is its help."""
    return click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path, dir_okay=False),
        required=True,
        help=meaning,
    )


def force_option(function: _Function) -> _Function:
    """Add ``--force``."""
    return click.option("--force", is_flag=True, help="Replace an existing output file.")(function)


def print_json(value: Any) -> None:
    """Print one JSON document; NaN is a bug and raises."""
    click.echo(json.dumps(value, indent=1, allow_nan=False))


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, note: str = ""
) -> None:
    """Print an aligned table; numbers (cells that start with a digit) go to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        numeric = bool(rows) and all(_numeric(row[number]) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console(soft_wrap=False, highlight=False)
    console.print(table)
    if note:
        console.print(Text(note))


def say(text: str) -> None:
    """One line of progress on stderr."""
    click.echo(text, err=True)


def _numeric(cell: str) -> bool:
    return not cell or cell in ("-", "n/a") or cell.lstrip("<≤+-−~[( ")[:1].isdigit()


def _complain(text: str) -> None:
    click.echo(f"cwmp: {text}", err=True)
