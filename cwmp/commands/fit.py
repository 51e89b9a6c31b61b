"""``cwmp fit``: traces, or a table of energies, to a model with its prices and tests printed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from profiler.console import (
    ExampleCommand,
    force_option,
    json_option,
    output_option,
    print_json,
    print_table,
    say,
)

if TYPE_CHECKING:
    from costmodels.costmodel import CostModel
    from costmodels.records import Coefficient
    from costmodels.tablefit import Estimator

_FILE = click.Path(path_type=Path)
_TABLES = (".csv", ".tsv", ".txt", ".dat", ".jsonl", ".ndjson")
_EPILOG = """
cwmp fit out/trace.parquet -o out/costmodel.json
cwmp fit conv.csv --columns conv.toml -o model.json --picture fit.png
"""
_ESTIMATORS = ("auto", "nnls", "hybrid")


@click.command(cls=ExampleCommand, epilog=_EPILOG, no_args_is_help=True)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=_FILE)
@output_option("The model to write.")
@click.option("--columns", type=_FILE, help="SOURCE is a table, and this TOML file its columns.")
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Of a table's fit: a .png or .svg to draw.",
)
@click.option(
    "--estimator",
    type=click.Choice(_ESTIMATORS),
    help="Of a table: prices alone (nnls), with a learned factor (hybrid), or where a test says "
    "that it helps (auto).  [default: auto]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the resampled intervals.")
@force_option
@json_option
def fit(
    sources: tuple[Path, ...],
    output: Path,
    columns: Path | None,
    picture: Path | None,
    estimator: Estimator | None,
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Fit a cost model to one or more traces of one device, or to a table of energies.

    Non-negative prices on relative error, tested by leaving out groups: of traces, one layer
    signature after the other; of a table, what --columns names.
    """
    from costmodels.fitting import fit_cost_model
    from profiler.errors import InputError
    from profiler.files import refuse_existing
    from profiler.trace import Trace

    refuse_existing(output, force=force)
    if columns is not None:
        from cwmp.commands.fit_table import fit_table

        if len(sources) > 1:
            raise InputError("one table at a time: join the tables, with a column that tells whose")
        asked = estimator or "auto"
        fit_table(sources[0], columns, output, picture, asked, seed, force=force, as_json=as_json)
        return
    if picture is not None or estimator is not None:
        raise InputError("--picture and --estimator go with a table: give --columns SPEC.toml")
    for path in sources:
        _refuse_table(path)
    model = fit_cost_model([Trace.load(path) for path in sources], seed=seed)
    model.save(output, force=force)
    if as_json:
        print_json(model.model_dump(mode="json"))
    else:
        print_model(model)
        say(f"wrote {output}")


def _refuse_table(path: Path) -> None:
    """Say what to do where *path* holds separated values that are no trace."""
    from profiler.errors import FileFormatError

    if path.suffix.lower() not in _TABLES or not path.is_file():
        return
    with path.open("rb") as stream:
        if stream.read(2) == b"# ":
            return
    raise FileFormatError(
        f"{path} is not a trace; if it is a table of measured energies, say what its columns "
        "mean: --columns SPEC.toml (docs/fit-your-own-data.md)"
    )


def print_model(model: CostModel) -> None:
    """Print prices with intervals, then what was tested, and whole steps beside modules."""
    from cwmp.commands.fit_tests import print_tests

    rows = [
        [found.name if number == 0 else "", price.feature, price_text(price), price_range(price)]
        for found in model.operations
        for number, price in enumerate(found.coefficients)
    ]
    print_table(
        f"prices on {model.device} ({model.origin} by {model.meter})",
        ["operation", "feature", "price [95 %]", "trained on"],
        rows,
        note="\n".join(_methods(model)),
    )
    print_tests(model)


def _methods(model: CostModel) -> list[str]:
    """How the prices' intervals were made, and for which operations."""
    by_method: dict[str, list[str]] = {}
    for found in model.operations:
        by_method.setdefault(found.interval_method, []).append(found.name)
    return [f"intervals of {', '.join(groups)}: {how}" for how, groups in by_method.items()]


def price_text(price: Coefficient) -> str:
    """The price with its interval, in a unit with a prefix that fits."""
    from profiler.units import common_exponent, format_scaled, prefix

    exponent = common_exponent([price.value or price.high])
    value, low, high = (
        format_scaled(number, exponent) for number in (price.value, price.low, price.high)
    )
    return f"{value} [{low}, {high}] {prefix(exponent)}{price.unit}"


def price_range(price: Coefficient) -> str:
    """The range of the price's feature in training."""
    low, high = f"{price.feature_low:.3g}", f"{price.feature_high:.3g}"
    return low if low == high else f"{low} to {high}"
