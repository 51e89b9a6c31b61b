"""``cwmp predict``: costs of a model never profiled, or energies of a table never measured."""

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
    say,
)

if TYPE_CHECKING:
    from torch import nn

    from profiler.workloads import Cell


_EPILOG = """
cwmp predict out/costmodel.json --model resnet18 --data cifar10:PATH -o out/costs.json
cwmp predict model.json --table new.csv --columns conv.toml -o predictions.csv
"""
_FILE = click.Path(path_type=Path)


@click.command(cls=ExampleCommand, epilog=_EPILOG, no_args_is_help=True)
@click.argument("fitted", metavar="MODEL", type=_FILE)
@click.option("--model", help="A model's name, or module:callable.")
@click.option("--data", help="digits or cifar10:PATH: sets input shape and classes.")
@click.option("--input-shape", help="C,H,W of one example, for named models.  [default: 3,32,32]")
@click.option("--classes", type=click.IntRange(min=1), help="Outputs.  [default: 10]")
@click.option("--table", type=_FILE, help="Rows to predict by a model fitted to a table.")
@click.option("--columns", type=_FILE, help="The TOML file that says what their columns mean.")
@output_option("The cost file to write; of a table, .csv, .parquet or .json.")
@force_option
@json_option
def predict(
    fitted: Path,
    model: str | None,
    data: str | None,
    input_shape: str | None,
    classes: int | None,
    table: Path | None,
    columns: Path | None,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Write what MODEL predicts, and print it.

    Fitted to traces: the costs of a model that was never profiled. Fitted to a table: joules of
    the rows of --table. What lies outside the range that was trained on is named.
    """
    from profiler.errors import InputError
    from profiler.files import refuse_existing

    refuse_existing(output, force=force)
    given = {"--model": model, "--data": data, "--input-shape": input_shape, "--classes": classes}
    of_network = [name for name, value in given.items() if value is not None]
    if _is_energy_model(fitted):
        from cwmp.commands.predict_table import predict_table

        if of_network or table is None or columns is None:
            raise InputError(
                f"{fitted} was fitted to a table: give --table TABLE and --columns SPEC.toml"
                + (f", and no {', '.join(of_network)}" if of_network else "")
            )
        predict_table(fitted, table, columns, output, force=force, as_json=as_json)
        return
    if table is not None or columns is not None or model is None:
        raise InputError(
            f"{fitted} was not fitted to a table: give --model, and neither --table nor --columns"
        )
    _predict_network(
        fitted, model, data, input_shape, classes, output, force=force, as_json=as_json
    )


def _is_energy_model(path: Path) -> bool:
    from profiler.files import read_json

    content = read_json(path)
    return isinstance(content, dict) and content.get("schema_name") == "cwmp.energymodel"


def _predict_network(
    fitted: Path,
    model: str,
    data: str | None,
    input_shape: str | None,
    classes: int | None,
    output: Path,
    *,
    force: bool,
    as_json: bool,
) -> None:
    from costmodels.costmodel import CostModel
    from cwmp.commands.cost_table import print_costs
    from cwmp.fl.data import input_spec
    from cwmp.fl.models import build_model
    from profiler.layers import layers_of

    prices = CostModel.load(fitted)
    shape, outputs = ((3, 32, 32), 10) if data is None else input_spec(data)
    shape = shape if input_shape is None else _shape(input_shape)
    network = build_model(model, shape, outputs if classes is None else classes)
    # a model given as module:callable brings its own input; without its shape it is not run
    known = ":" not in model or data is not None or input_shape is not None
    modules = _modules(network, shape) if known and prices.find("train") else ()
    found = prices.predict(layers_of(network), model, modules=modules)
    found.save(output, force=force)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print_costs(found)
        say(f"wrote {output}")


def _modules(network: nn.Module, shape: tuple[int, ...]) -> tuple[Cell, ...]:
    import torch

    from profiler.modules import TrainOperation

    example = torch.zeros(2, *shape)
    return TrainOperation(network, example, batch_sizes=(2,)).cells()


def _shape(text: str) -> tuple[int, ...]:
    from profiler.errors import InputError

    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"--input-shape {text!r} is not integers joined by commas") from error
    if min(shape) < 1:
        raise InputError(f"--input-shape {text!r} has a side below 1")
    return shape
