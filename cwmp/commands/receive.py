"""``cwmp receive``: the other end of ``cwmp profile --peer``."""

from __future__ import annotations

from dataclasses import asdict

import click

from cwmp.transport import DEFAULT_PORT, Receiver
from profiler.console import ExampleCommand, Interrupted, json_option, print_json, say


@click.command(cls=ExampleCommand, epilog="cwmp receive --host 0.0.0.0 --port 7533")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; 0.0.0.0 lets other machines in, so use a network you trust.",
)
@click.option("--port", default=DEFAULT_PORT, show_default=True, type=click.IntRange(0, 65535))
@json_option
def receive(host: str, port: int, as_json: bool) -> None:
    """Drain payloads sent by a machine that is being profiled, until Ctrl-C.

    Nothing of what arrives is kept. With --json the totals are printed at the end.
    """
    with Receiver(host, port) as receiver:
        address, number = receiver.address
        shown = f"[{address}]" if ":" in address else address
        say(f"draining on {shown}:{number}; Ctrl-C ends")
        try:
            receiver.serve()
        except KeyboardInterrupt:
            totals = asdict(receiver.received)
            if as_json:
                print_json({"host": address, "port": number, **totals})
            else:
                click.echo(", ".join(f"{key}: {value}" for key, value in totals.items()))
            raise Interrupted from None
