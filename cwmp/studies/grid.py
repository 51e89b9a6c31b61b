"""The runs of a study: every place of its grid as a job with labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cwmp.fl.job import Job


@dataclass(frozen=True, slots=True)
class Planned:
    """One run of a study, before it is run.

    Attributes:
        job: what is run.
        labels: its place in the grid: ``device`` (the name of the fleet), ``alpha``, ``seed``,
            ``method``, ``budget``, and ``control``: "" but for controls.
    """

    job: Job
    labels: Mapping[str, Any]
