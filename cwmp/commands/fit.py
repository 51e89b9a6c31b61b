"""``cwmp fit``: traces to a cost model, with its prices and its cross-validation printed."""

from __future__ import annotations

from math import exp
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
    from costmodels.validation import Metric, Validation

_NOTE = (
    "calibration needs 9 left-out groups for 90 % and 19 for 95 %; "
    "with fewer, log-normal residuals are assumed"
)


@click.command(
    cls=ExampleCommand,
    epilog="cwmp fit out/trace.parquet -o out/costmodel.json",
    no_args_is_help=True,
)
@click.argument("traces", nargs=-1, required=True, type=click.Path(path_type=Path))
@output_option("The cost model to write.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the resampled intervals.")
@force_option
@json_option
def fit(traces: tuple[Path, ...], output: Path, seed: int, force: bool, as_json: bool) -> None:
    """Fit a cost model to one or more TRACES of one device.

    Non-negative prices on relative error for each operation, tested by leaving out one layer
    signature after the other.
    """
    from costmodels.fitting import fit_cost_model
    from profiler.files import refuse_existing
    from profiler.trace import Trace

    refuse_existing(output, force=force)
    model = fit_cost_model([Trace.load(path) for path in traces], seed=seed)
    model.save(output, force=force)
    if as_json:
        print_json(model.model_dump(mode="json"))
    else:
        print_model(model)
        say(f"wrote {output}")


def print_model(model: CostModel) -> None:
    """Print prices with intervals, then the cross-validation report."""
    rows = [
        [found.name if number == 0 else "", price.feature, _price(price), _range(price)]
        for found in model.operations
        for number, price in enumerate(found.coefficients)
    ]
    print_table(
        f"prices on {model.device} ({model.origin} by {model.meter})",
        ["operation", "feature", "price [95 %]", "trained on"],
        rows,
        note="\n".join(_methods(model)),
    )
    reports = [(found.name, found.validation) for found in model.operations]
    print_table(
        "\ncross-validation: one layer signature, or message size, left out at a time",
        ["operation", "groups", "MAPE %", "median %", "R2 of log", "Spearman"],
        [
            [
                group,
                str(report.groups),
                _figure(report.mape, 100),
                _figure(report.median_ape, 100),
                _figure(report.r2_log),
                _figure(report.spearman),
            ]
            for group, report in reports
        ],
        note="\n".join([*(_worth(group, report) for group, report in reports), _NOTE]),
    )


def _methods(model: CostModel) -> list[str]:
    """How the prices' intervals were made, and for which operations."""
    by_method: dict[str, list[str]] = {}
    for found in model.operations:
        by_method.setdefault(found.interval_method, []).append(found.name)
    return [f"intervals of {', '.join(groups)}: {how}" for how, groups in by_method.items()]


def _worth(group: str, report: Validation) -> str:
    """What a prediction's interval is worth, and how often a 90 % one held."""
    calibrated = "calibrated" if report.calibrated else "uncalibrated"
    text = f"{group}: 95 % intervals are a factor of {exp(report.half_width_log):.3g}, {calibrated}"
    cover = report.coverage_90
    if cover.value is None:
        return text
    if cover.low is None or cover.high is None:
        return f"{text}; 90 % ones held {cover.value:.0%}"
    return f"{text}; 90 % ones held {cover.value:.0%} [{cover.low:.0%}, {cover.high:.0%}]"


def _price(price: Coefficient) -> str:
    from profiler.units import common_exponent, format_scaled, prefix

    exponent = common_exponent([price.value or price.high])
    value, low, high = (
        format_scaled(number, exponent) for number in (price.value, price.low, price.high)
    )
    return f"{value} [{low}, {high}] {prefix(exponent)}{price.unit}"


def _range(price: Coefficient) -> str:
    low, high = f"{price.feature_low:.3g}", f"{price.feature_high:.3g}"
    return low if low == high else f"{low} to {high}"


def _figure(metric: Metric, scale: float = 1.0) -> str:
    if metric.value is None:
        return "n/a"
    text = _short(metric.value * scale, 3)
    if metric.low is None or metric.high is None:
        return text
    return f"{text}\n[{_short(metric.low * scale, 2)}, {_short(metric.high * scale, 2)}]"


def _short(value: float, digits: int) -> str:
    return f"{value:.0f}" if 10**digits <= abs(value) < 1e6 else f"{value:.{digits}g}"
