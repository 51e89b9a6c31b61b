"""The JSON Schemas of what this package writes: ``python -m costmodels.schema docs/schemas``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def json_schemas() -> dict[str, dict[str, Any]]:
    """File name -> JSON Schema (draft 2020-12) of the file format's current version."""
    from costmodels.costfile import CostFile
    from costmodels.costmodel import CostModel
    from costmodels.energymodel import EnergyModel
    from costmodels.estimatefile import EstimateFile

    return {
        "costs.v1.schema.json": published(CostFile.model_json_schema()),
        "costmodel.v1.schema.json": published(_signed(CostModel.model_json_schema())),
        "energymodel.v1.schema.json": published(_signed(EnergyModel.model_json_schema())),
        "estimates.v1.schema.json": published(EstimateFile.model_json_schema()),
    }


def published(schema: dict[str, Any]) -> dict[str, Any]:
    """What pydantic says of a class, as this project publishes it."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_once(schema)}


def _signed(schema: dict[str, Any]) -> dict[str, Any]:
    """*schema* with the checksum that a file has beside what the class holds."""
    checksum = {
        "type": "string",
        "pattern": "^[0-9a-f]{64}$",
        "description": "SHA-256 of the file's other content, canonical JSON.",
    }
    return {
        **schema,
        "properties": {**schema["properties"], "checksum": checksum},
        "required": [*schema["required"], "checksum"],
    }


def _once(schema: Any) -> Any:
    """*schema* without what it says twice, which versions of pydantic do differently.

    A ``const`` needs no ``enum`` of one beside it, and additional properties are allowed where
    nothing forbids them.
    """
    if isinstance(schema, list):
        return [_once(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _once(value)
        for key, value in schema.items()
        if not (key == "enum" and "const" in schema)
        and not (key == "additionalProperties" and value is True)
    }


def schema_text(schema: dict[str, Any]) -> str:
    """The text of a schema file."""
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


def write_schemas(folder: Path, schemas: Mapping[str, dict[str, Any]] | None = None) -> list[Path]:
    """Write *schemas* (this package's) into *folder*, replacing older ones; return the paths."""
    from profiler.files import write_atomic

    written = []
    for name, schema in (json_schemas() if schemas is None else schemas).items():
        write_atomic(folder / name, schema_text(schema).encode(), force=True)
        written.append(folder / name)
    return written


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/schemas"))
