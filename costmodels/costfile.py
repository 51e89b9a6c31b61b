"""The cost file: what an entry of an update costs to apply and to send, with intervals.

Everything the selector spends comes from here. Per layer and operation it holds a
(piecewise) linear energy E(k) = a + c k with a 95 % interval on a and c; per message the
same for encoding, sending and selecting; and for training, joules by example. A cost is
positive or absent (``null``), never zero: what lay below the detection limit carries a
pooled estimate, flagged, beside the upper limit that the measurement supports.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from profiler.errors import FileFormatError, LayerMismatchError
from profiler.files import read_json, write_atomic
from profiler.layers import LayerInfo
from profiler.trace import describe

SCHEMA: Literal["cwmp.costs"] = "cwmp.costs"
VERSION: Literal[1] = 1

Origin = Literal["measured", "modelled", "assumed"]
Unit = Literal["entry", "byte", "parameter", "example"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Estimate(_Strict):
    """A positive number of joules with its 95 % interval.

    ``below_detection`` says that the measurement alone could not tell it from zero:
    ``upper_limit`` is then what the measurement supports, and ``value`` is pooled from
    other layers so that a selector never meets a free entry.
    """

    value: Positive
    low: NonNegative
    high: Positive
    below_detection: bool = False
    upper_limit: Positive | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Estimate:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"value {self.value} lies outside [{self.low}, {self.high}]")
        if self.below_detection and self.upper_limit is None:
            raise ValueError("a value below detection needs its upper_limit")
        return self


class Piece(_Strict):
    """E(k) = a + c k for k >= from_k, up to the next piece; ``a_j`` null means no fixed cost."""

    from_k: Annotated[int, Field(ge=1)] = 1
    a_j: Estimate | None
    c_j: Estimate


class OperationCost(_Strict):
    """The energy of one operation on one layer (or one message) as a function of k.

    Attributes:
        operation: update, encode, send, select or train.
        pattern: how the indices lie: random, clustered; dense for the vectorised add of all
            entries, valid at k = parameters only; batch for training; for select the rule.
        unit: what k counts.
        payer: who spends it: the client that sends, the server, or each receiver.
        implementation: the code that was measured.
        k_min, k_max: the range of k that was measured; beyond it the line is extrapolated.
        lack_of_fit_p: p-value of the lack-of-fit test of a single line; null if untestable.
    """

    operation: Literal["update", "encode", "send", "select", "train"]
    pattern: Literal["random", "clustered", "dense", "batch", "topk", "cwmp"]
    unit: Unit
    payer: Literal["client", "server", "receivers"]
    origin: Origin
    implementation: str
    pieces: Annotated[tuple[Piece, ...], Field(min_length=1)]
    k_min: Annotated[int, Field(ge=1)]
    k_max: Annotated[int, Field(ge=1)]
    blocks: Annotated[int, Field(ge=0)] = 0
    lack_of_fit_p: float | None = None

    @model_validator(mode="after")
    def _increasing(self) -> OperationCost:
        starts = [piece.from_k for piece in self.pieces]
        if starts != sorted(set(starts)):
            raise ValueError("pieces must start at increasing k")
        if starts[0] != 1:
            raise ValueError("the first piece must start at k = 1")
        for before, after in zip(self.pieces, self.pieces[1:], strict=False):
            if _line_j(after, after.from_k) < _line_j(before, after.from_k) * (1 - 1e-9):
                raise ValueError(f"the energy falls at k = {after.from_k}")
        return self

    def energy_j(self, k: ArrayLike) -> NDArray[np.float64]:
        """E(k) in joules, elementwise; E(0) = 0 since an untouched layer is not called."""
        amounts = np.asarray(k, dtype=np.float64)
        starts = np.array([piece.from_k for piece in self.pieces], dtype=np.float64)
        fixed = np.array([piece.a_j.value if piece.a_j else 0.0 for piece in self.pieces])
        slope = np.array([piece.c_j.value for piece in self.pieces])
        which = np.maximum(np.searchsorted(starts, amounts, side="right") - 1, 0)
        return np.where(amounts > 0, fixed[which] + slope[which] * amounts, 0.0)


class LayerCost(_Strict):
    """The costs of one parameter tensor (``update``) or one module (``train``)."""

    name: str
    kind: str
    shape: tuple[Annotated[int, Field(ge=1)], ...]
    dtype: str
    parameters: Annotated[int, Field(ge=1)]
    operations: Annotated[tuple[OperationCost, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _unique(self) -> LayerCost:
        _refuse_twice(self.operations)
        return self

    def find(self, operation: str, pattern: str) -> OperationCost | None:
        """The cost of *operation* under *pattern*, or ``None`` when it was not measured."""
        return _find(self.operations, operation, pattern)


class CostFile(_Strict):
    """Costs of a model's layers on one device. ``CostFile.load`` and ``save`` are the file.

    Attributes:
        device, meter: as in the trace; ``A; messages: B`` where the messages are from another.
        origin: of the weakest part; a prediction is ``modelled`` whatever it was fitted on.
        basis: in one sentence, where the numbers come from.
        layers: parameter tensors, in the model's order.
        modules: training costs by module; the whole model's step is named ``*``.
        message: costs a message pays once: encode, send, select.
        assumptions: one sentence each.
    """

    schema_name: Literal["cwmp.costs"] = SCHEMA
    version: Literal[1] = VERSION
    created_utc: str
    device: str
    meter: str
    origin: Origin
    model: str
    basis: str
    layers: Annotated[tuple[LayerCost, ...], Field(min_length=1)]
    modules: tuple[LayerCost, ...] = ()
    message: tuple[OperationCost, ...] = ()
    assumptions: tuple[str, ...] = ()
    software: dict[str, str] = Field(default_factory=dict)
    provenance: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _unique(self) -> CostFile:
        for group in (self.layers, self.modules):
            names = [layer.name for layer in group]
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise ValueError(f"layer {twice[0]!r} appears twice")
        _refuse_twice(self.message)
        return self

    @model_validator(mode="after")
    def _counted(self) -> CostFile:
        """A tensor has as many entries as its shape says; a module may own several tensors."""
        for layer in self.layers:
            if layer.parameters != prod(layer.shape):
                raise ValueError(
                    f"layer {layer.name!r} is {_tensor(layer)}, which is not "
                    f"{layer.parameters} parameters"
                )
        return self

    @classmethod
    def load(cls, path: str | Path) -> CostFile:
        """Read a cost file.

        Raises:
            InputFileError: the file is absent or unreadable.
            FileFormatError: not a cost file, another version, or refused content (NaN, a zero
                or negative cost, an interval that does not contain its value).
        """
        path = Path(path)
        raw = read_json(path)
        if not isinstance(raw, dict) or raw.get("schema_name") != SCHEMA:
            raise FileFormatError(f"{path} is not a cost file: its schema is not {SCHEMA!r}")
        if raw.get("version") != VERSION:
            raise FileFormatError(
                f"{path} has cost file version {raw.get('version')!r}; this release reads "
                f"version {VERSION}: write it again with 'cwmp costs'"
            )
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise FileFormatError(f"{path} is refused: {describe(error)}") from error

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the cost file whole or not at all.

        Raises:
            OutputExistsError: *path* exists and *force* is false.
        """
        text = self.model_dump_json(indent=1) + "\n"
        write_atomic(Path(path), text.encode(), force=force)

    def message_cost(self, operation: str, pattern: str = "random") -> OperationCost | None:
        """A message's cost of *operation*, or ``None`` when it is not known."""
        return _find(self.message, operation, pattern)

    def match(self, layers: Sequence[LayerInfo]) -> tuple[LayerCost, ...]:
        """This file's layers in the order of *layers*.

        Raises:
            LayerMismatchError: a layer of the model has no cost, or another shape or dtype, or
                the file prices a layer that the model lacks.
        """
        known = {layer.name: layer for layer in self.layers}
        wanted = {layer.name for layer in layers}
        for name in known:
            if name not in wanted:
                raise LayerMismatchError(
                    f"the cost file prices layer {name!r}, which the model lacks: "
                    "predict costs for this model with 'cwmp predict'"
                )
        matched = []
        for layer in layers:
            cost = known.get(layer.name)
            if cost is None:
                raise LayerMismatchError(
                    f"the cost file has no layer {layer.name!r}: "
                    "predict costs for this model with 'cwmp predict'"
                )
            if cost.shape != layer.shape or cost.dtype != layer.dtype:
                raise LayerMismatchError(
                    f"layer {layer.name!r} is {_tensor(layer)} in the model but {_tensor(cost)} "
                    "in the cost file: predict costs for this model with 'cwmp predict'"
                )
            matched.append(cost)
        return tuple(matched)


def _find(costs: Sequence[OperationCost], operation: str, pattern: str) -> OperationCost | None:
    for cost in costs:
        if cost.operation == operation and cost.pattern == pattern:
            return cost
    return None


def _refuse_twice(costs: Sequence[OperationCost]) -> None:
    pairs = [(cost.operation, cost.pattern) for cost in costs]
    for operation, pattern in pairs:
        if pairs.count((operation, pattern)) > 1:
            raise ValueError(f"the cost of {operation}, {pattern} appears twice")


def _line_j(piece: Piece, k: int) -> float:
    return (piece.a_j.value if piece.a_j else 0.0) + piece.c_j.value * k


def _tensor(layer: LayerInfo | LayerCost) -> str:
    return f"{'x'.join(map(str, layer.shape)) or 'a scalar'} {layer.dtype}"
