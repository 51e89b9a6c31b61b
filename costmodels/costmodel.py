"""The cost model: joules a call from an operation's physical features, on one device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from costmodels.costfile import CostFile, Origin
from costmodels.features import FEATURES_VERSION
from costmodels.records import ANY_KIND, Hash, OperationModel, Strict, TraceSource
from costmodels.signed import load_signed, save_signed
from costmodels.tracetests import TraceTest
from costmodels.wholesteps import WholeStep
from profiler.layers import LayerInfo
from profiler.workloads import Cell

SCHEMA: Literal["cwmp.costmodel"] = "cwmp.costmodel"
VERSION: Literal[1] = 1


class CostModel(Strict):
    """Prices of one device, from `fit_cost_model`. ``load`` and ``save`` are the file.

    The file is JSON with a checksum over its content; nothing in it is ever executed.

    Attributes:
        features_version: of the feature list that the prices belong to.
        device, meter, governor: the one device and meter of all its traces.
        origin: of the traces; what is predicted from them is ``modelled``.
        seed: of the resamples behind the intervals.
        data_hash: SHA-256 over the traces' own hashes, in their order.
        tests: by operation, what its pooled prices are worth where models, kinds or sizes are
            left out.
        whole_steps: training steps of whole models against the sums of their modules.
        operations: a pooled regression an operation, and after it those of single layer kinds.
    """

    schema_name: Literal["cwmp.costmodel"] = SCHEMA
    version: Literal[1] = VERSION
    features_version: Literal[1] = FEATURES_VERSION
    created_utc: str
    device: str
    meter: str
    origin: Origin
    governor: str | None
    seed: int
    traces: Annotated[tuple[TraceSource, ...], Field(min_length=1)]
    data_hash: Hash
    software: dict[str, str]
    assumptions: tuple[str, ...] = ()
    tests: dict[str, tuple[TraceTest, ...]] = Field(default_factory=dict)
    whole_steps: tuple[WholeStep, ...] = ()
    operations: Annotated[tuple[OperationModel, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        names = [(model.group, model.kind) for model in self.operations]
        if len(set(names)) < len(names):
            raise ValueError("an operation has prices twice for one layer kind")
        if missing := {group for group, _ in names if (group, ANY_KIND) not in names}:
            raise ValueError(f"no pooled prices for {', '.join(sorted(missing))}")
        return self

    def find(self, group: str, kind: str = ANY_KIND) -> OperationModel | None:
        """The regression of *group*, or ``None`` when the traces did not measure it.

        Args:
            group: the operation.
            kind: a layer kind: its own prices where it has some, else the pooled ones.
        """
        found = {model.kind: model for model in self.operations if model.group == group}
        return found.get(kind, found.get(ANY_KIND))

    def predict(
        self, layers: Sequence[LayerInfo], model_name: str, *, modules: Sequence[Cell] = ()
    ) -> CostFile:
        """Costs of a model that was never profiled.

        Args:
            layers: the model's layers, `profiler.layers.layers_of`.
            model_name: how the cost file names the model.
            modules: training steps to price, the cells of `profiler.modules.TrainOperation`;
                those without multiply-accumulates are left out, and the file says so.

        Raises:
            InputError: the traces held no ``update`` blocks, or *layers* is empty.
        """
        from costmodels.prediction import predict

        return predict(self, layers, model_name, modules)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the model whole or not at all.

        Raises:
            OutputExistsError: *path* exists and *force* is false.
        """
        save_signed(self, path, force=force)

    @classmethod
    def load(cls, path: str | Path) -> CostModel:
        """Read a cost model.

        Raises:
            InputFileError: the file is absent or unreadable.
            FileFormatError: not a cost model, another version, edited, or refused content.
        """
        versions = {"version": VERSION, "features_version": FEATURES_VERSION}
        return load_signed(cls, path, name="a cost model", schema=SCHEMA, versions=versions)
