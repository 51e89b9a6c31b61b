"""The flower engine in other processes: on Ray, and on nodes that talk over sockets."""

from __future__ import annotations

import os
import signal
import ssl
import stat
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
pytest.importorskip("flwr", reason="needs the extra cwmp[flower]")

from stand_ins.federations import small_job

from cwmp.fl.engines import LocalEngine, make_engine
from cwmp.fl.engines.base import Standing
from cwmp.fl.engines.flower import FlowerEngine, Simulation
from cwmp.fl.engines.flower_deploy import Deployment, free_ports
from cwmp.fl.engines.flower_home import Program, Programs, quiet_environment
from cwmp.fl.engines.flower_tls import make_certificates
from cwmp.fl.job import Job
from cwmp.fl.rounds import RoundRecord
from cwmp.fl.training import ModelState
from profiler.errors import InputError, RoundError


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _local(job: Job) -> list[RoundRecord]:
    ready = job.prepare()
    return list(LocalEngine().run(ready.federation, ready.team))


def _ended(group: int) -> bool:
    """Whether no process of the session runs; one that waits to be reaped does not."""
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == group and fields[0] != "Z":
            return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray")
def test_the_simulation_on_ray_gives_the_records_of_the_local_engine(tmp_path: Path) -> None:
    job = small_job(tmp_path, method="topk+ef", budget="20%", rounds=2, clients=3)
    ready, models = job.prepare(), list[ModelState]()
    tired = lambda number, client: "battery" if (number, client) == (2, 1) else ""  # noqa: E731
    engine = FlowerEngine(job, Simulation(nodes=2), model=models.append)
    records = list(engine.run(ready.federation, ready.team, available=tired))
    again = job.prepare()
    assert records == list(LocalEngine().run(again.federation, again.team, available=tired))
    found = ready.trainer.evaluate(models[0], *ready.federation.test)
    assert found.accuracy == records[-1].accuracy


@pytest.mark.slow
def test_nodes_with_tls_end_as_the_local_engine_and_a_killed_one_is_absent(tmp_path: Path) -> None:
    job = small_job(tmp_path, method="topk+ef", budget="20%")
    programs: list[Program] = []
    ready = job.prepare()
    runtime = Deployment(nodes=2, tls=True, started=programs.append)
    records = []
    for record in FlowerEngine(job, runtime).run(ready.federation, ready.team):
        records.append(record)
        if record.round == 1:
            os.killpg(programs[2].process.pid, signal.SIGKILL)
            programs[2].process.wait()
    assert records[0] == _local(job)[0]
    assert [(a.client, a.reason) for a in records[1].absent] == [
        (1, "died: SuperNode 1 ended"),
        (3, "died: SuperNode 1 ended"),
    ]
    assert [program.name for program in programs] == ["SuperLink", "SuperNode 0", "SuperNode 1"]
    assert all(_ended(program.process.pid) for program in programs)


def test_what_fails_or_is_left_early_leaves_no_process(tmp_path: Path) -> None:
    started: list[Program] = []
    script = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time;"
    script += "time.sleep(60)']); print('up', flush=True); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt), Programs() as programs:
        command = [sys.executable, "-c", script]
        started.append(programs.start("sleeper", command, tmp_path, dict(os.environ)))
        until_s = time.monotonic() + 20
        while started[0].last_words() != "up" and time.monotonic() < until_s:
            time.sleep(0.02)
        raise KeyboardInterrupt
    assert _ended(started[0].process.pid)


@pytest.mark.parametrize("deaf", [False, True])
def test_what_a_program_started_in_another_session_is_ended_too(
    tmp_path: Path, deaf: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sleeper, its child in a session of its own, and that one's child in a third."""
    if deaf:  # it is waited for in vain, so not for long
        monkeypatch.setattr("cwmp.fl.engines.flower_home._STOP_S", 0.5)
    answer = "SIG_IGN" if deaf else "SIG_DFL"
    last = f"import signal, time; signal.signal(signal.SIGTERM, signal.{answer})"
    last += "; print('up', flush=True); time.sleep(60)"
    scripts = [last]
    for _ in range(2):
        scripts.append(
            "import subprocess, sys, time\n"
            f"command = [sys.executable, '-c', {scripts[-1]!r}]\n"
            "p = subprocess.Popen(command, start_new_session=True)\n"
            "print(p.pid, flush=True); time.sleep(60)"
        )
    with Programs() as programs:
        command = [sys.executable, "-c", scripts[-1]]
        program = programs.start("sleeper", command, tmp_path, dict(os.environ))
        until_s = time.monotonic() + 20
        while "up" not in program.log.read_text() and time.monotonic() < until_s:
            time.sleep(0.02)
        sessions = [int(word) for word in program.log.read_text().split() if word != "up"]
        assert len(sessions) == 2
        assert not any(map(_ended, sessions))
    assert all(map(_ended, [program.process.pid, *sessions]))


def test_a_program_that_ends_is_one_line_with_its_last_words(tmp_path: Path) -> None:
    with Programs() as programs:
        command = ["sh", "-c", "echo no such port; echo; exit 3"]
        program = programs.start("SuperLink", command, tmp_path, dict(os.environ))
        program.process.wait()
        with pytest.raises(RoundError, match=r"^SuperLink ended with code 3: no such port$"):
            program.check()


def test_the_surroundings_are_quiet(tmp_path: Path) -> None:
    environment = quiet_environment(tmp_path / "home")
    assert environment["HOME"] == str(tmp_path / "home")
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert "local" in (tmp_path / "home" / "ray_bootstrap_config.yaml").read_text()


def test_certificates_are_secret_and_a_client_believes_them(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "tls")
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700
    for path in (made.authority, made.certificate, made.key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(made.certificate, made.key)
    assert _shake(serving, ssl.create_default_context(cafile=made.authority), "127.0.0.1")
    other = make_certificates(tmp_path / "other")
    for trusted, host in ((other.authority, "127.0.0.1"), (made.authority, "127.0.0.2")):
        with pytest.raises(ssl.SSLCertVerificationError):
            _shake(serving, ssl.create_default_context(cafile=trusted), host)


def _shake(serving: ssl.SSLContext, trusting: ssl.SSLContext, host: str) -> bool:
    """A TLS handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    client = trusting.wrap_bio(to_client, to_server, server_hostname=host)
    done: set[Any] = set()
    while len(done) < 2:
        for side in (client, server):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                continue
    return True


def test_ports_are_free_and_differ() -> None:
    ports = free_ports(5)
    assert len(set(ports)) == 5


def test_what_the_engine_cannot_do_is_said_at_once(tmp_path: Path) -> None:
    job = small_job(tmp_path)
    ready = job.prepare()
    start = Standing(1, ready.federation.initial)
    with pytest.raises(InputError, match="cannot go on from a checkpoint"):
        next(FlowerEngine(job).run(ready.federation, ready.team, start=start))
    with pytest.raises(InputError, match="4 clients cannot be on 5 nodes"):
        next(FlowerEngine(job, Deployment(5)).run(ready.federation, ready.team))
    with pytest.raises(InputError, match="give it the job"):
        make_engine("flower")
