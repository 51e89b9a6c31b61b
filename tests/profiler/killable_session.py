"""A session for `test_session_kill` to kill: a small model, the modelled meter, a journal."""

from __future__ import annotations

import sys

import torch
from torch import nn

from profiler.meters import find_meter
from profiler.session import profile_model
from profiler.trace import Trace


def run(journal: str, *, resume: bool) -> Trace:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return profile_model(
        nn.Linear(16, 8),
        model_name="linear",
        meter=find_meter("modelled"),
        operations=("update",),
        densities=(0.1, 0.5),
        precision=0.5,
        max_time_s=3.5,
        journal=journal,
        resume=resume,
    )


if __name__ == "__main__":
    run(sys.argv[1], resume=False)
