"""A trace made of a session's journal, on any machine that has pandas and pydantic.

A machine that measures may have neither; its journal holds everything that the trace shows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.errors import FileFormatError
from profiler.journal import Journal, Measured
from profiler.meters.base import MeterInfo
from profiler.records import BlockRecord, block_table, record_from
from profiler.workloads import Cell

if TYPE_CHECKING:
    from profiler.trace import Trace

INTERRUPTED = "interrupted: the trace is of what its journal held"


def trace_of_journal(path: str | Path) -> Trace:
    """The trace of the blocks in a journal; one whose session did not end says so.

    Raises:
        InputFileError: the journal cannot be read.
        FileFormatError: it is no journal, damaged, of a release that kept less in it, or holds
            no block.
    """
    path = Path(path)
    if path.suffix in (".parquet", ".csv"):
        raise FileFormatError(f"{path} is a trace, not a journal; give the session's .journal")
    measured = Journal.read(path)
    try:
        return _trace(measured)
    except (KeyError, TypeError, IndexError) as error:
        raise FileFormatError(f"{path} holds too little to make a trace of: {error!r}") from error
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from error


def _trace(measured: Measured) -> Trace:
    from profiler.trace import Trace, parse_metadata

    if not measured.blocks:
        raise FileFormatError("no block was measured; go on with it by --resume")
    about = dict(measured.header["metadata"])
    end = measured.end
    if end is not None:
        about["settings"] = {**about["settings"], "max_time_s": end["max_time_s"]}
    metadata = parse_metadata(
        json.dumps(
            {
                **about,
                "schema_name": "cwmp.trace",
                "version": 1,
                "dropped": measured.dropped,
                "remarks": [INTERRUPTED] if end is None else end["remarks"],
            }
        )
    )
    cells = [Cell(**{**cell, "shape": tuple(cell["shape"])}) for cell in measured.header["cells"]]
    table = block_table(
        [record_from(BlockRecord, line) for line in measured.blocks],
        cells,
        MeterInfo(
            name=metadata.meter,
            device=metadata.device,
            origin=metadata.origin,
            rails=(),
            selected=tuple(measured.header["identity"]["rails"]),
        ),
        model=metadata.model,
        period_s=metadata.probe.get("period_s"),
        cell_flags={} if end is None else dict(end["flags"]),
    )
    return Trace(metadata, table)
