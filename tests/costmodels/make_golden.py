"""Writes tests/golden once per schema version: ``python tests/costmodels/make_golden.py FOLDER``.

Files of an old version stay as they are; a new version gets files of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

from simulated_traces import LAYERS, linear_truth, simulate

from costmodels import costs_from_trace, fit_cost_model

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    truth = linear_truth({"fc.bias": 1e-13, "conv2.weight": 2e-8})
    trace = simulate(
        truth, layers=LAYERS[2:], pilot=3, blocks=4, densities=(0.01, 0.1, 1.0), seed=11
    )
    trace.save(folder / "trace-v1.csv", force=True)
    costs_from_trace(trace).save(folder / "costs-v1.json", force=True)
    fit_cost_model(trace).save(folder / "costmodel-v1.json", force=True)
