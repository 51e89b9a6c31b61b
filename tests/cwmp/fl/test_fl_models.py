from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cwmp.fl.models import MODELS, build_model
from profiler.errors import InputError
from profiler.layers import layers_of

SHAPES = [(3, 32, 32), (1, 8, 8)]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", MODELS)
def test_scores_every_class(name: str, shape: tuple[int, ...]) -> None:
    model = build_model(name, shape, classes=7)
    assert model.eval()(torch.randn(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize("name", MODELS)
def test_calls_every_module_that_owns_parameters(name: str) -> None:
    model = build_model(name, (1, 8, 8))
    called: set[str] = set()
    owners = set()
    for module_name, module in model.named_modules():
        if list(module.parameters(recurse=False)):
            owners.add(module_name)
            module.register_forward_hook(lambda *_, name=module_name: called.add(name))
    model.eval()(torch.randn(2, 1, 8, 8))
    assert called == owners


@pytest.mark.parametrize("name", MODELS)
def test_seed_decides_the_weights_and_the_random_state_is_left_alone(name: str) -> None:
    before = torch.get_rng_state()
    first, again, other = (build_model(name, (1, 8, 8), seed=seed) for seed in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    pairs = zip(first.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    pairs = zip(first.parameters(), other.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)


def test_known_sizes() -> None:
    sizes = {
        name: sum(layer.parameters for layer in layers_of(build_model(name))) for name in MODELS
    }
    assert sizes["lenet"] == 62_006
    assert sizes["resnet8"] == 78_042
    assert sizes["resnet18"] == 11_173_962


def test_unknown_name_lists_the_names() -> None:
    with pytest.raises(InputError, match=r"'alexnet'.*lenet, resnet8, resnet18, mlp, transformer"):
        build_model("alexnet")


@pytest.mark.parametrize("shape", [(3, 32), (0, 8, 8), (1, 2, 2)])
def test_a_shape_that_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="height, width"):
        build_model("mlp", shape)


def test_the_transformer_says_which_sides_it_takes() -> None:
    with pytest.raises(InputError, match="7x7"):
        build_model("transformer", (1, 7, 7))


@pytest.mark.parametrize("classes", [0, -1, 10**17, 10**30])
def test_a_number_of_classes_that_cannot_be_is_one_line(classes: int) -> None:
    with pytest.raises(InputError, match=f"class.*{classes}|{classes} class") as caught:
        build_model("mlp", (1, 8, 8), classes)
    assert "\n" not in str(caught.value)


def test_a_callable_of_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "from torch import nn\ndef small(): return nn.Linear(3, 2)\n"
    (tmp_path / "zoo_of_mine.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    model = build_model("zoo_of_mine:small", seed=5)
    assert [layer.shape for layer in layers_of(model)] == [(2, 3), (2,)]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no_such_module_here:f", "cannot import 'no_such_module_here'"),
        ("torch.nn:NoSuchThing", "has no attribute"),
        ("math:pi", "is not callable"),
        ("builtins:dict", "returned dict, not a torch nn.Module"),
        ("torch.nn:Linear", "failed: TypeError"),
        (":f", "cannot import ''"),
    ],
)
def test_a_callable_that_cannot_serve_is_one_line(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build_model(spec)
    assert "\n" not in str(caught.value)
