"""What the columns of somebody's table of energies mean: a small TOML file, version 1.

::

    version = 1
    source = "who recorded this, and under which licence"   # the origin, one sentence
    meter = "RAPL package domain"                           # optional
    device = "Xeon E5-2650"             # or { column = "host" }; optional
    kind = "conv2d"                     # or { column = "op", shapes = { Conv = "conv2d" } }
    dtype = "float32"                   # item size of the shape's bytes; the default

    [file]                              # all optional
    format = "csv"                      # csv (any separator) or jsonl; default by the name
    separator = ","                     # default: sniffed; "space" for runs of white space
    comment = "#"                       # lines that begin so are skipped
    decimal = ","                       # 1.234,5 is a number; "." reads 1,234.5; default: neither
    names = ["a", "b"]                  # the file has no header; these are its columns
    [file.lists]                        # a cell that holds a list becomes columns of its own
    data = ["batch", "in_channels", "_"]                    # "_" leaves an item out

    [energy]                            # either a column of energies ...
    column = "energy"                   # or columns = ["gpu0", "gpu1"]: their sum
    unit = "uJ"                         # J kJ mJ uJ nJ Wh kWh mWh
    calls = "repetitions"               # optional, column or number: recorded over so many calls
    time = "duration"                   # optional here: to check that the power is plausible
    time_unit = "us"                    # h min s ms us ns
    wrap_size = 262143328850            # optional, in *unit*: what the counter wraps at
    wrap_windows = 100                  # optional: the row is the mean of so many readings
    cumulative = true                   # optional: a running total, to be differenced; false:
                                        # it is not, though it looks like one
    # ... or  power = "average_power", power_unit = "W", time = "duration", time_unit = "s"

    [shape]                             # the layer's shape: field = column or number ...
    batch = "batch_size"                # fields of each kind: costmodels.tables.shapes
    padding = 0

    [features]                          # ... and/or ready features and the unit of their price
    macs = { column = "flops", unit = "J/MAC", scale = 0.5 }

    [groupings]                         # what is left out together; the first is the main one
    kernel = "k_size"                   # a column, or a list of them
    size = { feature = "macs", bins = 6 }                   # quantile bins

    [whole]                             # optional: some rows measured a whole model;
    rows = ["layer == total"]           # these, which are not fitted to
    of = "network"                      # the column that says which layers make it up

    [rows]                              # all optional
    drop = ["batch > 512"]              # not wanted: == != < <= > >= and a number or a word
    failed = ["status == error"]        # the measurement failed
    duplicates = "drop"                 # or "keep", which it is by default with [whole]
    mixed_units = "refuse"              # or "keep": the energies of a kind do differ that much
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from costmodels.tables.decimals import Decimal
from costmodels.tables.names import listed, nearest
from costmodels.tables.shapes import FIELDS, ITEM_BYTES, SHAPE_KINDS, shape_kind
from profiler.errors import FileFormatError, InputError
from profiler.files import read_bytes

EnergyUnit = Literal["J", "kJ", "mJ", "uJ", "µJ", "nJ", "Wh", "kWh", "mWh"]
PowerUnit = Literal["W", "kW", "mW", "uW", "µW"]
TimeUnit = Literal["h", "min", "s", "ms", "us", "µs", "ns"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            for key in data:
                if key not in cls.model_fields:
                    raise ValueError(
                        f"unknown key {key!r}{nearest(str(key), cls.model_fields)} "
                        f"known: {listed(cls.model_fields)}"
                    )
        return data


class FileFormat(_Strict):
    """How the file is laid out; see the module."""

    format: Literal["csv", "jsonl"] | None = None
    separator: Name | None = None
    comment: Name | None = None
    decimal: Decimal | None = None
    names: list[Name] | None = None
    lists: dict[str, list[Name]] = Field(default_factory=dict)
    list_separator: Name = ","


class Energy(_Strict):
    """Where the joules of a row are; see the module."""

    column: Name | None = None
    columns: list[Name] | None = Field(default=None, min_length=1)
    unit: EnergyUnit | None = None
    power: Name | None = None
    power_unit: PowerUnit | None = None
    time: Name | None = None
    time_unit: TimeUnit | None = None
    calls: Name | Positive | None = None
    wrap_size: Positive | None = None
    wrap_windows: Annotated[int, Field(ge=1)] = 1
    cumulative: bool | None = None
    max_power_w: Positive = 100e3

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [self.column is not None, self.columns is not None, self.power is not None]
        if sum(ways) != 1:
            raise ValueError("give one of column, columns and power: where the energy is")
        if self.power is None and self.unit is None:
            raise ValueError("give the unit of the energy column, such as unit = 'uJ'")
        if self.power is None and self.power_unit is not None:
            raise ValueError("power_unit is given without power")
        if self.power is not None:
            if self.time is None or self.power_unit is None:
                raise ValueError("power needs power_unit, time and time_unit beside it")
            if self.unit or self.wrap_size or self.cumulative:
                raise ValueError("unit, wrap_size and cumulative = true go with an energy column")
        if (self.time is None) != (self.time_unit is None):
            raise ValueError("time and time_unit go together")
        return self

    @property
    def energy_columns(self) -> list[str]:
        """The columns whose sum is the energy; none where power is given."""
        return self.columns or ([self.column] if self.column is not None else [])


class KindColumn(_Strict):
    """The column that names the kind, and the shape formulas of names that are not known."""

    column: Name
    shapes: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known_shapes(self) -> Self:
        for name in self.shapes.values():
            if shape_kind(name) is None:
                raise ValueError(
                    f"shapes names {name!r}{nearest(name, SHAPE_KINDS)} "
                    f"known: {listed(SHAPE_KINDS)}"
                )
        return self


class DeviceColumn(_Strict):
    """The column that names the device."""

    column: Name


class Feature(_Strict):
    """A ready feature: scale x column ** exponent, and the unit of its price.

    ``column`` is the feature's own name where it is not given.
    """

    unit: Name
    column: Name | None = None
    scale: Positive = 1.0
    exponent: float = 1.0

    @model_validator(mode="after")
    def _priced_in_joules(self) -> Self:
        if not self.unit.startswith("J"):
            raise ValueError(f"the unit of a price is in joules, such as J/MAC, not {self.unit!r}")
        return self


class SizeBins(_Strict):
    """Quantile bins of a feature."""

    feature: Name
    bins: Annotated[int, Field(ge=2, le=1000)] = 6


class Rows(_Strict):
    """Which rows are not wanted; see the module."""

    drop: list[Name] = Field(default_factory=list)
    failed: list[Name] = Field(default_factory=list)
    duplicates: Literal["drop", "keep"] | None = None
    mixed_units: Literal["refuse", "keep"] = "refuse"


class Whole(_Strict):
    """Which rows measured whole models, and of which each row is a layer; see the module."""

    rows: list[Name] = Field(min_length=1)
    of: Name


class TableSpec(_Strict):
    """What a table's columns mean; the module shows every key.

    Raises:
        InputError: by `from_dict`, what is wrong and where.
        FileFormatError: by `load`, the same with the file.
    """

    version: Literal[1]
    source: str = ""
    meter: str = ""
    device: str | DeviceColumn = ""
    kind: Name | KindColumn | None = None
    dtype: str = "float32"
    file: FileFormat = Field(default_factory=FileFormat)
    energy: Energy
    shape: dict[str, Name | Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    features: dict[str, Feature] = Field(default_factory=dict)
    groupings: dict[str, Name | list[Name] | SizeBins] = Field(default_factory=dict)
    rows: Rows = Field(default_factory=Rows)
    whole: Whole | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for field in self.shape:
            if field not in FIELDS:
                raise ValueError(
                    f"[shape] has an unknown field {field!r}{nearest(field, FIELDS)} "
                    f"known: {', '.join(FIELDS)}"
                )
        if self.dtype not in ITEM_BYTES:
            raise ValueError(
                f"dtype {self.dtype!r} is unknown{nearest(self.dtype, ITEM_BYTES)} "
                f"known: {', '.join(ITEM_BYTES)}"
            )
        if not self.shape and not self.features:
            raise ValueError("give [shape], [features] or both: what the energy is explained by")
        if self.shape and self.kind is None:
            raise ValueError(f"[shape] needs a kind: one of {', '.join(SHAPE_KINDS)}")
        if self.shape and isinstance(self.kind, str) and shape_kind(self.kind) is None:
            raise ValueError(
                f"kind {self.kind!r} has no shape formula{nearest(self.kind, SHAPE_KINDS)} "
                f"known: {', '.join(SHAPE_KINDS)}; or give ready [features]"
            )
        return self

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """The spec of a parsed TOML file.

        Raises:
            InputError: unknown or missing keys, or values that are not theirs.
        """
        if content.get("version", 1) != 1:
            raise InputError(
                f"version {content['version']!r} of a table spec is not known: this reads version 1"
            )
        try:
            return cls.model_validate(dict(content))
        except ValidationError as error:
            raise InputError(_sentence(error)) from error

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a spec from a TOML file.

        Raises:
            InputFileError: *path* cannot be read.
            FileFormatError: it is not TOML, or not a spec of version 1.
        """
        path = Path(path)
        try:
            return cls.from_dict(tomllib.loads(read_bytes(path).decode()))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise FileFormatError(f"{path} is not valid TOML: {error}") from error
        except InputError as error:
            raise FileFormatError(f"{path}: {error}") from error


def _sentence(error: ValidationError) -> str:
    """The most telling problem in one line: where it is, and what is wrong."""
    # A union reports every branch; what a validator of ours said is the clearest.
    problems = error.errors(include_url=False)
    problem = next((item for item in problems if item["type"] == "value_error"), problems[0])
    parts = [str(part) for part in problem["loc"] if not _branch(str(part))]
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        message = "is missing"
    return f"{'.'.join(parts)}: {message}" if parts else message


def _branch(part: str) -> bool:
    return part in ("str", "int", "float", "KindColumn", "DeviceColumn", "SizeBins") or (
        part.startswith(("constrained-", "list["))
    )
