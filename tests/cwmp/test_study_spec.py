"""A study's file: what is refused, with the key and the line; and the runs that it plans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stand_ins.federations import save_costs

from costmodels.costfile import CostFile
from cwmp.selectors.costs import SelectionCosts
from cwmp.selectors.top_k import TopK
from cwmp.studies.grid import check_partitions, plan_study
from cwmp.studies.sources import as_dear_as, construct, shuffled, spread_of, uniform
from cwmp.studies.spec import StudySpec
from cwmp.studies.spec_parts import Constructed
from cwmp.studies.summarising import opening_share
from profiler.errors import FileFormatError, InputError

TEXT = """\
version: 1
name: small
question: what is tested
data: digits
model: mlp
clients: 4
alphas: [5.0]
rounds: 2
seeds: 2
training: {batch_size: 64, lr: 0.02}
methods: [dense, topk, cwmp]
budgets: [20%, 50%]
devices:
  - name: board
    costs: costs.json
  - name: strong
    constructed: {from: costs.json, spread: 100}
controls: {other_device: strong, device: board}
endpoints: {targets: [0.3, 0.5, 0.9]}
family: {name: main}
"""


def write(folder: Path, text: str = TEXT) -> Path:
    save_costs(folder)
    path = folder / "study.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seeds: 2", "seeds: 0", "line 9, seeds: "),
        ("seeds: 2", "sedes: 2", "line 9, sedes: no such key"),
        ("rounds: 2", "rounds: 2\nrounds: 3", "line 9, rounds: given twice"),
        ("[5.0]", "[0]", "line 7, alphas.0: "),
        ("[5.0]", "[-1.0]", "line 7, alphas.0: "),
        ("clients: 4", "clients: 4\nper_round: 5", "line 7, per_round: "),
        ("topk, cwmp", "topk, topk", "line 11, methods: topk is given twice"),
        ("[20%, 50%]", "[20%, 20 %]", "line 12, budgets: 20% is given twice"),
        ("[20%, 50%]", "[120%]", "120%"),
        ("spread: 100", "spread: 0.5", "line 17, devices.1.constructed.spread: "),
        ("costs: costs.json", "trace: a.parquet\n    costs: c.json", "give one of"),
        ("[0.3, 0.5, 0.9]", "[0.5, 0.3, 0.9]", "ascending"),
        ("{name: main}", "{name: main, methods: [dense]}", "takes no budget"),
        ("{name: main}", "{name: main, budgets: [7%]}", "family.budgets: 7% is not in the study"),
        ("other_device: strong", "other_device: moon", "controls.other_device: moon is not in"),
        ("version: 1", "version: 2", "reads version 1"),
        ("rounds: 2", "rounds: [2", "not YAML"),
        ("rounds: 2", "rounds: !!python/object/apply:os.getcwd []", "not YAML"),
        ("name: small", "name: &a small\nmodel2: *a", "aliases"),
    ],
)
def test_what_cannot_be_used_is_one_line_with_the_key(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert old in TEXT
    with pytest.raises(FileFormatError) as caught:
        StudySpec.load(write(tmp_path, TEXT.replace(old, new, 1)))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_family_of_more_tests_than_ten_seeds_can_tell_is_refused(tmp_path: Path) -> None:
    many = ", ".join(f"{share}%" for share in range(1, 27))
    text = TEXT.replace("[20%, 50%]", f"[{many}]").replace("main}", "main, devices: [board]}")
    with pytest.raises(FileFormatError, match=r"has 26 tests; 1 to 25"):
        StudySpec.load(write(tmp_path, text))


def test_runs_are_paired_and_dense_runs_once_a_seed(tmp_path: Path) -> None:
    spec = StudySpec.load(write(tmp_path))
    plan = plan_study(spec, tmp_path / "out", tmp_path)
    plain = [task for task in plan.tasks if not task.labels["control"]]
    assert len(plain) == 2 * 2 * (1 + 2 * 2)
    assert sum(task.job.method == "dense" for task in plain) == 2 * 2
    assert {task.job.budget for task in plain if task.job.method == "dense"} == {"100%"}
    # uniform for two methods, shuffled and another device for one, two budgets, two seeds
    assert len(plan.tasks) - len(plain) == 2 * 2 * (2 + 1 + 1)
    own = {"method", "budget", "devices", "seed"}
    assert len({task.job.model_dump_json(exclude=own) for task in plan.tasks}) == 1
    assert len({task.job.key for task in plan.tasks}) == len(plan.tasks)
    for task in plan.tasks:
        (device,) = task.job.devices
        assert device.costs.parent == (tmp_path / "out" / "costs").resolve()
        assert (device.select_costs is not None) == bool(task.labels["control"])
    again = plan_study(spec, tmp_path / "out", tmp_path)
    assert [task.job.key for task in again.tasks] == [task.job.key for task in plan.tasks]


def test_a_partition_without_data_for_a_client_is_one_error_before_any_run(tmp_path: Path) -> None:
    text = TEXT.replace("clients: 4", "clients: 60").replace("[5.0]", "[0.001]")
    plan = plan_study(StudySpec.load(write(tmp_path, text)), tmp_path / "out", tmp_path)
    with pytest.raises(InputError, match="without examples"):
        check_partitions(plan)


def test_made_up_costs_are_what_they_say(tmp_path: Path) -> None:
    costs = CostFile.load(save_costs(tmp_path))
    strong = construct(costs, Constructed(source=tmp_path, spread=100.0))
    flat = construct(costs, Constructed(source=tmp_path, spread="flat"))
    prices = SelectionCosts.from_cost_file(strong)
    marginal_j = [layer.marginal_j for layer in prices.layers]
    assert max(marginal_j) / min(marginal_j) == pytest.approx(100)
    assert spread_of(flat) == pytest.approx(1)
    assert strong.origin == flat.origin == "assumed"
    assert "constructed, not measured" in strong.basis
    assert all(op.origin == "assumed" for layer in strong.layers for op in layer.operations)
    true_j = SelectionCosts.from_cost_file(costs).dense_j
    for made in (uniform(costs), shuffled(costs, 0), as_dear_as(strong, costs)):
        assert SelectionCosts.from_cost_file(made).dense_j == pytest.approx(true_j)
        assert made.origin == "assumed"
    assert shuffled(costs, 0) == shuffled(costs, 0)
    slopes = [layer.operations[0].pieces[0].c_j.value for layer in shuffled(costs, 0).layers]
    before = [layer.operations[0].pieces[0].c_j.value for layer in costs.layers]
    assert sorted(s / min(slopes) for s in slopes) == pytest.approx(
        sorted(b / min(before) for b in before)
    )
    assert slopes != pytest.approx(before)


@pytest.mark.parametrize("spread", ["flat", 10.0])
def test_where_a_whole_layer_costs_its_entries_a_share_of_joules_is_one_of_entries(
    tmp_path: Path, spread: str | float
) -> None:
    """Top-K of one update at p % of the joules: about p % of the entries, less its layers' headers
    and the byte that an index takes; without ``whole: entries`` far fewer."""
    costs = CostFile.load(save_costs(tmp_path))
    kept = {}
    for whole in ("entries", "vectorised"):
        how = Constructed.model_validate({"from": tmp_path, "spread": spread, "whole": whole})
        prices = SelectionCosts.from_cost_file(construct(costs, how))
        draws = np.random.default_rng(0)
        update = {x.name: draws.laplace(size=x.shape).astype(np.float32) for x in prices.layers}
        entries = sum(layer.parameters for layer in prices.layers)
        for share in (0.05, 0.2):
            chosen = TopK(prices).select(update, share * prices.dense_j)
            kept[whole, share] = chosen.entries / entries / share
    assert 0.8 < kept["entries", 0.05] < 1.02
    assert 0.8 < kept["entries", 0.2] < 1.02
    assert kept["vectorised", 0.05] < kept["entries", 0.05]


def test_opening_layers_is_told_beside_the_spread() -> None:
    """By hand: fixed costs and headers of all layers, of what sending everything costs."""
    shapes = {"a": (40,), "b": (60,)}
    fixed = SelectionCosts.linear(shapes, {"a": 1.0, "b": 1.0}, {"a": 5.0, "b": 7.0})
    assert opening_share(fixed) == pytest.approx(12 / 112)
    assert opening_share(SelectionCosts.linear(shapes, {"a": 1.0, "b": 9.0})) == 0
