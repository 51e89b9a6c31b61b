"""What a cost model stores for each operation: prices with units, intervals, and their worth."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from costmodels.features import FEATURES, Group
from costmodels.validation import Validation

_NonNegative = Annotated[float, Field(ge=0)]
ANY_KIND = "*"
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Strict(BaseModel):
    """Refuses unknown fields, NaN and infinities."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Coefficient(Strict):
    """A price with its 95 % interval, and the range of its feature in training."""

    feature: str
    unit: str
    value: _NonNegative
    low: _NonNegative
    high: _NonNegative
    feature_low: float
    feature_high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not (self.low <= self.value <= self.high and self.feature_low <= self.feature_high):
            raise ValueError(f"the interval of {self.feature!r} does not contain its value")
        return self


class GroupResiduals(Strict):
    """Quantiles of log measured - log predicted in one group while it was left out."""

    group: str
    cells: Annotated[int, Field(ge=1)]
    q05: float
    median: float
    q95: float


class OperationModel(Strict):
    """The regression of one operation, over all layer kinds or of one.

    Attributes:
        group: the operation; ``update`` holds random and clustered, ``update.dense`` the add.
        kind: the layer kind that it speaks of; ``*`` for all without prices of their own, known
            or not.
        coefficients: one a feature, in the order of the feature list.
        interval_method: how the coefficients' intervals were made.
        kinds: the layer kinds it was fitted on.
        patterns: the index patterns it was fitted on.
        k_low, k_high: the range of k that it was fitted on.
        implementation: the code that was measured.
        residuals: by left-out group.
        validation: leave-one-group-out cross-validation.
        cells, blocks: what it was fitted on.
    """

    group: Group
    kind: str = ANY_KIND
    coefficients: Annotated[tuple[Coefficient, ...], Field(min_length=1)]
    interval_method: str
    kinds: tuple[str, ...]
    patterns: Annotated[tuple[str, ...], Field(min_length=1)]
    k_low: Annotated[int, Field(ge=1)]
    k_high: Annotated[int, Field(ge=1)]
    implementation: str
    residuals: tuple[GroupResiduals, ...]
    validation: Validation
    cells: Annotated[int, Field(ge=1)]
    blocks: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _known_features(self) -> Self:
        wanted = [(feature.name, feature.unit) for feature in FEATURES[self.group]]
        if [(price.feature, price.unit) for price in self.coefficients] != wanted:
            raise ValueError(f"the features of {self.group!r} are not {wanted}")
        if not any(price.value > 0 for price in self.coefficients):
            raise ValueError(f"every price of {self.group!r} is zero")
        if self.k_low > self.k_high:
            raise ValueError(f"the range of k of {self.group!r} is empty")
        return self

    @property
    def name(self) -> str:
        """``update``, or ``update of linear.weight``."""
        return self.group if self.kind == ANY_KIND else f"{self.group} of {self.kind}"

    @property
    def prices(self) -> tuple[float, ...]:
        """J per unit of each feature."""
        return tuple(price.value for price in self.coefficients)


class TraceSource(Strict):
    """A trace that the model was fitted on."""

    model: str
    created_utc: str
    blocks: Annotated[int, Field(ge=1)]
    sha256: Hash
