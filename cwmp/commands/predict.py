"""``cwmp predict``: a cost model to a cost file for a model that was never profiled."""

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


@click.command(
    cls=ExampleCommand,
    epilog="cwmp predict out/costmodel.json --model resnet18 --data cifar10:PATH -o out/costs.json",
    no_args_is_help=True,
)
@click.argument("costmodel", type=click.Path(path_type=Path))
@click.option("--model", required=True, help="A model's name, or module:callable.")
@click.option("--data", help="digits or cifar10:PATH: sets input shape and classes.")
@click.option("--input-shape", help="C,H,W of one example, for named models.  [default: 3,32,32]")
@click.option("--classes", type=click.IntRange(min=1), help="Outputs.  [default: 10]")
@output_option("The cost file to write.")
@force_option
@json_option
def predict(
    costmodel: Path,
    model: str,
    data: str | None,
    input_shape: str | None,
    classes: int | None,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Write the costs that COSTMODEL predicts for a model, and print them.

    What lies outside the range that was trained on is named among the assumptions.
    """
    from costmodels.costmodel import CostModel
    from cwmp.commands.cost_table import print_costs
    from cwmp.fl.data import input_spec
    from cwmp.fl.models import build_model
    from profiler.files import refuse_existing
    from profiler.layers import layers_of

    refuse_existing(output, force=force)
    prices = CostModel.load(costmodel)
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
