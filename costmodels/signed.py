"""Model files: JSON with a schema name, versions, and a checksum over the content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from profiler.errors import FileFormatError
from profiler.files import read_json, write_atomic
from profiler.trace import describe

_Model = TypeVar("_Model", bound=BaseModel)


def save_signed(model: BaseModel, path: str | Path, *, force: bool) -> None:
    """Write *model* and its checksum whole or not at all.

    Raises:
        OutputExistsError: *path* exists and *force* is false.
    """
    content = model.model_dump(mode="json")
    text = json.dumps({**content, "checksum": checksum(content)}, indent=1, allow_nan=False) + "\n"
    write_atomic(Path(path), text.encode(), force=force)


def load_signed(
    kind: type[_Model], path: str | Path, *, name: str, schema: str, versions: Mapping[str, int]
) -> _Model:
    """Read what `save_signed` wrote.

    Args:
        kind: the model's class.
        path: the file.
        name: what it is called in errors, with its article: ``a cost model``.
        schema: what ``schema_name`` must be.
        versions: field -> the one value that is read.

    Raises:
        InputFileError: the file is absent or unreadable.
        FileFormatError: another schema or version, edited, or refused content.
    """
    path = Path(path)
    raw = read_json(path)
    if not isinstance(raw, dict) or raw.get("schema_name") != schema:
        raise FileFormatError(f"{path} is not {name}: its schema is not {schema!r}")
    for key, known in versions.items():
        if raw.get(key) != known:
            raise FileFormatError(
                f"{path} has {name.partition(' ')[2]} {key.replace('_', ' ')} {raw.get(key)!r}; "
                f"this release reads {known}: fit it again with 'cwmp fit'"
            )
    if raw.pop("checksum", None) != checksum(raw):
        raise FileFormatError(
            f"{path} does not match its checksum, it was edited or damaged: "
            "fit it again with 'cwmp fit'"
        )
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise FileFormatError(f"{path} is refused: {describe(error)}") from error


def checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 of the content as canonical JSON, the checksum itself left out."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
