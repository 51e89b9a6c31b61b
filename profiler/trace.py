"""The trace: one row a block, and what must be known to read it.

Parquet keeps the metadata in the file's schema, CSV in a first line that starts with
``#``. Both carry the schema's name and version; other versions are refused. An entry that
does not apply is null, never 0.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from profiler.errors import FileFormatError, MissingExtraError
from profiler.files import read_bytes, refuse_existing, write_atomic
from profiler.meters.base import Origin, Systematic
from profiler.workloads import OperationName, Pattern

if TYPE_CHECKING:
    import pandas as pd

SCHEMA: Literal["cwmp.trace"] = "cwmp.trace"
VERSION: Literal[1] = 1
_PARQUET_KEY = b"cwmp.trace"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the block table."""

    name: str
    dtype: Literal["str", "int", "float"]
    meaning: str
    nullable: bool = False
    minimum: float | None = None
    optional: bool = False


COLUMNS: tuple[Column, ...] = (
    Column("block", "int", "running number of the block in its session", minimum=0),
    Column("stage", "str", "pilot: sets the block count; main: the rest"),
    Column("device", "str", "the hardware metered, as it names itself"),
    Column("meter", "str", "the energy source"),
    Column("rail", "str", "the rails summed, joined by +"),
    Column("origin", "str", "measured, modelled or assumed"),
    Column("model", "str", "the model's name"),
    Column("layer", "str", "parameter tensor, module (train), or * for a whole payload"),
    Column("kind", "str", "module class and role, conv2d.weight; payload for encode and send"),
    Column("shape", "str", "dimensions joined by x"),
    Column("dtype", "str", "element type"),
    Column("parameters", "int", "entries in the layer", minimum=1),
    Column("operation", "str", "update, encode, send, select or train"),
    Column("density", "float", "k / parameters; null for train", nullable=True, minimum=0),
    Column("k", "int", "entries applied or sent; examples in a batch for train", minimum=1),
    Column("pattern", "str", "random, clustered, dense, batch, or the rule of select"),
    Column("payload_bytes", "int", "bytes encoded or sent a call", nullable=True, minimum=0),
    Column("macs", "float", "multiply-accumulates of one forward call", nullable=True, minimum=0),
    Column("repetitions", "int", "calls in the block", minimum=1),
    Column("start_s", "float", "monotonic seconds since the session began", minimum=0),
    Column("duration_s", "float", "length of the operation's window", minimum=0),
    Column("energy_j", "float", "joules in the operation's window", minimum=0),
    Column("reference_duration_s", "float", "length of the matched loop's window", minimum=0),
    Column("reference_energy_j", "float", "joules in the matched loop's window", minimum=0),
    Column("sleep_duration_s", "float", "length of the sleep window", minimum=0),
    Column("sleep_energy_j", "float", "joules in the sleep window", minimum=0),
    Column("cost_j_per_call", "float", "marginal: (energy - reference) / repetitions"),
    Column(
        "gross_j_per_call", "float", "above sleep: (energy - sleep power x duration) / repetitions"
    ),
    Column(
        "standard_error_j_per_call",
        "float",
        "of the marginal cost, from counter steps alone",
        minimum=0,
    ),
    Column("period_s", "float", "update period of the counter", nullable=True, minimum=0),
    Column(
        "temperature_c", "float", "of the device before the block", nullable=True, optional=True
    ),
    Column("flags", "str", "comma-separated; empty when nothing was remarkable"),
)
VOCABULARIES: dict[str, tuple[str, ...]] = {
    "stage": ("pilot", "main"),
    "origin": get_args(Origin),
    "operation": get_args(OperationName),
    "pattern": get_args(Pattern),
}
"""The words that a column may hold."""


class LayerRecord(BaseModel):
    """A layer of the profiled model and the layer whose cells stand for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    measured_as: str


class TraceMetadata(BaseModel):
    """What must be known to read, compare or continue a trace."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_name: Literal["cwmp.trace"] = SCHEMA
    version: Literal[1] = VERSION
    created_utc: str
    model: str
    layers: tuple[LayerRecord, ...]
    device: str
    meter: str
    origin: Origin
    assumptions: tuple[str, ...] = ()
    scope: tuple[str, ...] = ()
    """What the joules include beyond the operation, or leave out: loopback counts both ends, ..."""
    systematic: tuple[Systematic, ...] = ()
    """Errors of the meter beside the intervals; see `profiler.meters.base.Systematic`."""
    implementations: dict[str, str] = Field(default_factory=dict)
    """Operation -> the code measured, ``update: torch.Tensor.index_add_``."""
    host: dict[str, Any] = Field(default_factory=dict)
    software: dict[str, str] = Field(default_factory=dict)
    probe: dict[str, Any] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    seed: int
    dropped: dict[str, int] = Field(default_factory=dict)
    """Blocks dropped, counted by cause."""
    remarks: tuple[str, ...] = ()
    """Interrupted, capped by --max-time, ..."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The blocks of one profiling session. ``Trace.load`` and ``Trace.save`` are the file.

    Raises:
        FileFormatError: a column is missing or holds what the schema refuses.
    """

    metadata: TraceMetadata
    blocks: pd.DataFrame

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", check_blocks(self.blocks))

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """Read a ``.parquet`` or ``.csv`` trace.

        Raises:
            InputFileError: the file is absent or unreadable.
            FileFormatError: it is no trace, of another version, or its content is refused.
        """
        path = Path(path)
        content = read_bytes(path)
        try:
            header, blocks = _reader(path)(content)
            return cls(parse_metadata(header), blocks)
        except FileFormatError as error:
            raise FileFormatError(f"{path}: {error}") from error

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the trace whole or not at all, as Parquet or CSV by *path*'s suffix.

        Raises:
            OutputExistsError: *path* exists and *force* is false.
            FileFormatError: the suffix is neither ``.parquet`` nor ``.csv``.
        """
        path = Path(path)
        check_suffix(path)
        refuse_existing(path, force=force)
        header = self.metadata.model_dump_json()
        encode = _to_csv if path.suffix == ".csv" else _to_parquet
        write_atomic(path, encode(header, self.blocks), force=force)


def check_suffix(path: Path) -> None:
    """Raise `FileFormatError` unless *path* names one of the two formats."""
    if path.suffix not in (".parquet", ".csv"):
        raise FileFormatError(f"{path}: a trace ends in .parquet or .csv")


def parse_metadata(header: str | bytes) -> TraceMetadata:
    """Metadata from its JSON text.

    Raises:
        FileFormatError: not a trace's metadata, or of another version.
    """
    try:
        raw = json.loads(header)
    except ValueError as error:
        raise FileFormatError(f"the trace's metadata is not JSON: {error}") from error
    if not isinstance(raw, dict) or raw.get("schema_name") != SCHEMA:
        raise FileFormatError(f"not a trace: its schema is not {SCHEMA!r}")
    if raw.get("version") != VERSION:
        raise FileFormatError(
            f"trace version {raw.get('version')!r}; this release reads version {VERSION}: "
            "profile again or install the release that wrote it"
        )
    try:
        return TraceMetadata.model_validate(raw)
    except ValidationError as error:
        raise FileFormatError(f"the trace's metadata is refused: {describe(error)}") from error


def check_blocks(blocks: pd.DataFrame) -> pd.DataFrame:
    """The block table with the schema's columns, order and types.

    Raises:
        FileFormatError: a column is missing, holds NaN or inf where a number is needed, is
            out of range or holds an unknown word, or a block's number appears twice. Paired
            differences may be negative; raw energies may not.
    """
    import numpy as np
    import pandas as pd

    absent = [column for column in COLUMNS if column.name not in blocks]
    blocks = blocks.assign(**{column.name: np.nan for column in absent if column.optional})
    missing = [column.name for column in absent if not column.optional]
    if missing:
        raise FileFormatError(f"column {missing[0]!r} is missing from the trace")
    checked: dict[str, pd.Series] = {}
    for column in COLUMNS:
        series = blocks[column.name]
        if column.dtype == "str":
            checked[column.name] = series.fillna("").astype(str)
            continue
        try:
            numbers = pd.to_numeric(series).astype("float64")
        except (TypeError, ValueError) as error:
            raise FileFormatError(f"column {column.name!r} is not numeric: {error}") from error
        values = numbers.to_numpy()
        bad = ~np.isfinite(values)
        if column.nullable:
            bad &= ~np.isnan(values)
        if column.minimum is not None:
            bad |= values < column.minimum
        if column.dtype == "int":
            bad |= np.isfinite(values) & (values != np.floor(values))
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise FileFormatError(f"column {column.name!r} is {values[row]} in row {row}")
        whole = "Int64" if column.nullable else "int64"
        checked[column.name] = numbers.astype(whole) if column.dtype == "int" else numbers
    table = pd.DataFrame(checked).reset_index(drop=True)
    _check_words(table)
    twice = table["block"].duplicated()
    if twice.any():
        raise FileFormatError(f"block {table['block'][twice].iloc[0]} appears twice")
    return table


def _check_words(table: pd.DataFrame) -> None:
    for name, known in VOCABULARIES.items():
        unknown = sorted(set(table[name]) - set(known))
        if unknown:
            raise FileFormatError(f"{name} {unknown[0]!r} is not one of {', '.join(known)}")


def describe(error: ValidationError) -> str:
    """The first fault of a pydantic error, in one line."""
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where or 'document'}: {fault['msg']}"


def _reader(path: Path) -> Any:
    check_suffix(path)
    return _from_csv if path.suffix == ".csv" else _from_parquet


def _to_csv(header: str, blocks: pd.DataFrame) -> bytes:
    return f"# {header}\n{blocks.to_csv(index=False)}".encode()


def _from_csv(content: bytes) -> tuple[str, pd.DataFrame]:
    import pandas as pd

    first, _, rest = content.partition(b"\n")
    if not first.startswith(b"# "):
        raise FileFormatError("not a trace: the first line does not carry the metadata")
    try:
        table = pd.read_csv(io.BytesIO(rest), dtype=str, keep_default_na=False, na_values=[""])
    except (ValueError, pd.errors.ParserError) as error:
        raise FileFormatError(f"the table cannot be parsed: {error}") from error
    for column in COLUMNS:
        if column.dtype != "str" and column.name in table:
            try:  # text to float by its own conversion, since read_csv's may lose the last bit
                table[column.name] = table[column.name].astype("float64")
            except ValueError as error:
                raise FileFormatError(f"column {column.name!r} is not numeric: {error}") from error
    return first[2:].decode(), table


def _to_parquet(header: str, blocks: pd.DataFrame) -> bytes:
    pa, parquet = _arrow()
    table = pa.Table.from_pandas(blocks, preserve_index=False)
    table = table.replace_schema_metadata(
        {**(table.schema.metadata or {}), _PARQUET_KEY: header.encode()}
    )
    sink = io.BytesIO()
    parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _from_parquet(content: bytes) -> tuple[bytes, pd.DataFrame]:
    pa, parquet = _arrow()
    try:
        table = parquet.read_table(io.BytesIO(content))
    except (pa.ArrowInvalid, OSError) as error:
        raise FileFormatError(f"not a Parquet file: {error}") from error
    header = (table.schema.metadata or {}).get(_PARQUET_KEY)
    if header is None:
        raise FileFormatError(f"not a trace: no {SCHEMA!r} metadata in the Parquet schema")
    return header, table.to_pandas()


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError(
            "Parquet needs pyarrow: pip install pyarrow, or use a .csv trace"
        ) from error
    return pyarrow, pyarrow.parquet
