"""What ``cwmp fit`` prints of a trace model's tests: figures, coverage, and whole steps."""

from __future__ import annotations

from collections.abc import Iterator
from math import exp
from typing import TYPE_CHECKING

from profiler.console import print_table

if TYPE_CHECKING:
    from costmodels.costmodel import CostModel
    from costmodels.validation import Metric, Validation
    from costmodels.wholesteps import WholeStep

NOTE = (
    "calibration needs 9 left-out groups for 90 % and 19 for 95 %; "
    "with fewer, log-normal residuals are assumed"
)


def print_tests(model: CostModel) -> None:
    """Print the figures with layer signatures, models, kinds and sizes left out; then steps."""
    reports = [(found.name, found.validation) for found in model.operations]
    print_table(
        "\ncross-validation: one layer signature, or message size, left out at a time",
        ["operation", "groups", "MAPE %", "median %", "R2 of log", "Spearman"],
        [
            [
                operation,
                str(report.groups),
                figure(report.mape, 100),
                figure(report.median_ape, 100),
                figure(report.r2_log),
                figure(report.spearman),
            ]
            for operation, report in reports
        ],
        note="\n".join([*(_worth(name, report) for name, report in reports), NOTE]),
    )
    if model.tests:
        print_table(
            "\nleft out by signature, model, layer kind and size; errors and bias in %",
            ["operation", "left out", "of", "MAPE", "median", "R2", "R2 log", "Spearman", "bias"],
            list(_rows(model)),
            note="\n".join(_held(model)),
        )
    if model.whole_steps:
        print_steps(model.whole_steps)


def _rows(model: CostModel) -> Iterator[list[str]]:
    """A row an operation and grouping, the pooled prices' own first; values alone."""
    from costmodels.records import ANY_KIND

    for operation in model.operations:
        tests = model.tests.get(operation.group, ()) if operation.kind == ANY_KIND else ()
        named = [("signature", operation.validation)]
        named += [(test.grouping, test.validation) for test in tests]
        for number, (grouping, report) in enumerate(named):
            yield [
                "" if number else operation.name,
                grouping,
                str(report.groups),
                _plain(report.mape, 100),
                _plain(report.median_ape, 100),
                _plain(report.r2),
                _plain(report.r2_log),
                _plain(report.spearman),
                _plain(report.bias, 100),
            ]


def _held(model: CostModel) -> Iterator[str]:
    for group, tests in model.tests.items():
        for test in tests:
            if test.validation.coverage is not None:
                yield f"{group} by {test.grouping}: {_coverage(test.validation)}"


def _worth(name: str, report: Validation) -> str:
    """What a prediction's interval is worth, and how often a 90 % one held."""
    calibrated = "calibrated" if report.calibrated else "uncalibrated"
    text = f"{name}: 95 % intervals are a factor of {exp(report.half_width_log):.3g}, {calibrated}"
    held = _coverage(report)
    return f"{text}; {held}" if held else text


def _coverage(report: Validation) -> str:
    """How often 90 % intervals held on groups left out, and where least."""
    found = report.coverage
    if found is None:
        cover = report.coverage_90
        return "" if cover.value is None else f"90 % ones held {100 * cover.value:.0f} %"
    share, low, high = (100 * number for number in (found.value, found.low, found.high))
    text = f"90 % ones held {share:.0f} % [{low:.0f}, {high:.0f}]"
    if found.worst_value == 1:
        return text
    return (
        f"{text}, worst in {found.worst_group}: {100 * found.worst_value:.0f} % of "
        f"{found.worst_rows}"
    )


def print_steps(steps: tuple[WholeStep, ...]) -> None:
    """Print training steps of whole models beside the sums of their modules."""
    from profiler.units import common_exponent, format_scaled, prefix

    exponent = common_exponent([step.whole_j for step in steps])
    unit = f"{prefix(exponent)}J"
    rows = []
    for step in steps:
        whole, total, overhead, low, high = (
            format_scaled(number, exponent)
            for number in (step.whole_j, step.sum_j, step.overhead_j, step.low_j, step.high_j)
        )
        share = f"{100 * (step.sum_j / step.whole_j - 1):+.3g}" if step.whole_j > 0 else "n/a"
        rows.append(
            [
                step.model,
                str(step.examples),
                str(step.modules),
                whole,
                total,
                share,
                f"{overhead} [{low}, {high}]",
            ]
        )
    print_table(
        f"\ntraining steps of whole models beside the sums of their modules, {unit}",
        ["model", "batch", "modules", "step", "sum", "sum is %", "step - sum [95 %]"],
        rows,
        note="modules are measured one by one; a sum above the step is not a fault of the prices, "
        "but says how far they add up",
    )


def figure(metric: Metric, scale: float = 1.0) -> str:
    """The value with its interval below it."""
    if metric.value is None:
        return "n/a"
    text = short(metric.value * scale, 3)
    if metric.low is None or metric.high is None:
        return text
    return f"{text}\n[{short(metric.low * scale, 2)}, {short(metric.high * scale, 2)}]"


def _plain(metric: Metric | None, scale: float = 1.0) -> str:
    return "n/a" if metric is None or metric.value is None else short(metric.value * scale, 3)


def short(value: float, digits: int) -> str:
    """*value* to so many digits, and whole where it has more before the point."""
    return f"{value:.0f}" if 10**digits <= abs(value) < 1e6 else f"{value:.{digits}g}"
