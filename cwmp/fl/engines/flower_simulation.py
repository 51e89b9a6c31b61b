"""The process in which Flower simulates the nodes of a job, on Ray.

``python -m cwmp.fl.engines.flower_simulation JOB NODES CPUS`` with the engine's socket in the
environment. Flower 1.41 marks `run_simulation` as deprecated in favour of ``flwr run``, which
needs a SuperLink that outlives it; this process is what ``flwr run`` starts there, without one.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(path: str, nodes: str, cpus: str) -> None:
    """Run the simulation to its end."""
    from flwr.simulation import run_simulation

    from cwmp.fl.engines.flower_app import client_app
    from cwmp.fl.engines.flower_main import server_app
    from cwmp.fl.job import Job

    job = Job.model_validate_json(Path(path).read_text())
    backend = {
        "client_resources": {"num_cpus": float(cpus), "num_gpus": 0.0},
        "init_args": {"log_to_driver": False, "logging_level": "error"},
    }
    run_simulation(server_app(job), client_app(job), int(nodes), backend_config=backend)


if __name__ == "__main__":
    main(*sys.argv[1:])
