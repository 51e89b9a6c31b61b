"""One client's work of a round, the same wherever it runs."""

from __future__ import annotations

from cwmp.fl.algorithms.base import ClientTask, Upload
from cwmp.fl.algorithms.team import Team
from cwmp.fl.rounds import Federation
from cwmp.fl.training import Trainer
from profiler.errors import UpdateError


def run_client(
    federation: Federation, team: Team, task: ClientTask, *, trainer: Trainer | None = None
) -> Upload:
    """One client's work of a round; by the federation's trainer, or another of the same model.

    Raises:
        BudgetError: the budget opens no layer.
        UpdateError: training diverged; the message names client and round.
    """
    try:
        return team.client(task.client).client(trainer or federation.trainer, task)
    except UpdateError as error:
        raise UpdateError(
            f"training diverged at client {task.client} in round {task.round}: {error}; lower --lr"
        ) from error
