"""The energy model: joules of a call from a table of measurements, as one JSON file."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, model_validator

from costmodels.costfile import Origin
from costmodels.estimators.correction import Correction, LogColumns
from costmodels.estimators.quadratic import Quadratic, terms_of
from costmodels.evaluation.additivity import Additivity
from costmodels.evaluation.conformal import Calibration, Width
from costmodels.evaluation.scores import Coverage, Scores
from costmodels.records import Coefficient, GroupResiduals, Strict
from costmodels.samples import ANY_KIND
from costmodels.signed import load_signed, save_signed
from profiler.errors import FileFormatError

if TYPE_CHECKING:
    import pandas as pd

    from costmodels.estimates import Estimates

SCHEMA: Literal["cwmp.energymodel"] = "cwmp.energymodel"
VERSION: Literal[1] = 1


class QuadraticPart(Strict):
    """`costmodels.estimators.quadratic.Quadratic` of the logarithms of features and shape."""

    centre: tuple[float, ...]
    spread: tuple[Annotated[float, Field(gt=0)], ...]
    intercept: float
    coef: tuple[float, ...]

    @property
    def inputs(self) -> int | None:
        """How many columns it is of; ``None`` where its parts do not fit together."""
        inputs = len(self.centre)
        fits = len(self.spread) == inputs and len(self.coef) == terms_of(inputs)
        return inputs if fits else None

    @property
    def quadratic(self) -> Quadratic:
        return Quadratic(
            np.array(self.centre), np.array(self.spread), self.intercept, np.array(self.coef)
        )


class TreeCorrection(Strict):
    """A learned factor on the prices' prediction (`costmodels.estimators.correction`).

    Attributes:
        format: the trees are an ONNX model, base64; nothing in it is executed.
        columns: names of the trees' columns.
        priced: positions, among features and shape, of what enters ratios.
        floors: what stands for log 0, one for each feature and shape column.
        low, high: the box of the features' and shape columns' logarithms; outside it the factor
            is 1.
        most: the largest size of the factor's logarithm.
        smooth: a quadratic beside the trees.
        without, corrected, error, groups: what it did for groups that were left out: mean
            \\|f / y - 1\\| of the prices alone and corrected, standard error of the difference.
    """

    format: Literal["onnx"] = "onnx"
    columns: tuple[str, ...]
    priced: tuple[Annotated[int, Field(ge=0)], ...]
    floors: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    most: Annotated[float, Field(gt=0)]
    smooth: QuadraticPart | None = None
    without: float
    corrected: float
    error: float
    groups: int
    trees: str

    @cached_property
    def correction(self) -> Correction:
        """The factor, ready to use.

        Raises:
            FileFormatError: the trees are not what `costmodels.estimators.trees.to_onnx` writes,
                or do not fit the columns.
        """
        from costmodels.estimators.trees import trees_from_onnx

        try:
            content = base64.b64decode(self.trees, validate=True)
        except (binascii.Error, ValueError) as error:
            raise FileFormatError("the trees are not base64: fit the model again") from error
        columns = LogColumns(np.array(self.floors), self.priced)
        inputs = len(self.floors)
        if (
            len(self.columns) != inputs + len(columns.pairs)
            or not len(self.low) == len(self.high) == inputs
            or (self.smooth is not None and self.smooth.inputs != inputs)
            or any(at >= inputs for at in self.priced)
        ):
            raise FileFormatError("the correction's columns do not fit together: fit again")
        return Correction(
            columns=columns,
            smooth=None if self.smooth is None else self.smooth.quadratic,
            trees=trees_from_onnx(content, self.columns),
            low=np.array(self.low),
            high=np.array(self.high),
            most=self.most,
        )


class KindModel(Strict):
    """Prices of one kind of layer; ``*`` is the pooled fit, for kinds that nobody measured.

    Attributes:
        kind: its name in the table.
        rows, groups: what it was fitted to.
        prices: one a feature, with intervals and the range it was seen in.
        shape_low, shape_high: the range of each shape column.
        correction: a learned factor, where it was shown to help.
    """

    kind: str
    rows: Annotated[int, Field(ge=1)]
    groups: Annotated[int, Field(ge=1)]
    prices: Annotated[tuple[Coefficient, ...], Field(min_length=1)]
    shape_low: tuple[float, ...] = ()
    shape_high: tuple[float, ...] = ()
    correction: TreeCorrection | None = None

    @model_validator(mode="after")
    def _priced(self) -> Self:
        if not any(price.value > 0 for price in self.prices):
            raise ValueError(f"every price of {self.kind!r} is zero")
        if len(self.shape_low) != len(self.shape_high):
            raise ValueError(f"the shape ranges of {self.kind!r} have different lengths")
        return self


class GroupTest(Strict):
    """What predictions were worth for groups that were left out.

    Attributes:
        grouping: what was left out: the model, the family, a bin of sizes, the device.
        parts: how often the model was fitted again; groups are gathered where there are more.
        nested: whether the choice of corrections was made anew without each part.
        scores: of the model; absent with one group, where nothing can be left out.
        prices_alone: of its prices without corrections, where it has some.
        coverage_90: of 90 % intervals calibrated on the other groups; absent with too few.
        verdict: one sentence.
    """

    grouping: str
    parts: Annotated[int, Field(ge=0)]
    nested: bool
    scores: Scores | None
    prices_alone: Scores | None = None
    coverage_90: Coverage | None = None
    verdict: str


class EnergyModel(Strict):
    """Joules of a call of a layer or operation, fitted to a table by `fit_cost_model`.

    The file is JSON with a checksum over its content; nothing in it is ever executed.

    Attributes:
        device, meter: whose joules these are, as the table's spec says.
        origin: what predictions are: ``modelled``, whatever was measured.
        source: where the rows come from.
        data_hash: SHA-256 of the table.
        seed: of resamples and parts.
        features, units: the priced columns and the units of their prices.
        shape: further columns, which corrections look at.
        ranges: of columns that are not fitted to, least and greatest value in training; rows
            asked about may leave them out.
        rows, groups: what it was fitted to; groups of the first grouping.
        pooled, kinds: the prices.
        tests: by each grouping; the first calibrates.
        calibrations: half-widths of intervals at 90 and 95 %, by kind, inside and outside the
            range of training.
        residuals: quantiles of log measured - log predicted by left-out group of the first
            grouping; with more than a thousand groups those of the thousand largest.
        additivity: sums of left-out layers against whole models, where the table holds some.
        outside: the half-width at 95 % for rows outside the range of their kind, where the kind
            has too few of them to say.
        unseen: the half-width at 95 % for a kind that was never seen: by leaving out kinds.
        lowest_j: the smallest energy in the table: what stands where prices say nothing at all.
        findings, assumptions: what was dropped, repaired and assumed, one sentence each.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    schema_name: Literal["cwmp.energymodel"] = SCHEMA
    version: Literal[1] = VERSION
    created_utc: str
    device: str
    meter: str
    origin: Origin = "modelled"
    source: str
    data_hash: str
    seed: int
    features: Annotated[tuple[str, ...], Field(min_length=1)]
    units: tuple[str, ...]
    shape: tuple[str, ...] = ()
    ranges: dict[str, tuple[float, float]] = Field(default_factory=dict)
    rows: Annotated[int, Field(ge=1)]
    groups: Annotated[int, Field(ge=1)]
    pooled: KindModel
    kinds: tuple[KindModel, ...] = ()
    tests: Annotated[tuple[GroupTest, ...], Field(min_length=1)]
    calibrations: Annotated[tuple[Calibration, ...], Field(min_length=2, max_length=2)]
    residuals: tuple[GroupResiduals, ...] = ()
    additivity: Additivity | None = None
    outside: Width
    unseen: Width
    lowest_j: Annotated[float, Field(gt=0)]
    findings: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    software: dict[str, str]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(self.units) != len(self.features):
            raise ValueError("a feature lacks its unit, or has two")
        for model in (self.pooled, *self.kinds):
            named = [(price.feature, price.unit) for price in model.prices]
            if named != list(zip(self.features, self.units, strict=True)):
                raise ValueError(f"the prices of {model.kind!r} are of other features")
            if len(model.shape_low) != len(self.shape):
                raise ValueError(f"the shape ranges of {model.kind!r} are of other columns")
            if model.correction is not None:
                if len(model.correction.floors) != len(self.features) + len(self.shape):
                    raise ValueError(f"the correction of {model.kind!r} is of other columns")
                _ = model.correction.correction
        if [calibration.level for calibration in self.calibrations] != [0.90, 0.95]:
            raise ValueError("the calibrations are of other levels than 90 and 95 %")
        names = [model.kind for model in self.kinds]
        if len(set(names)) < len(names) or ANY_KIND in names or self.pooled.kind != ANY_KIND:
            raise ValueError("each kind has one set of prices, and '*' is the pooled one")
        return self

    def find(self, kind: str) -> KindModel:
        """The prices of *kind*: its own, or the pooled ones."""
        return next((model for model in self.kinds if model.kind == kind), self.pooled)

    def predict(
        self, frame: pd.DataFrame, kind: Sequence[str] | NDArray[np.str_] | None = None
    ) -> Estimates:
        """Joules of a call, with 95 % intervals and what lies outside the training range.

        Args:
            frame: the model's features and shape columns, shape (m, ...); others are ignored.
                `costmodels.tables.features_of` makes them of a table.
            kind: of each row; by default the only kind of the model, else the pooled prices.

        Raises:
            InputError: a column is missing, not a number, NaN, infinite or negative.
        """
        from costmodels.estimates import estimate

        return estimate(self, frame, kind)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the model whole or not at all.

        Raises:
            OutputExistsError: *path* exists and *force* is false.
        """
        save_signed(self, path, force=force)

    @classmethod
    def load(cls, path: str | Path) -> EnergyModel:
        """Read an energy model.

        Raises:
            InputFileError: the file is absent or unreadable.
            FileFormatError: not an energy model, another version, edited, or refused content.
        """
        return load_signed(
            cls, path, name="an energy model", schema=SCHEMA, versions={"version": VERSION}
        )
