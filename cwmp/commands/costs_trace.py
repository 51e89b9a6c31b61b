"""``cwmp costs TRACE``: a trace to a cost file, straight from measurement."""

from __future__ import annotations

from pathlib import Path

import click

from profiler.console import ExampleCommand, force_option, json_option, output_option


@click.command(
    "from-trace",
    cls=ExampleCommand,
    epilog="cwmp costs out/trace.parquet -o out/costs.json",
    no_args_is_help=True,
)
@click.argument("trace", type=click.Path(path_type=Path))
@click.option(
    "--messages",
    type=click.Path(path_type=Path),
    help="Another trace of the model: its encode, send and select in the place of TRACE's.",
)
@output_option("The cost file to write.")
@force_option
@json_option
def from_trace(
    trace: Path, messages: Path | None, output: Path, force: bool, as_json: bool
) -> None:
    """Write the costs of the model that TRACE profiled, and print them.

    Each layer gets the line E(k) = a + c k of the layer it was measured as. Where updates were
    metered on a GPU, messages run on the CPU and are metered in a session of their own: give
    it as --messages.
    """
    from costmodels.from_trace import costs_from_trace
    from cwmp.commands.cost_table import write_costs
    from profiler.files import refuse_existing
    from profiler.trace import Trace

    refuse_existing(output, force=force)
    second = None if messages is None else Trace.load(messages)
    found = costs_from_trace(Trace.load(trace), second)
    write_costs(found, output, force=force, as_json=as_json)
