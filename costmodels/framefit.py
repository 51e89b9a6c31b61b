"""A pandas frame and the names of its columns -> an energy model, without a file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from costmodels.energymodel import EnergyModel
from costmodels.tablefit import Estimator, fit_samples
from costmodels.tables import TableSpec, samples_of
from costmodels.tables.cells import column, is_blank, labels
from costmodels.tables.names import listed, nearest
from costmodels.tables.shapes import SHAPE_KINDS, shape_kind
from profiler.errors import InputError

Energy = str | Sequence[str] | Mapping[str, Any]
Kind = str | Sequence[str] | Mapping[str, Any] | None
Groups = str | Sequence[str] | Mapping[str, Any] | None
_COUNTING = frozenset(
    (
        "run",
        "rep",
        "repeat",
        "trial",
        "seed",
        "id",
        "index",
        "epoch",
        "epochs",
        "iteration",
        "iterations",
    )
)
_LEAST_COUNTED = 4
Features = Sequence[str] | Mapping[str, str | Mapping[str, Any]] | None


def fit_frame(
    frame: pd.DataFrame,
    *,
    energy: Energy,
    groups: Groups = None,
    kind: Kind = None,
    features: Features = None,
    shape: Mapping[str, str | int] | None = None,
    device: str | None = None,
    unit: str = "J",
    estimator: Estimator = "auto",
    seed: int = 0,
) -> EnergyModel:
    """The work of `costmodels.fit_cost_model` for a frame; see there.

    Several columns of *energy* are summed; several of *kind* name it together, ``conv, float32``.
    """
    frame = frame.rename(columns=str)
    parts: list[str] = []
    if kind is not None and not isinstance(kind, str | Mapping):
        parts = _names("kind", kind)
        frame, kind = _joined(frame, parts)
    content, said = _content(frame, energy, groups, kind, features, shape, device, unit, parts)
    samples = samples_of(frame, TableSpec.from_dict(content))
    if said:
        samples = replace(samples, assumptions=(*samples.assumptions, *said))
    return fit_samples(samples, estimator=estimator, seed=seed)


def _content(
    frame: pd.DataFrame,
    energy: Energy,
    groups: Groups,
    kind: str | Mapping[str, Any] | None,
    features: Features,
    shape: Mapping[str, str | int] | None,
    device: str | None,
    unit: str,
    parts: Sequence[str],
) -> tuple[dict[str, Any], list[str]]:
    """The spec as a parsed TOML file would hold it, and what had to be assumed."""
    content: dict[str, Any] = {
        "version": 1,
        "energy": _energy(energy, unit),
    }
    if groups is not None:
        content["groupings"] = _groupings(groups)
    if kind is not None:
        content["kind"] = _kind(frame, kind)
    if device is not None:
        content["device"] = {"column": device} if device in frame.columns else device
    if shape is not None:
        content["shape"] = dict(shape)
    said = []
    if features is None and shape is None:
        features, passed = _others(frame, content, parts)
        aside = f"; left out as numbers of rows or runs: {listed(passed)}" if passed else ""
        said = [
            "no features are named: they are every other column of numbers at or above zero, "
            f"{listed(features)}; name features if one of them is known only after measuring{aside}"
        ]
    if features is not None:
        content["features"] = _features(features)
    return content, said


def _energy(energy: Energy, unit: str) -> dict[str, Any]:
    if isinstance(energy, str):
        return {"column": energy, "unit": unit}
    if isinstance(energy, Mapping):
        return dict(energy)
    return {"columns": _names("energy", energy), "unit": unit}


def _names(what: str, given: object) -> list[str]:
    """*given* as names of columns."""
    wanted = list(given) if isinstance(given, Iterable) else [given]
    names = [name for name in wanted if isinstance(name, str)]
    if not names or len(names) < len(wanted):
        raise InputError(
            f"{what} is a column's name, a list of such names or a dict, not {given!r}"
        )
    return names


def _joined(frame: pd.DataFrame, names: list[str]) -> tuple[pd.DataFrame, str]:
    """*frame* with a column that joins the labels of *names*; empty where one of them is."""
    cells = [column(frame, name, "kind") for name in names]
    joined = ", ".join(names)
    if len(names) == 1:
        return frame, joined
    if joined in frame.columns:
        raise InputError(f"kind joins columns as {joined!r}, which is a column already; rename it")
    words = [", ".join(row) for row in zip(*map(labels, cells), strict=True)]
    blank = np.logical_or.reduce([is_blank(part) for part in cells])
    return frame.assign(**{joined: np.where(blank, "", words).astype(object)}), joined


def _groupings(groups: str | Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(groups, str):
        return {groups: groups}
    return dict(groups) if isinstance(groups, Mapping) else {name: name for name in groups}


def _kind(frame: pd.DataFrame, kind: str | Mapping[str, Any]) -> str | dict[str, Any]:
    if not isinstance(kind, str):
        return dict(kind)
    if kind in frame.columns:
        return {"column": kind}
    if shape_kind(kind) is None:
        raise InputError(
            f"kind {kind!r} is neither a column nor a kind with a shape formula"
            f"{nearest(kind, [*map(str, frame.columns), *SHAPE_KINDS])} "
            f"columns: {listed(map(str, frame.columns))}; kinds: {listed(SHAPE_KINDS)}"
        )
    return kind


def _features(features: Sequence[str] | Mapping[str, str | Mapping[str, Any]]) -> dict[str, Any]:
    if isinstance(features, str):
        features = [features]
    if not isinstance(features, Mapping):
        return {name: {"unit": f"J/{name}"} for name in features}
    return {
        name: {"unit": found} if isinstance(found, str) else dict(found)
        for name, found in features.items()
    }


def _others(
    frame: pd.DataFrame, content: Mapping[str, Any], parts: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Columns of numbers, none of them negative, that nothing else is said about.

    The second list holds those that only number rows or runs.
    """
    taken = {value for value in content["energy"].values() if isinstance(value, str)}
    taken |= set(content["energy"].get("columns") or ())
    for grouping in content.get("groupings", {}).values():
        taken |= {grouping} if isinstance(grouping, str) else set(grouping)
    taken |= {
        part["column"]
        for part in (content.get("kind"), content.get("device"))
        if isinstance(part, Mapping) and "column" in part
    }
    taken |= set(parts)
    numeric = [
        name
        for name in map(str, frame.columns)
        if name not in taken
        and pd.api.types.is_numeric_dtype(frame[name])
        and not (frame[name].to_numpy(dtype=np.float64, na_value=np.nan) < 0).any()
    ]
    passed = [name for name in numeric if _numbers_rows(name, frame[name])]
    found = [name for name in numeric if name not in passed]
    if not found:
        aside = f" ({listed(passed)} only number rows or runs)" if passed else ""
        raise InputError(
            "the table has no other column of numbers at or above zero to explain the energy "
            f"by{aside}; give features or shape"
        )
    return found, passed


def _numbers_rows(name: str, cells: pd.Series) -> bool:
    """Whether a column counts rows, cycles through repeats, or says so by its name."""
    if _COUNTING & set(re.split(r"[_\s]+", name.casefold())):
        return True
    values = cells.to_numpy(dtype=np.float64, na_value=np.nan)
    if len(values) < _LEAST_COUNTED or not np.isfinite(values).all():
        return False
    low, rows = values.min(), np.arange(len(values))
    if low not in (0, 1):
        return False
    if np.array_equal(np.sort(values), rows + low):
        return True
    period = int(values.max() - low) + 1
    return 2 <= period <= len(values) / 2 and np.array_equal(values, rows % period + low)
