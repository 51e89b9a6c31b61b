"""The picture of a fitted table: left-out predictions with intervals, residuals by feature."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from costmodels.estimates import interval_labels
from costmodels.evaluation.pictures import FORMATS, draw_fit
from profiler.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from costmodels.samples import Samples
    from costmodels.tabletests import Tested

_MOST_PANELS = 6


def check_picture(path: Path) -> None:
    """Raise before a long fit what would stop its picture.

    Raises:
        InputError: *path* is neither PNG nor SVG.
        MissingExtraError: matplotlib is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path} ends in {path.suffix!r}: pictures are .png or .svg")
    if find_spec("matplotlib") is None:
        raise MissingExtraError("the picture needs matplotlib: pip install 'cwmp[report]'")


def draw_tested(path: Path, samples: Samples, tested: Tested, *, force: bool = False) -> None:
    """Draw what `costmodels.tablefit.fit_and_test` found, as PNG or SVG.

    Every prediction was made without the row's group of the first grouping. Intervals are those
    at 90 % that all groups calibrate, so they hold a little more often here than on a new group;
    the coverage in the title judges each group by the others.

    Raises:
        InputError: one group only, so that nothing was left out; or another ending of *path*.
        OutputExistsError: *path* exists and *force* is false.
        MissingExtraError: matplotlib is not installed.
    """
    report = tested.tests[0]
    if report.scores is None:
        raise InputError(f"there is nothing to draw: {report.verdict}")
    calibration = tested.calibrations[0]
    labels = interval_labels(samples.kind, tested.inside)
    widths = {str(name): calibration.width(str(name)) for name in np.unique(labels)}
    below = np.array([widths[name].below_log for name in labels.tolist()])
    above = np.array([widths[name].above_log for name in labels.tolist()])
    columns = {
        name: values.to_numpy(np.float64)
        for frame in (samples.features, samples.shape)
        for name, values in frame.items()
        if np.ptp(values.to_numpy(np.float64)) > 0
    }
    draw_fit(
        path,
        samples.energy_j,
        tested.predicted_j,
        low=tested.predicted_j * np.exp(-below),
        high=tested.predicted_j * np.exp(above),
        kind=samples.kind,
        features=dict(list(columns.items())[:_MOST_PANELS]),
        coverage=report.coverage_90,
        title=f"{samples.source}\npredicted without each row's {report.grouping}, "
        + ("" if widths and calibration.pooled.calibrated else "uncalibrated ")
        + f"{100 * calibration.level:g} % intervals",
        force=force,
    )
