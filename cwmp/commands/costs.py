"""``cwmp costs``: cost files made of traces, shown, checked, compared and composed."""

from __future__ import annotations

import click

from profiler.console import LazyGroup

_DEFAULT = "from-trace"
COMMANDS = {
    _DEFAULT: (
        "cwmp.commands.costs_trace:from_trace",
        "Write costs straight from a trace; may be left out.",
    ),
    "show": ("cwmp.commands.costs_show:show", "Print a cost file."),
    "validate": ("cwmp.commands.costs_show:validate", "Say what is doubtful in cost files."),
    "diff": ("cwmp.commands.costs_diff:diff", "Which costs differ between two files."),
    "merge": ("cwmp.commands.costs_join:merge", "Files of one device as one."),
    "mix": ("cwmp.commands.costs_join:mix", "The average device of a fleet."),
    "link": ("cwmp.commands.costs_link:link", "Price sending by a published link."),
    "links": ("cwmp.commands.costs_link:links", "List the links with their sources."),
}


def _is_trace(argument: str) -> bool:
    """Whether *argument* is a trace's option or path; a bare word is a command, or mistyped."""
    return argument.startswith("-") or not argument.replace("-", "").isalpha()


class _TraceFirst(LazyGroup):
    """A group whose first argument may be a trace: then it is its first command's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in ctx.help_option_names and _is_trace(args[0]):
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "TRACE -o FILE [OPTIONS]")
        formatter.write_usage(ctx.command_path, "COMMAND [ARGS]...", prefix="       ")

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Example"):
            formatter.write("  cwmp costs out/trace.parquet -o out/costs.json\n")
            formatter.write("  cwmp costs show out/costs.json\n")


@click.group(cls=_TraceFirst, lazy=COMMANDS, no_args_is_help=True)
def costs() -> None:
    """Write the costs of the model that TRACE profiled, or work on cost files.

    'cwmp costs from-trace --help' has the options for a trace. One called like a command is
    given as ./show.
    """
