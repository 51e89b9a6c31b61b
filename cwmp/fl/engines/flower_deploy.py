"""A Flower federation on this machine's loopback: a SuperLink, SuperNodes and one ``flwr run``.

Every process has a session of its own and is ended when the run is over, failed or interrupted;
what they write (Flower's homes, certificates, logs) lies in a folder that is removed with them.
Needs the extra ``cwmp[flower]``.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cwmp.fl.engines.flower import Watch
from cwmp.fl.engines.flower_home import Program, Programs, quiet_environment
from cwmp.fl.engines.flower_link import ENVIRONMENT
from cwmp.fl.engines.flower_tls import Certificates, make_certificates
from cwmp.fl.job import Job
from profiler.errors import InputError, RoundError

HOST = "127.0.0.1"
START_S = 180.0
PROJECT = """\
[project]
name = "cwmp-federation"
version = "1.0.0"
dependencies = []

[tool.flwr.app]
publisher = "cwmp"

[tool.flwr.app.components]
serverapp = "federation:server"
clientapp = "federation:client"

[tool.flwr.app.config]
job = {job}
"""
APPS = """\
from cwmp.fl.engines.flower_app import client_app
from cwmp.fl.engines.flower_main import server_app

client = client_app()
server = server_app()
"""


@dataclass(frozen=True)
class Deployment:
    """Nodes as processes that talk over sockets.

    Attributes:
        nodes: SuperNodes; client c is on node c mod nodes.
        tls: encrypt what they say, and let nodes check whom they talk to.
        trusted: as in `cwmp.fl.engines.flower_server.Patience`.
        started: told of each process, for those who watch (or end) them.
    """

    nodes: int = 2
    tls: bool = False
    trusted: bool = False
    started: Callable[[Program], None] | None = None

    def start(
        self, job: Job, folder: Path, environment: dict[str, str], programs: Programs
    ) -> Watch:
        """Start SuperLink, SuperNodes and the run.

        Raises:
            InputError: fewer than 1 node, or more nodes than clients.
            RoundError: one of them did not come up; with the last line that it said.
        """
        if not 1 <= self.nodes <= job.clients:
            raise InputError(f"{job.clients} clients cannot be on {self.nodes} nodes")
        certificates = make_certificates(folder / "tls", HOST) if self.tls else None
        path = folder / "job.json"
        path.write_text(job.model_dump_json())
        ports = free_ports(self.nodes + 1)
        address = f"{HOST}:{ports[0]}"
        link = self._start(
            programs,
            "SuperLink",
            _superlink(ports[0], certificates),
            folder,
            environment,
        )
        _wait_for(ports[0], link)
        nodes = [
            self._start(
                programs,
                f"SuperNode {number}",
                _supernode(number, self.nodes, address, port, path, certificates),
                folder,
                _apart(environment, folder / f"node-{number}"),
            )
            for number, port in enumerate(ports[1:])
        ]
        for port, node in zip(ports[1:], nodes, strict=True):
            _wait_for(port, node)
        self._submit(programs, folder, environment, address, path, certificates)

        def check() -> None:
            link.check()
            if all(node.process.poll() is not None for node in nodes):
                nodes[0].check()

        def dead(client: int) -> str:
            node = nodes[client % len(nodes)]
            return f"died: {node.name} ended" if node.process.poll() is not None else ""

        return Watch(check, dead)

    def _start(
        self,
        programs: Programs,
        name: str,
        command: list[str],
        folder: Path,
        environment: dict[str, str],
    ) -> Program:
        program = programs.start(name, command, folder, environment)
        if self.started is not None:
            self.started(program)
        return program

    def _submit(
        self,
        programs: Programs,
        folder: Path,
        environment: dict[str, str],
        address: str,
        job: Path,
        certificates: Certificates | None,
    ) -> None:
        project = folder / "project"
        project.mkdir()
        (project / "pyproject.toml").write_text(PROJECT.format(job=json.dumps(str(job))))
        (project / "federation.py").write_text(APPS)
        home = Path(environment["FLWR_HOME"])
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        (home / "config.toml").write_text(connection(address, certificates))
        command = ["flwr", "run", str(project), "cwmp"]
        run = programs.start("flwr run", command, folder, environment)
        by_s = time.monotonic() + START_S
        while run.process.poll() is None:
            if time.monotonic() > by_s:
                raise RoundError(f"flwr run did not end within {START_S:g} s")
            time.sleep(0.05)
        if run.process.returncode != 0:
            run.check()


def connection(address: str, certificates: Certificates | None) -> str:
    """Flower's ``config.toml`` for a SuperLink at *address*."""
    trust = (
        f"root-certificates = {json.dumps(str(certificates.authority))}"
        if certificates
        else "insecure = true"
    )
    return f'[superlink]\ndefault = "cwmp"\n\n[superlink.cwmp]\naddress = "{address}"\n{trust}\n'


def _superlink(port: int, certificates: Certificates | None) -> list[str]:
    command = ["flower-superlink", "--host", HOST, "--port", str(port)]
    command += ["--disable-runtime-dependency-installation"]
    if certificates is None:
        return [*command, "--insecure"]
    return [*command, *_own(certificates)]


def _own(certificates: Certificates) -> list[str]:
    return [
        "--ssl-ca-certfile",
        str(certificates.authority),
        "--ssl-certfile",
        str(certificates.certificate),
        "--ssl-keyfile",
        str(certificates.key),
    ]


def _supernode(
    number: int,
    nodes: int,
    address: str,
    port: int,
    job: Path,
    certificates: Certificates | None,
) -> list[str]:
    config = f'partition-id={number} num-partitions={nodes} job="{job}"'
    command = ["flower-supernode", "--superlink", address, "--host", HOST, "--port", str(port)]
    command += ["--node-config", config]
    if certificates is None:
        return [*command, "--insecure"]
    return [*command, "--root-certificates", str(certificates.authority), *_own(certificates)]


def _apart(environment: dict[str, str], home: Path) -> dict[str, str]:
    """A node's surroundings: a home of its own, and no line to the engine."""
    own = {**environment, **{k: v for k, v in quiet_environment(home).items() if "HOME" in k}}
    own.pop(ENVIRONMENT, None)
    return own


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on now."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def _wait_for(port: int, program: Program) -> None:
    by_s = time.monotonic() + START_S
    while time.monotonic() < by_s:
        program.check()
        try:
            socket.create_connection((HOST, port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RoundError(f"{program.name} did not listen within {START_S:g} s: {program.last_words()}")
