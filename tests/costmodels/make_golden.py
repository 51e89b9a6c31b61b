"""Writes tests/golden once per schema version: ``python tests/costmodels/make_golden.py FOLDER``.

Files of an old version stay as they are; a new version gets files of its own. A trace that is there
is kept, and its costs are made anew: for an estimator that has changed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from simulated_traces import LAYERS, linear_truth, simulate

from costmodels import costs_from_trace, fit_cost_model
from profiler.trace import Trace

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    truth = linear_truth({"fc.bias": 1e-13, "conv2.weight": 2e-8})
    path = folder / "trace-v1.csv"
    if not path.exists():
        simulate(
            truth, layers=LAYERS[2:], pilot=3, blocks=4, densities=(0.01, 0.1, 1.0), seed=11
        ).save(path)
    trace = Trace.load(path)
    costs_from_trace(trace).save(folder / "costs-v1.json", force=True)
    fit_cost_model(trace).save(folder / "costmodel-v1.json", force=True)
