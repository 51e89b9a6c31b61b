"""``cwmp predict MODEL --table TABLE``: joules of a table's rows by an energy model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cwmp.commands.fit_table import print_findings, say_text
from profiler.console import print_json, print_table, say

if TYPE_CHECKING:
    import pandas as pd

    from costmodels.energymodel import EnergyModel


def predict_table(
    path: Path, table: Path, columns: Path, output: Path, *, force: bool, as_json: bool
) -> None:
    """Predict the rows of *table*, write them to *output*, and print a summary."""
    from costmodels.energymodel import EnergyModel
    from costmodels.estimatefile import check_format, estimate_table, write_estimates
    from costmodels.tables import TableSpec, features_of

    check_format(output)
    model = EnergyModel.load(path)
    asked = features_of(table, TableSpec.load(columns))
    predicted = estimate_table(asked, model.predict(asked.frame, asked.kind))
    findings = [str(found) for found in asked.findings]
    write_estimates(output, predicted, model, findings, force=force)
    if as_json:
        print_json({**summary(model, predicted), "findings": findings, "output": str(output)})
        return
    print_findings(asked.findings, f"{table.name}: {len(asked)} rows are predicted")
    print_summary(model, predicted)
    say(f"wrote {output}")


def summary(model: EnergyModel, predicted: pd.DataFrame) -> dict[str, Any]:
    """What the rows come to, and how much of it is beyond what was measured."""
    outside = predicted["outside"] != ""
    columns = predicted.loc[outside, "outside"].str.split(", ").explode().value_counts()
    pooled = predicted.loc[(predicted["priced_as"] == "*") & bool(model.kinds), "kind"]
    return {
        "device": model.device,
        "rows": len(predicted),
        "energy_j": float(predicted["energy_j"].sum()),
        "all_low_j": float(predicted["low_j"].sum()),
        "all_high_j": float(predicted["high_j"].sum()),
        "calibrated_rows": int(predicted["calibrated"].sum()),
        "corrected_rows": int(predicted["corrected"].sum()),
        "outside_rows": int(outside.sum()),
        "outside_columns": {str(name): int(rows) for name, rows in columns.items()},
        "pooled_kinds": {str(name): int(rows) for name, rows in pooled.value_counts().items()},
    }


def print_summary(model: EnergyModel, predicted: pd.DataFrame) -> None:
    """Print energies by kind, then what to doubt, in sentences."""
    from profiler.units import format_si

    found = summary(model, predicted)
    where = f" on {model.device}" if model.device else ""
    kinds = predicted.groupby("kind", sort=False)
    print_table(
        f"\nenergy of one call of each row{where} (modelled)",
        ["kind", "rows", "sum", "least row", "greatest row", "outside", "corrected"],
        [
            [
                str(name),
                str(len(part)),
                format_si(float(part["energy_j"].sum()), "J"),
                format_si(float(part["energy_j"].min()), "J"),
                format_si(float(part["energy_j"].max()), "J"),
                str(int((part["outside"] != "").sum())),
                str(int(part["corrected"].sum())),
            ]
            for name, part in kinds
        ],
    )
    total, low, high = (
        format_si(found[name], "J") for name in ("energy_j", "all_low_j", "all_high_j")
    )
    say_text(
        f"all rows: {total}; from {low} to {high} if each is at the same end of its 95 % interval"
    )
    rows = found["rows"]
    if found["calibrated_rows"] < rows:
        say_text(
            f"{rows - found['calibrated_rows']} of {rows} intervals are uncalibrated: too few "
            "groups were left out when the model was tested"
        )
    if found["outside_rows"]:
        named = ", ".join(f"{name} ({n})" for name, n in found["outside_columns"].items())
        say_text(
            f"{found['outside_rows']} of {rows} rows lie outside what the model was fitted to, "
            f"in {named}: extrapolated by prices alone"
        )
    for name, count in found["pooled_kinds"].items():
        say_text(
            f"{count} rows of kind {name!r}, which no measurement supports: priced by the pooled "
            "fit, with the wider intervals of a kind never seen"
        )
