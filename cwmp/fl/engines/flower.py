"""Flower runs the clients: simulated on Ray, or on nodes of a deployment.

Objects do not travel; the `Job` does, and every process prepares its own federation from it. The
server's rounds are those of `cwmp.fl.engines.round`, so that a job gives the records that it gives
on the local engine. Needs the extra ``cwmp[flower]``.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cwmp.fl.algorithms.base import Algorithm
from cwmp.fl.algorithms.team import Team
from cwmp.fl.archive import state_from
from cwmp.fl.engines.base import Available, Keep, Standing
from cwmp.fl.engines.flower_home import Programs, quiet_environment
from cwmp.fl.engines.flower_link import ENVIRONMENT, Line, Listener
from cwmp.fl.fleet import DeviceSpec
from cwmp.fl.job import Job
from cwmp.fl.record_json import records_from_json
from cwmp.fl.rounds import Federation, RoundRecord
from cwmp.fl.training import ModelState
from profiler.errors import (
    BudgetError,
    CwmpError,
    InputError,
    MissingExtraError,
    RoundError,
    UpdateError,
)

if TYPE_CHECKING:
    from cwmp.fl.engines.flower_server import Patience

NO_START = (
    "the flower engine cannot go on from a checkpoint: what clients remember is on their nodes; "
    "delete it to start anew"
)
_KINDS: dict[str, type[CwmpError]] = {
    "BudgetError": BudgetError,
    "UpdateError": UpdateError,
    "InputError": InputError,
}


def _nobody_is(client: int) -> str:
    return ""


@dataclass(frozen=True)
class Watch:
    """What a runtime knows of its processes.

    Attributes:
        check: raises when the run cannot go on.
        dead: why a client's node is known to have ended; empty if it is not.
    """

    check: Callable[[], None]
    dead: Callable[[int], str] = _nobody_is


class Runtime(Protocol):
    """Starts a Flower run whose server app calls the socket in the environment."""

    @property
    def trusted(self) -> bool:
        """Whether every node is this run's own."""
        ...

    def start(
        self, job: Job, folder: Path, environment: dict[str, str], programs: Programs
    ) -> Watch:
        """Start it in *folder*."""
        ...


@dataclass(frozen=True)
class Simulation:
    """Nodes simulated on Ray, in a process of its own.

    Attributes:
        nodes: how many; ``None`` makes each client a node. Fewer nodes with several clients each
            send fewer messages.
        cpus: of Ray's for each node at work: 1 runs as many at once as there are cores.
    """

    nodes: int | None = None
    cpus: float = 1.0
    trusted: bool = True

    def start(
        self, job: Job, folder: Path, environment: dict[str, str], programs: Programs
    ) -> Watch:
        """Start it.

        Raises:
            MissingExtraError: Ray is not installed.
        """
        import sys

        if find_spec("ray") is None:
            raise MissingExtraError("Ray is not installed: pip install 'cwmp[flower]'")
        path = folder / "job.json"
        path.write_text(job.model_dump_json())
        nodes = min(self.nodes or job.clients, job.clients)
        module = "cwmp.fl.engines.flower_simulation"
        command = [sys.executable, "-m", module, str(path), str(nodes), str(self.cpus)]
        return Watch(programs.start("Flower's simulation", command, folder, environment).check)


@dataclass(frozen=True)
class FlowerEngine:
    """Runs one `Job` with Flower.

    What clients remember stays on their nodes, so that a run cannot be taken up again: *keep* is
    never called, and *start* is refused.

    Attributes:
        job: what is run; it must be what the federation given to `run` was prepared from.
        runtime: where.
        deadline_s: after how long the clients that have not answered are late; ``None`` waits.
        gather_s: how long to wait for the nodes at the start; a busy machine starts them slowly.
        model: called with the last model.

    Raises:
        MissingExtraError: Flower is not installed.
    """

    job: Job
    runtime: Runtime = Simulation()
    deadline_s: float | None = None
    gather_s: float = 300.0
    model: Callable[[ModelState], None] | None = None

    def __post_init__(self) -> None:
        if find_spec("flwr") is None:
            raise MissingExtraError("Flower is not installed: pip install 'cwmp[flower]'")

    def run(
        self,
        federation: Federation,
        method: Algorithm | Team,
        *,
        available: Available | None = None,
        start: Standing | None = None,
        keep: Keep | None = None,
    ) -> Iterator[RoundRecord]:
        """As `cwmp.fl.engines.base.Engine.run`; *method* is the job's.

        Raises:
            InputError: a start, or a federation that is not the job's.
        """
        if start is not None and start.round > 0:
            raise InputError(NO_START)
        with tempfile.TemporaryDirectory(prefix="cwmp-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            with Listener(folder) as listener, Programs() as programs:
                environment = quiet_environment(folder / "home") | {
                    ENVIRONMENT: listener.path,
                    **_imports(self.job),
                }
                watch = self.runtime.start(absolute(self.job), folder, environment, programs)
                line = listener.accept(watch.check)
                yield from self._rounds(line, watch, federation, available)

    def _rounds(
        self, line: Line, watch: Watch, federation: Federation, available: Available | None
    ) -> Iterator[RoundRecord]:
        try:
            while True:
                said, arrays = line.receive(watch.check)
                match said["kind"]:
                    case "hello":
                        self._greet(line, said, federation)
                    case "ask":
                        asked = federation.asked(said["round"])
                        line.send("answer", absent=_absent(asked, said["round"], available, watch))
                    case "round":
                        yield from records_from_json(json.loads(said["record"]), "a Flower round")
                    case "end":
                        if self.model is not None:
                            self.model(state_from(arrays, federation.initial, "the last model"))
                        return
                    case _:
                        raise _KINDS.get(said.get("type", ""), RoundError)(said.get("why", "?"))
        except EOFError:
            watch.check()
            raise RoundError("Flower's server app ended without a word; see its log") from None
        finally:
            line.close()

    def _greet(self, line: Line, said: dict[str, Any], federation: Federation) -> None:
        from cwmp.fl.engines.flower_app import digest

        if said["federation"] != digest(federation, self.job):
            raise InputError(
                "the flower engine's job is not what this federation was prepared from: "
                "give it the job of this run, with the data that it names"
            )
        line.send("welcome", patience=asdict(self._patience()))

    def _patience(self) -> Patience:
        from cwmp.fl.engines.flower_server import Patience

        return Patience(self.deadline_s, self.gather_s, self.runtime.trusted)


def _absent(
    asked: Sequence[int], number: int, available: Available | None, watch: Watch
) -> dict[str, str]:
    found = {}
    for client in asked:
        why = (available(number, client) if available else "") or watch.dead(client)
        if why:
            found[str(client)] = why
    return found


def absolute(job: Job) -> Job:
    """The job with absolute paths: it is prepared in processes that run elsewhere."""
    return from_folder(job, Path.cwd())


def from_folder(job: Job, folder: Path) -> Job:
    """The job with its relative paths taken from *folder*, and absolute."""
    folder = folder.absolute()

    def placed(spec: DeviceSpec) -> DeviceSpec:
        select = None if spec.select_costs is None else folder / spec.select_costs
        return spec.model_copy(update={"costs": folder / spec.costs, "select_costs": select})

    name, colon, path = job.data.partition(":")
    return job.model_copy(
        update={
            "devices": tuple(placed(spec) for spec in job.devices),
            "server": None if job.server is None else placed(job.server),
            "data": f"{name}:{folder / path}" if colon else job.data,
        }
    )


def _imports(job: Job) -> dict[str, str]:
    """A model of the user's own is imported from here, also where the program runs elsewhere."""
    if ":" not in job.model:
        return {}
    paths = [str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths)}


__all__ = ["FlowerEngine", "Runtime", "Simulation", "Watch", "absolute", "from_folder"]
