"""One SGD step by module: which modules, which inputs, and that it really trains."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from torch import nn

from profiler.errors import InputError
from profiler.modules import WHOLE, TrainOperation


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )


IMAGES = torch.randn(2, 1, 4, 4)


def test_cells_are_the_whole_model_and_the_modules_that_own_parameters():
    cells = TrainOperation(_network(), IMAGES, (4, 2)).cells()
    assert [(cell.layer, cell.kind, cell.k) for cell in cells] == [
        (WHOLE, "model", 2),
        (WHOLE, "model", 4),
        ("0", "conv2d", 2),
        ("0", "conv2d", 4),
        ("1", "batchnorm2d", 2),
        ("1", "batchnorm2d", 4),
        ("4", "linear", 2),
        ("4", "linear", 4),
    ]
    by_point = {(cell.layer, cell.k): cell for cell in cells}
    assert by_point["0", 2].macs == 2 * 4 * 16 * 9
    assert by_point["4", 4].macs == 4 * 3 * 64
    assert by_point["1", 2].macs is None
    assert by_point[WHOLE, 2].macs == 2 * 4 * 16 * 9 + 2 * 3 * 64
    assert by_point[WHOLE, 2].parameters == 40 + 8 + 195
    assert by_point["0", 2].density is None


@pytest.mark.parametrize("layer", [WHOLE, "0", "1", "4"])
def test_a_step_moves_the_copys_parameters_against_the_gradient_and_not_the_models(layer):
    model = _network()
    operation = TrainOperation(model, IMAGES, (2,))
    before = copy.deepcopy(model.state_dict())
    cell = next(cell for cell in operation.cells() if cell.layer == layer)
    workload = operation.prepare(cell, seed=3)
    trained = workload._parameters
    start = [parameter.detach().clone() for parameter in trained]
    workload.reference(3)
    assert all(torch.equal(old, new) for old, new in zip(start, trained, strict=True))
    workload.run(50)
    assert any(not torch.equal(old, new) for old, new in zip(start, trained, strict=True))
    assert all(parameter.grad is None for parameter in trained)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    workload.close()


def test_inputs_are_those_seen_in_the_model_with_fresh_noise_and_kept_zeros():
    operation = TrainOperation(_network(), IMAGES, (2,))
    cell = next(cell for cell in operation.cells() if cell.layer == "4")
    seen = operation._passes[2].calls["4"].args[0]
    sets = operation.prepare(cell, seed=1)._sets
    first, second = sets[0][0][0], sets[1][0][0]
    assert first.shape == seen.shape and not torch.equal(first, second)
    assert torch.equal(first == 0, seen == 0) and (seen == 0).any()
    assert first.requires_grad
    conv = next(cell for cell in operation.cells() if cell.layer == "0")
    assert not operation.prepare(conv, seed=1)._sets[0][0][0].requires_grad


def test_attention_called_with_keywords_and_integer_inputs():
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(10, 8)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(8, 2)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            x = self.embedding(tokens)
            attended, _ = self.attention(query=x, key=x, value=x)
            return self.head(attended.mean(1))

    operation = TrainOperation(Tokens(), torch.randint(0, 10, (2, 5)), (2,))
    layers = {cell.layer for cell in operation.cells()}
    assert layers == {WHOLE, "embedding", "attention", "head"}
    for cell in operation.cells():
        workload = operation.prepare(cell, seed=0)
        workload.run(2)
        start = [parameter.detach().clone() for parameter in workload._parameters]
        workload.run(20)
        moved = [
            not torch.equal(old, new) for old, new in zip(start, workload._parameters, strict=True)
        ]
        assert any(moved)


@pytest.mark.parametrize("sizes", [(), (0,), (8, 8)])
def test_batch_sizes_that_cannot_be_used(sizes):
    with pytest.raises(InputError, match="batch sizes"):
        TrainOperation(_network(), IMAGES, sizes)


def test_an_input_that_the_model_refuses_names_the_option():
    with pytest.raises(
        InputError, match=r"refuses an input of shape \(2, 3, 4, 4\).*--input-shape"
    ):
        TrainOperation(_network(), torch.randn(2, 3, 4, 4), (2,))


def test_a_model_that_cannot_be_copied_is_named():
    model = _network()
    model.handle = threading.Lock()
    with pytest.raises(InputError, match=r"Sequential cannot be copied to cpu: .*lock"):
        TrainOperation(model, IMAGES, (2,))


def test_an_output_without_a_gradient_is_no_training_step():
    class Label(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x).argmax(1)

    operation = TrainOperation(Label(), torch.randn(2, 4), (2,))
    whole, layer = (operation.prepare(cell, seed=0) for cell in operation.cells())
    layer.run(1)
    with pytest.raises(InputError, match="depends on no parameter"):
        whole.run(1)
