"""A pandas frame and the names of its columns -> an energy model, without a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from costmodels.energymodel import EnergyModel
from costmodels.tablefit import Estimator, fit_samples
from costmodels.tables import TableSpec, samples_of
from costmodels.tables.names import listed, nearest
from costmodels.tables.shapes import SHAPE_KINDS, shape_kind
from profiler.errors import InputError

Energy = str | Mapping[str, Any]
Groups = str | Sequence[str] | Mapping[str, Any] | None
Features = Sequence[str] | Mapping[str, str | Mapping[str, Any]] | None


def fit_frame(
    frame: pd.DataFrame,
    *,
    energy: Energy,
    groups: Groups = None,
    kind: str | Mapping[str, Any] | None = None,
    features: Features = None,
    shape: Mapping[str, str | int] | None = None,
    device: str | None = None,
    unit: str = "J",
    estimator: Estimator = "auto",
    seed: int = 0,
) -> EnergyModel:
    """The work of `costmodels.fit_cost_model` for a frame; see there."""
    frame = frame.rename(columns=str)
    content, said = _content(frame, energy, groups, kind, features, shape, device, unit)
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
) -> tuple[dict[str, Any], list[str]]:
    """The spec as a parsed TOML file would hold it, and what had to be assumed."""
    content: dict[str, Any] = {
        "version": 1,
        "energy": {"column": energy, "unit": unit} if isinstance(energy, str) else dict(energy),
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
        features = _others(frame, content)
        said = [
            "no features are named: they are every other column of numbers at or above zero, "
            f"{listed(features)}; name features if one of them is known only after measuring"
        ]
    if features is not None:
        content["features"] = _features(features)
    return content, said


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


def _others(frame: pd.DataFrame, content: Mapping[str, Any]) -> list[str]:
    """Columns of numbers, none of them negative, that nothing else is said about."""
    taken = {value for value in content["energy"].values() if isinstance(value, str)}
    taken |= set(content["energy"].get("columns") or ())
    for grouping in content.get("groupings", {}).values():
        taken |= {grouping} if isinstance(grouping, str) else set(grouping)
    taken |= {
        part["column"]
        for part in (content.get("kind"), content.get("device"))
        if isinstance(part, Mapping) and "column" in part
    }
    found = [
        name
        for name in map(str, frame.columns)
        if name not in taken
        and pd.api.types.is_numeric_dtype(frame[name])
        and not (frame[name].to_numpy(dtype=np.float64, na_value=np.nan) < 0).any()
    ]
    if not found:
        raise InputError(
            "the table has no other column of numbers at or above zero to explain the energy by; "
            "give features or shape"
        )
    return found
