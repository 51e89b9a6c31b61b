"""``cwmp transfer``: a cost model of one device corrected for another by a short trace of it."""

from __future__ import annotations

import warnings
from dataclasses import asdict
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
    from costmodels.transfer.model import Transfer

_MARK = {None: "FAMILY UNKNOWN", True: "ONE FAMILY", False: "WARNING, OTHER FAMILY"}


@click.command(
    cls=ExampleCommand,
    epilog="cwmp transfer out/costmodel.json short.parquet -o out/costmodel_b.json",
    no_args_is_help=True,
)
@click.argument("costmodel", type=click.Path(path_type=Path))
@click.argument("calibration", type=click.Path(path_type=Path))
@click.option(
    "--columns",
    type=click.Path(path_type=Path),
    help="CALIBRATION is a table and COSTMODEL an energy model: what the columns mean.",
)
@output_option("The model of the calibration's device to write.")
@force_option
@json_option
def transfer(
    costmodel: Path,
    calibration: Path,
    columns: Path | None,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Correct COSTMODEL for another device by CALIBRATION, about 20 of its blocks.

    CALIBRATION is a short trace, or with --columns a table of at least 3 rows, better 20. Each part
    of a price is scaled, shrunk to a common scale, and it is tested whether the two devices differ
    by more than scales.
    """
    from costmodels.costmodel import CostModel
    from costmodels.transfer.core import DeviceFamilyWarning
    from costmodels.transfer.model import fit_transfer
    from profiler.files import refuse_existing
    from profiler.trace import Trace

    refuse_existing(output, force=force)
    if columns is not None:
        _of_table(costmodel, calibration, columns, output, force, as_json)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeviceFamilyWarning)  # the verdict is printed
        found = fit_transfer(CostModel.load(costmodel), Trace.load(calibration))
    found.model.save(output, force=force)
    if as_json:
        print_json(
            {
                "device": found.model.device,
                "blocks": found.blocks,
                "scales": [asdict(scale) for scale in found.scales],
                "family_p": found.p_value,
                "same_family": found.same_family,
                "verdict": found.verdict,
                "assumptions": list(found.model.assumptions),
            }
        )
        return
    print_transfer(found)
    say(f"wrote {output}")


def _of_table(
    energymodel: Path, table: Path, columns: Path, output: Path, force: bool, as_json: bool
) -> None:
    from costmodels.energymodel import EnergyModel
    from costmodels.tables import TableSpec, read_samples
    from costmodels.transfer.core import DeviceFamilyWarning
    from costmodels.transfer.energy import transfer_energies

    model = EnergyModel.load(energymodel)
    samples = read_samples(table, TableSpec.load(columns))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeviceFamilyWarning)  # the verdict is printed
        found = transfer_energies(model, samples)
    found.model.save(output, force=force)
    scores = found.model.tests[0].scores
    error = None if scores is None else scores.mape.value
    if as_json:
        print_json(
            {
                "device": found.model.device,
                "rows": found.rows,
                "scales": [
                    {"kind": kind, "feature": feature, "value": value, "low": low, "high": high}
                    for (kind, feature), (value, low, high) in found.scales.items()
                ],
                "left_out_mape": error,
                "family_p": found.p_value,
                "same_family": found.same_family,
                "verdict": found.verdict,
                "assumptions": list(found.model.assumptions),
            }
        )
        return
    print_table(
        f"prices on {found.model.device} over the first device, {found.rows} rows",
        ["kind", "price", "scale", "95 %"],
        [
            [kind, feature, f"{value:.3g}", f"[{low:.3g}, {high:.3g}]"]
            for (kind, feature), (value, low, high) in found.scales.items()
        ],
        note="" if error is None else f"rows left out in turn: MAPE {100 * error:.3g} %",
    )
    print_table("", ["verdict"], [[f"{_MARK[found.same_family]}: {found.verdict}"]])
    say(f"wrote {output}")


def print_transfer(found: Transfer) -> None:
    """Print the scales with their intervals, what predictions are worth, and the family test."""
    from math import exp

    print_table(
        f"prices on {found.model.device} over the first device, {found.blocks} blocks",
        ["operation", "price", "scale", "95 %", "cells"],
        [
            [
                scale.group,
                scale.feature,
                f"{scale.value:.3g}",
                f"[{scale.low:.3g}, {scale.high:.3g}]",
                str(scale.cells),
            ]
            for scale in found.scales
        ],
        note="\n".join(
            f"{operation.group}: 95 % intervals are a factor of "
            f"{exp(operation.validation.half_width_log):.3g}"
            for operation in found.model.operations
        ),
    )
    print_table("", ["verdict"], [[f"{_MARK[found.same_family]}: {found.verdict}"]])
