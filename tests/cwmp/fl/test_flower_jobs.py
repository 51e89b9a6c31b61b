"""Jobs that travel: their paths, their models, and what is said where Flower is not installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_ins.federations import save_costs, small_job

from cwmp.cli import main
from cwmp.fl.engines import LocalEngine, make_engine
from cwmp.fl.engines.flower import FlowerEngine, Simulation, Watch, from_folder
from cwmp.fl.engines.flower_home import Programs
from cwmp.fl.job import Job
from cwmp.fl.rounds import RoundRecord
from cwmp.studies.runner import RunOptions, run_job
from profiler.errors import InputError, MissingExtraError

MODULES = ("flower_app", "flower_main", "flower_server", "flower_wire")


def _without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    for name in list(sys.modules):
        ours = name.startswith("cwmp.fl.engines.flower_") or name == "cwmp.commands.flower"
        if name.startswith(f"{package}.") or ours:
            monkeypatch.delitem(sys.modules, name)


def test_an_interruption_between_rounds_lets_the_engine_end_what_it_started(tmp_path: Path) -> None:
    ended: list[bool] = []

    class Watched(LocalEngine):
        def run(self, *args: Any, **kwargs: Any) -> Iterator[RoundRecord]:
            try:
                yield from super().run(*args, **kwargs)
            finally:
                ended.append(True)

    def interrupt(job: Job, row: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        run_job(small_job(tmp_path), {}, options=RunOptions(engine=Watched(), seen=interrupt))
    assert caught.tb is not None and ended == [True]  # though a traceback holds its frames


@pytest.mark.parametrize("module", MODULES)
def test_without_flower_a_module_names_the_extra(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without(monkeypatch, "flwr")
    with pytest.raises(MissingExtraError, match=r"pip install 'cwmp\[flower\]'"):
        __import__(f"cwmp.fl.engines.{module}")


def test_without_cryptography_certificates_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    _without(monkeypatch, "cryptography")
    with pytest.raises(MissingExtraError, match=r"pip install 'cwmp\[flower\]'"):
        __import__("cwmp.fl.engines.flower_tls")


def test_without_flower_engine_and_commands_name_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _without(monkeypatch, "flwr")
    job = small_job(tmp_path)
    with pytest.raises(MissingExtraError, match="Flower is not installed"):
        make_engine("flower", job)
    path = tmp_path / "job.json"
    path.write_text(job.model_dump_json())
    for command in (["simulate"], ["up", "--tls"]):
        arguments = ["flower", *command, "--job", str(path), "-o", str(tmp_path / "run.json")]
        monkeypatch.setattr(sys, "argv", ["cwmp", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr().err.strip().splitlines()
        assert ended.value.code not in (0, None)
        assert len(said) == 1
        assert "pip install 'cwmp[flower]'" in said[0]


def test_without_ray_a_simulation_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without(monkeypatch, "ray")
    with Programs() as programs, pytest.raises(MissingExtraError, match="Ray is not installed"):
        Simulation().start(small_job(tmp_path), tmp_path, {}, programs)
    assert programs.started == []


def test_every_path_of_a_job_is_taken_from_its_folder(tmp_path: Path) -> None:
    board = {"name": "board", "costs": "a.json", "select_costs": "b.json"}
    server = {"name": "server", "costs": "/there/c.json"}
    job = Job.parse(method="topk", data="cifar10:d.npz", devices=(board,), server=server)
    found = from_folder(job, tmp_path)
    (device,) = found.devices
    assert device.costs == tmp_path / "a.json"
    assert device.select_costs == tmp_path / "b.json"
    assert found.server is not None
    assert found.server.costs == Path("/there/c.json")
    assert found.data == f"cifar10:{tmp_path}/d.npz"
    assert found.key == job.key


class _Asked:
    """A runtime that starts nothing."""

    trusted = True
    environment: dict[str, str]

    def start(
        self, job: Job, folder: Path, environment: dict[str, str], programs: Programs
    ) -> Watch:
        self.environment = environment
        raise InputError("not today")


@pytest.mark.parametrize("model", ["mlp", "own_model:make"])
def test_a_model_of_ones_own_is_found_in_other_processes(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("flwr", reason="needs the extra cwmp[flower]")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "before")
    job = small_job(tmp_path)
    ready, runtime = job.prepare(), _Asked()
    engine = FlowerEngine(job.model_copy(update={"model": model}), runtime)
    with pytest.raises(InputError, match="not today"):
        next(engine.run(ready.federation, ready.team))
    own = f"{tmp_path}{os.pathsep}before" if ":" in model else "before"
    assert runtime.environment["PYTHONPATH"] == own


def test_a_job_is_read_from_its_file_and_from_a_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("flwr", reason="needs the extra cwmp[flower]")
    from cwmp.fl.engines.flower_app import load_job

    save_costs(tmp_path)
    text = small_job(tmp_path, rounds=1).model_dump_json()
    path = tmp_path / "job.json"
    path.write_text(text.replace(f"{tmp_path}/", ""))
    assert Job.model_validate_json(path.read_text()).devices[0].costs == Path("costs.json")
    job = load_job(path)
    assert job.devices[0].costs == tmp_path / "costs.json"
    run_job(job, {}).save(tmp_path / "run.json")
    assert load_job(tmp_path / "run.json") == job
