"""Traces to a cost model: a pooled regression an operation, and by kind where that helps.

A frame of somebody's energies goes to `costmodels.framefit`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from costmodels.cells import CellMean, cell_means
from costmodels.costmodel import CostModel
from costmodels.features import FEATURES, Group, group_of
from costmodels.kindprices import own_prices
from costmodels.records import (
    ANY_KIND,
    Coefficient,
    GroupResiduals,
    OperationModel,
    TraceSource,
)
from costmodels.regression import (
    ON_LAYERS,
    Regression,
    cross_validate,
    fit_regression,
    price_intervals,
)
from costmodels.sources import assumptions_of, trace_hash, utc_now
from costmodels.tracetests import trace_tests
from costmodels.wholesteps import WholeStep, whole_steps
from profiler.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from costmodels.energymodel import EnergyModel
    from costmodels.tablefit import Estimator
    from profiler.trace import Trace

_REVISION = "revision"
"""A commit beside the versions in ``software``: it has no major version to compare."""


@overload
def fit_cost_model(data: Trace | Sequence[Trace], *, seed: int = 0) -> CostModel: ...


@overload
def fit_cost_model(
    data: pd.DataFrame,
    *,
    energy: str | Sequence[str] | Mapping[str, Any],
    groups: str | Sequence[str] | Mapping[str, Any] | None = None,
    kind: str | Sequence[str] | Mapping[str, Any] | None = None,
    features: Sequence[str] | Mapping[str, str | Mapping[str, Any]] | None = None,
    shape: Mapping[str, str | int] | None = None,
    device: str | None = None,
    unit: str = "J",
    estimator: Estimator = "auto",
    seed: int = 0,
) -> EnergyModel: ...


def fit_cost_model(
    data: Trace | Sequence[Trace] | pd.DataFrame, *, seed: int = 0, **columns: Any
) -> CostModel | EnergyModel:
    """Fit prices to traces of one device, or to a frame of energies that anybody measured.

    Of traces: for each operation, least squares on relative error with non-negative prices over
    physical features (`costmodels.features`), their 95 % intervals by resampling, and
    leave-one-signature-out cross-validation. Layer kinds that are clearly better off with prices
    of their own have them beside the pooled ones (`costmodels.kindprices`).

    Of a frame: prices by kind with a pooled fallback, a learned factor where leave-group-out
    shows that it helps, and tests by each grouping (`costmodels.tablefit.fit_samples`). A file
    is read by `costmodels.tables.read_samples`.

    Args:
        data: traces of the same device, meter, governor, implementations and software major
            versions; cells of different traces are not averaged together. Revisions of this
            project may differ; then the model's assumptions name them. Or a frame, one row a
            measurement.
        seed: of the resamples.
        energy: the column of the energies, or several, of which the sum is meant; or
            ``[energy]`` of a table spec (`costmodels.tables.spec`) as a dict, with its own units.
        groups: columns that are left out together when testing, the main one first; or
            ``[groupings]`` of a spec. By default bins of size.
        kind: the column of the layer kinds, or the kind of every row; by default none are told
            apart.
        features: columns that have a price, with its unit (``{"macs": "J/MAC"}``) or without; or
            ``[features]`` of a spec. By default, without *shape*, every other column of numbers.
        shape: ``[shape]`` of a spec: fields of the layer, such as ``in_channels``, and their
            columns.
        device: the column of the devices, or the name of the one device.
        unit: of the column *energy*.
        estimator: ``auto``, ``nnls`` or ``hybrid``.

    Raises:
        InputError: no trace, the same trace twice, runs that may not be merged, or an operation
            at or below zero everywhere; a column that the frame does not have, or no row that
            can be used.
    """
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        from costmodels.framefit import fit_frame

        if "energy" not in columns:
            raise InputError("say which column of the table holds the energies: energy='energy_j'")
        return fit_frame(data, seed=seed, **columns)
    if columns:
        raise InputError(
            f"{', '.join(columns)}: columns are named for a pandas frame, not for traces"
        )
    return _fit_traces(data, seed)


def _fit_traces(traces: Trace | Sequence[Trace], seed: int) -> CostModel:
    sessions = _sequence(traces)
    hashes = [trace_hash(trace) for trace in sessions]
    if len(set(hashes)) < len(hashes):
        raise InputError("the same trace is given twice; each counts once")
    _refuse_mixed(sessions)
    groups: dict[Group, list[CellMean]] = {}
    models: dict[Group, list[str]] = {}
    steps: list[WholeStep] = []
    unpriced = 0
    for trace in sessions:
        cells = cell_means(trace)
        steps.extend(whole_steps(trace.metadata.model, cells))
        for cell in cells:
            if cell.operation == "train" and cell.macs is None:
                unpriced += 1
                continue
            group = group_of(cell.operation, cell.pattern)
            groups.setdefault(group, []).append(cell)
            models.setdefault(group, []).append(trace.metadata.model)
    first = sessions[0].metadata
    sentences = [sentence for trace in sessions for sentence in assumptions_of(trace)]
    revisions = dict.fromkeys(trace.metadata.software.get(_REVISION) for trace in sessions)
    if len(revisions) > 1:
        named = ", ".join(revision or "not recorded" for revision in revisions)
        sentences.append(f"the traces are of different revisions of this project: {named}")
    if unpriced:
        sentences.append(
            f"{unpriced} training cells of modules without known multiply-accumulates are left out"
        )
    pooled = {group: fit_regression(group, groups[group]) for group in FEATURES if group in groups}
    return CostModel(
        created_utc=utc_now(),
        device=first.device,
        meter=first.meter,
        origin=first.origin,
        governor=first.host.get("governor"),
        seed=seed,
        traces=tuple(
            TraceSource(
                model=trace.metadata.model,
                created_utc=trace.metadata.created_utc,
                blocks=len(trace.blocks),
                sha256=digest,
            )
            for trace, digest in zip(sessions, hashes, strict=True)
        ),
        data_hash=hashlib.sha256("".join(hashes).encode()).hexdigest(),
        software=first.software,
        assumptions=tuple(dict.fromkeys(sentences)),
        tests={group: trace_tests(model, models[group], seed) for group, model in pooled.items()},
        whole_steps=tuple(steps),
        operations=tuple(
            model
            for regression in pooled.values()
            for model in _operation_models(regression, first.implementations, seed)
        ),
    )


def _operation_models(
    pooled: Regression, implementations: dict[str, str], seed: int
) -> list[OperationModel]:
    """The pooled prices, and those of the kinds that are better off with their own."""
    code = implementations.get(pooled.group.partition(".")[0], "not recorded")
    models = [_operation_model(pooled, code, seed)]
    if pooled.group in ON_LAYERS:
        models += [
            _operation_model(own.regression, code, seed, kind=own.kind, predicted=own.predicted)
            for own in own_prices(pooled)
        ]
    return models


def _operation_model(
    regression: Regression,
    implementation: str,
    seed: int,
    *,
    kind: str = ANY_KIND,
    predicted: NDArray[np.float64] | None = None,
) -> OperationModel:
    group, cells = regression.group, regression.cells
    low, high, method = price_intervals(regression, seed)
    validation, residuals = cross_validate(regression, seed, predicted)
    coefficients = tuple(
        Coefficient(
            feature=feature.name,
            unit=feature.unit,
            value=float(regression.prices[column]),
            low=float(low[column]),
            high=float(high[column]),
            feature_low=float(regression.design[:, column].min()),
            feature_high=float(regression.design[:, column].max()),
        )
        for column, feature in enumerate(FEATURES[group])
    )
    quantiles = {name: np.quantile(values, [0.05, 0.5, 0.95]) for name, values in residuals.items()}
    return OperationModel(
        group=group,
        kind=kind,
        coefficients=coefficients,
        interval_method=method,
        kinds=tuple(sorted({cell.kind for cell in cells})),
        patterns=tuple(dict.fromkeys(cell.pattern for cell in cells)),
        k_low=min(cell.k for cell in cells),
        k_high=max(cell.k for cell in cells),
        implementation=implementation,
        residuals=tuple(
            GroupResiduals(
                group=name,
                cells=int(residuals[name].size),
                q05=float(low_q),
                median=float(middle),
                q95=float(high_q),
            )
            for name, (low_q, middle, high_q) in quantiles.items()
        ),
        validation=validation,
        cells=len(cells),
        blocks=sum(cell.blocks for cell in cells),
    )


def _sequence(traces: Trace | Sequence[Trace]) -> list[Trace]:
    from profiler.trace import Trace as TraceClass

    sessions = [traces] if isinstance(traces, TraceClass) else list(traces)
    if not sessions:
        raise InputError("give at least one trace to fit a cost model to")
    return sessions


def _refuse_mixed(sessions: Sequence[Trace]) -> None:
    """Runs that differ in what sets their joules are not merged."""
    reference = _conditions(sessions[0])
    for trace in sessions[1:]:
        for name, value in _conditions(trace).items():
            if name in reference and reference[name] != value:
                raise InputError(
                    "runs that differ in device, governor or software are not merged: "
                    f"{name} is {reference[name]!r} in one trace and {value!r} in another; "
                    "fit a cost model to each"
                )


def _conditions(trace: Trace) -> dict[str, Any]:
    meta = trace.metadata
    return {
        "the device": meta.device,
        "the meter": meta.meter,
        "the origin": meta.origin,
        "the governor": meta.host.get("governor"),
        **{
            f"the major version of {package}": version.split(".")[0]
            for package, version in meta.software.items()
            if package != _REVISION
        },
        **{f"the code of {name}": code for name, code in meta.implementations.items()},
    }
