"""What a job asks for and no run could do: one line, before anything is trained or written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from stand_ins.federations import save_costs, small_data, small_job

from cwmp.fl.models import build_model
from cwmp.studies.grid import Planned
from cwmp.studies.runner import run_job
from cwmp.studies.runs import RunFile
from cwmp.studies.sweep import sweep
from profiler.errors import InputError

WIDE = """
from cwmp.fl.architectures import MLP
def wide():
    return MLP((1, 8, 8), 100)
def narrow():
    return MLP((1, 8, 8), 5)
"""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(("name", "outputs"), [("wide", 100), ("narrow", 5)])
def test_more_or_fewer_classes_than_the_data_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, outputs: int
) -> None:
    (tmp_path / "own_model.py").write_text(WIDE)
    monkeypatch.syspath_prepend(str(tmp_path))
    costs = save_costs(tmp_path, f"own_model:{name}")
    job = small_job(tmp_path, model=f"own_model:{name}", devices=({"name": "b", "costs": costs},))
    assert build_model(f"own_model:{name}") is not None
    with pytest.raises(InputError, match=f"scores {outputs} classes and the data have 10"):
        run_job(job, {}, data=small_data())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"joins": {4: 2}}, "joins: there is no client 4; they are 0 to 3"),
        ({"joins": {-1: 2}}, "joins: there is no client -1"),
        ({"joins": dict.fromkeys(range(4), 2)}, "no client takes part in round 1"),
        ({"per_round": 5}, "5 clients a round cannot be drawn from 4"),
        ({"clients": 61}, "61 clients cannot share 60 examples"),
        ({"clients": 40, "alpha": 0.01}, "leaves one of 40 clients without examples"),
        ({"public": 60}, "a public set of 60 leaves nothing of 60"),
    ],
)
def test_federations_that_cannot_be(tmp_path: Path, values: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        run_job(small_job(tmp_path, **values), {}, data=small_data())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("alpha", [0, -1, float("nan"), float("inf")])
def test_alphas_that_cannot_be(tmp_path: Path, alpha: float) -> None:
    with pytest.raises(InputError, match="alpha") as caught:
        small_job(tmp_path, alpha=alpha)
    assert "\n" not in str(caught.value)


def test_a_sweep_over_one_writes_no_run(tmp_path: Path) -> None:
    planned = [Planned(small_job(tmp_path, joins={9: 2}), {})]
    with pytest.raises(InputError, match="no client 9"):
        sweep(planned, tmp_path / "study")
    assert not list((tmp_path / "study" / "runs").iterdir())


@pytest.mark.parametrize("loss", [float("inf"), float("nan")])
def test_a_run_file_with_a_loss_that_is_no_number_can_be_read(tmp_path: Path, loss: float) -> None:
    run = run_job(small_job(tmp_path, rounds=1), {}, data=small_data())
    row = run.rounds[0].model_copy(update={"train_loss": loss})
    run.model_copy(update={"rounds": (row,)}).save(tmp_path / "run.json")
    assert str(RunFile.load(tmp_path / "run.json").rounds[0].train_loss) == str(loss)
