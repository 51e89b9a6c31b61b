"""The JSON Schemas of what federated runs leave behind: ``python -m cwmp.schema docs/schemas``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from costmodels.schema import published, write_schemas


def json_schemas() -> dict[str, dict[str, Any]]:
    """File name -> JSON Schema (draft 2020-12) of the file format's current version.

    A checkpoint is an archive of arrays; its schema is that of the head, which says what they are.
    """
    from cwmp.fl.checkpoint import Head
    from cwmp.studies.runs import RunFile
    from cwmp.studies.summary import StudySummary

    return {
        "run.v1.schema.json": published(RunFile.model_json_schema()),
        "studysummary.v1.schema.json": published(StudySummary.model_json_schema()),
        "checkpoint.v1.schema.json": published(Head.model_json_schema()),
    }


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/schemas"), json_schemas())
