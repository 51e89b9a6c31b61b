"""JSON documents with a schema name and a version: read whole, or refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from profiler.errors import FileFormatError
from profiler.files import read_json
from profiler.trace import describe

Document = TypeVar("Document", bound=BaseModel)


def read_document(
    path: Path, model: type[Document], schema: str, version: int, noun: str
) -> Document:
    """The document at *path*; *noun* says in errors what it should have been.

    Raises:
        InputFileError: the file is absent or unreadable.
        FileFormatError: not such a document, another version, or refused content.
    """
    raw = read_json(path)
    if not isinstance(raw, dict) or raw.get("schema_name") != schema:
        raise FileFormatError(f"{path} is not {noun}: its schema is not {schema!r}")
    if raw.get("version") != version:
        raise FileFormatError(
            f"{path} has version {raw.get('version')!r}; this release reads {version}"
        )
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise FileFormatError(f"{path} is refused: {describe(error)}") from error
