"""Models by name, or any ``module:callable`` that returns an ``nn.Module``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.errors import InputError

if TYPE_CHECKING:
    from torch import nn

MODELS = ("lenet", "resnet8", "resnet18", "mlp", "transformer")


def build_model(
    spec: str, input_shape: tuple[int, ...] = (3, 32, 32), classes: int = 10, seed: int = 0
) -> nn.Module:
    """The model that *spec* names, its weights drawn from *seed*.

    Args:
        spec: one of `MODELS`, or ``module:callable``; the callable is called without
            arguments and the current directory is importable.
        input_shape: (channels, height, width) of one example; for named models alone.
        classes: outputs; for named models alone.
        seed: equal seeds give bit-equal weights; the caller's random state is left alone.

    Raises:
        InputError: an unknown name, a callable that cannot be imported, called, or that does
            not return an ``nn.Module``, or a shape or number of classes that the named model
            cannot take.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if ":" in spec:
            return _imported(spec)
        return _built(spec, _image(input_shape), classes)


def _built(name: str, image: tuple[int, int, int], classes: int) -> nn.Module:
    build = _named(name)
    if classes < 1:
        raise InputError(f"a model needs at least 1 class, got {classes}")
    try:
        return build(image, classes)
    except (RuntimeError, TypeError, MemoryError) as error:  # torch, of sizes beyond its reach
        raise InputError(
            f"model {name!r} cannot be built for images of {image} and {classes} classes: "
            f"{_said(error)}"
        ) from error


def _named(name: str) -> Callable[[tuple[int, int, int], int], nn.Module]:
    if name not in MODELS:
        raise InputError(
            f"unknown model {name!r}; choose {', '.join(MODELS)} or give module:callable"
        )
    from cwmp.fl import architectures

    builders: dict[str, Callable[[tuple[int, int, int], int], nn.Module]] = {
        "lenet": architectures.LeNet,
        "resnet8": architectures.resnet8,
        "resnet18": architectures.resnet18,
        "mlp": architectures.MLP,
        "transformer": architectures.Transformer,
    }
    return builders[name]


def _image(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) != 3 or min(shape) < 1 or min(shape[1:]) < 4:
        raise InputError(
            f"named models take (channels, height, width) with sides of at least 4, got {shape}"
        )
    return shape[0], shape[1], shape[2]


def _imported(spec: str) -> nn.Module:
    from torch import nn

    module_name, _, attribute = spec.partition(":")
    with _current_directory_importable():
        try:
            target = importlib.import_module(module_name)
        except Exception as error:  # whatever the user's module raises while it loads
            raise InputError(
                f"cannot import {module_name!r} of model {spec!r}: {_said(error)}"
            ) from error
        for part in attribute.split("."):
            if not hasattr(target, part):
                raise InputError(f"model {spec!r}: {module_name} has no attribute {attribute!r}")
            target = getattr(target, part)
        if not callable(target):
            raise InputError(f"model {spec!r}: {attribute} is not callable")
        try:
            model = target()
        except Exception as error:  # whatever the user's callable raises
            raise InputError(f"model {spec!r}: {attribute}() failed: {_said(error)}") from error
    if not isinstance(model, nn.Module):
        raise InputError(
            f"model {spec!r}: {attribute}() returned {type(model).__name__}, not a torch nn.Module"
        )
    return model


@contextmanager
def _current_directory_importable() -> Iterator[None]:
    """An installed command does not have it on the path, ``python -m`` does."""
    here = str(Path.cwd())
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if added and here in sys.path:
            sys.path.remove(here)


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
