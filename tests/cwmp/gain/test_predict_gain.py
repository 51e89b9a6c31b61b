from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from stand_ins.cost_files import cost_file

from costmodels.costfile import CostFile
from cwmp import PredictedGain, predict_gain
from cwmp.fl.data import load_data
from cwmp.fl.models import build_model
from cwmp.fl.training import LocalPlan, Trainer
from cwmp.gain.advice import advise
from cwmp.gain.predict import Ratio
from cwmp.gain.tails import Gaussian, Laplace, PerLayer
from cwmp.selectors.costs import SelectionCosts
from profiler.errors import BudgetError, InputError, LayerMismatchError, UpdateError
from profiler.layers import LayerInfo

SHAPES = {"a": (3000,), "b": (3000,)}
LAYERS = [LayerInfo(f"l{i}", "nn.Linear", (100, 50), "float32") for i in range(9)]


def _linear(ratio: float) -> SelectionCosts:
    return SelectionCosts.linear(SHAPES, {"a": 1.0, "b": ratio})


def test_equal_costs_leave_nothing_to_win_and_a_spread_does() -> None:
    for distribution in ("laplace", "gaussian", np.random.default_rng(0).laplace(size=999)):
        gains = [predict_gain(_linear(ratio), distribution).gain for ratio in (1.0, 3.0, 10.0)]
        assert gains[0] == 1
        assert 1.05 < gains[1] < gains[2]


@pytest.fixture(scope="module")
def trained() -> list[dict[str, np.ndarray]]:
    """Updates of three rounds of LeNet on the digits, 94 % right after them."""
    torch.set_num_threads(1)
    data = load_data("digits")
    plan = LocalPlan(epochs=1, batch_size=32, lr=0.05, momentum=0.5)
    trainer = Trainer(build_model("lenet", data.input_shape, 10, seed=0), plan)
    x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
    state, updates, generator = trainer.state(), [], np.random.default_rng(0)
    for _ in range(3):
        result = trainer.train(state, x, y, generator)
        updates.append(dict(result.delta))
        moved = {name: state.parameters[name] + step for name, step in result.delta.items()}
        state = replace(state, parameters=moved, buffers=result.buffers)
    right = trainer.evaluate(state, torch.from_numpy(data.x_test), torch.from_numpy(data.y_test))
    assert right.accuracy > 0.9
    return updates


def _spread_over(update: dict[str, np.ndarray], spread: float, fixed: float) -> SelectionCosts:
    numbers = np.random.default_rng(1)
    return SelectionCosts.linear(
        {name: array.shape for name, array in update.items()},
        {name: float(np.exp(spread * numbers.standard_normal())) for name in update},
        dict.fromkeys(update, fixed),
    )


@pytest.mark.parametrize("spread", [0.3, 0.7, 1.2])
@pytest.mark.parametrize("budget", ["2%", "5%", "10%", "30%"])
def test_what_selection_captures_of_a_trained_cnn(spread: float, budget: str, trained) -> None:
    """Within half a percent on the sampled update, 2 % on the next round's."""
    costs = _spread_over(trained[1], spread, 0.0)
    predicted = predict_gain(costs, trained[1], budget)
    same, following = (
        predict_gain(costs, update, budget, method="simulate") for update in trained[1:]
    )
    assert predicted.captured == pytest.approx(same.captured, rel=0.005)
    assert predicted.topk_captured == pytest.approx(same.topk_captured, rel=0.005)
    assert predicted.gain == pytest.approx(same.gain, rel=0.005)
    assert predicted.gain == pytest.approx(following.gain, rel=0.02)


@pytest.mark.parametrize(("budget", "rough"), [("10%", 0.03), ("30%", 0.01)])
@pytest.mark.parametrize("spread", [0.0, 0.7])
def test_fixed_costs_on_a_trained_cnn(spread: float, budget: str, rough: float, trained) -> None:
    costs = _spread_over(trained[1], spread, 300.0)
    predicted = predict_gain(costs, trained[1], budget)
    same = predict_gain(costs, trained[1], budget, method="simulate")
    assert predicted.captured == pytest.approx(same.captured, rel=0.005)
    assert predicted.gain == pytest.approx(same.gain, rel=rough)
    assert predicted.gain > 1.02


def test_one_scale_for_all_layers_promises_more_than_this_cnn_gives(trained) -> None:
    costs = _spread_over(trained[1], 1.2, 0.0)
    assert predict_gain(costs, "laplace").gain > 1.15 > predict_gain(costs, trained[1]).gain


def test_the_parts_of_a_gain() -> None:
    linear = predict_gain(_linear(5.0))
    assert linear.marginal is not None and linear.fixed == 1
    assert linear.marginal.value == pytest.approx(linear.gain, rel=1e-6)
    shapes = {f"l{i}": (10 ** (2 + i % 3),) for i in range(12)}
    ones = dict.fromkeys(shapes, 1.0)
    fixed = predict_gain(SelectionCosts.linear(shapes, ones, dict.fromkeys(shapes, 100.0)))
    assert fixed.marginal is not None and fixed.marginal.value == 1
    assert fixed.fixed == pytest.approx(fixed.gain, rel=1e-6)
    assert fixed.gain > 1.2


def test_simulation_is_what_the_selectors_capture() -> None:
    costs = _linear(4.0)
    drawn = predict_gain(costs, "gaussian", method="simulate", generator=np.random.default_rng(0))
    again = predict_gain(costs, "gaussian", method="simulate", generator=np.random.default_rng(0))
    assert drawn == again and drawn.captured <= drawn.bound
    assert drawn.basis == "a draw: Gaussian, one scale for all layers"
    assert drawn.gain == pytest.approx(predict_gain(costs, "gaussian").gain, rel=0.05)
    sample = np.random.default_rng(1).laplace(size=50_000)
    pooled = predict_gain(costs, sample, method="simulate", generator=np.random.default_rng(0))
    assert pooled.gain == pytest.approx(predict_gain(costs, "laplace").gain, rel=0.05)


def _file(**made) -> CostFile:
    return cost_file(LAYERS, fixed_j=None, byte_j=1e-15, **made)


def test_the_interval_is_of_the_costs_own_and_repeats() -> None:
    costs = _file()  # three costs, 1 to 9, each known to 10 %
    gain, again = (
        predict_gain(costs, budget="60%", generator=np.random.default_rng(7), draws=40)
        for _ in range(2)
    )
    assert gain == again and gain.ratio.low is not None and gain.ratio.high is not None
    assert 1.01 < gain.ratio.low < gain.gain < gain.ratio.high < 1.2 * gain.gain
    assert gain.flat is False
    assert predict_gain(costs, budget="60%").ratio == Ratio(gain.gain)


def test_costs_that_differ_by_less_than_their_intervals_are_flat() -> None:
    wobble = np.random.default_rng(0).normal(1, 0.02, 9)
    costs = _file(entry_j=lambda number: 5e-9 * float(wobble[number]))
    gain = predict_gain(costs, budget="60%", generator=np.random.default_rng(0), draws=40)
    assert gain.marginal is not None and gain.marginal.low == 1 < gain.marginal.value
    assert gain.flat is True
    assert "CWMP cannot gain beyond fixed costs" in advise(gain)


def _made(gain: float, **parts) -> PredictedGain:
    made = PredictedGain(1.0, gain * 0.3, 0.3, 0.9, 1.0, 0.05, Ratio(gain), None, None, "made up")
    return replace(made, **parts)


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (_made(1.002), "Use Top-K: CWMP is expected to gain less than 1 % here."),
        (
            _made(1.2, marginal=Ratio(1.2), fixed=1.0),
            "Use CWMP: it is expected to capture 1.2 times what Top-K captures, by taking entries "
            "where they are cheap.",
        ),
        (_made(1.2, marginal=Ratio(1.0), fixed=1.2), "by leaving layers closed"),
        (_made(1.2, marginal=Ratio(1.1), fixed=1.1), "cheap and leaving layers closed."),
        (_made(1.2, ratio=Ratio(1.2, 1.0, 1.4)), "Not settled"),
        (_made(1.2, marginal=Ratio(1.1, 1.0, 1.2), fixed=1.15), "fixed costs; leaving layers"),
        (_made(1.05, marginal=Ratio(1.05, 1.0, 1.2), fixed=1.0), "less than 1 %: use Top-K."),
        (_made(9.0, topk_captured=0.01), "The ratio is rough"),
    ],
)
def test_the_advice(gain: PredictedGain, said: str) -> None:
    assert said in advise(gain)
    assert "\n" not in advise(gain)


def test_what_it_refuses() -> None:
    costs = _linear(2.0)
    with pytest.raises(InputError, match="generator"):
        predict_gain(costs, method="simulate")
    own = PerLayer([Laplace(), Gaussian()])
    assert predict_gain(costs, own).gain >= 1
    with pytest.raises(InputError, match="mapping"):
        predict_gain(costs, own, method="simulate", generator=np.random.default_rng(0))
    with pytest.raises(InputError, match="'guess'"):
        predict_gain(costs, method="guess")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="-3 times"):
        predict_gain(costs, draws=-3)
    with pytest.raises(UpdateError, match="zero everywhere"):
        predict_gain(costs, {"a": np.zeros(3), "b": np.zeros(3)})
    with pytest.raises(LayerMismatchError, match="'b'"):
        predict_gain(costs, {"a": np.ones(3)})
    for budget in ("0%", "0.00001%", "150%", "nan", "1 MJ", "99999 kJ"):
        with pytest.raises(BudgetError):
            predict_gain(costs, budget=budget)
    closed = SelectionCosts.linear(SHAPES, {"a": 1.0, "b": 1.0}, {"b": 1e6})
    with pytest.raises(UpdateError, match="zeros alone"):
        predict_gain(closed, {"a": np.zeros(3), "b": np.ones(3)}, "0.01%")
