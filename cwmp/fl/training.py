"""Local training and evaluation: pure functions of a `ModelState`, whatever the engine.

The model's parameters are views into one flat tensor, and so are their gradients: a step of
SGD is then one vector operation whatever the number of layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cwmp.fl.states import (
    Arrays,
    Evaluation,
    LocalPlan,
    LocalResult,
    ModelState,
    batches_of,
)
from profiler.errors import InputError
from profiler.layers import LayerInfo, layers_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = ["Arrays", "Evaluation", "LocalPlan", "LocalResult", "ModelState", "Trainer"]

EVALUATED_AT_ONCE = 1000
"""Examples that go forward together where nothing is learned."""


class Trainer:
    """A model made ready to be loaded, trained and evaluated many times.

    Args:
        model: float32 parameters and floating-point buffers, on the CPU.
        plan: how clients train.

    Raises:
        InputError: the model holds parameters that are not float32.
    """

    def __init__(self, model: nn.Module, plan: LocalPlan) -> None:
        import torch

        self.model = model
        self.plan = plan
        self.layers: tuple[LayerInfo, ...] = layers_of(model)
        for layer in self.layers:
            if layer.dtype != "float32":
                raise InputError(
                    f"layer {layer.name!r} is {layer.dtype}; federated runs take float32 models"
                )
        tensors = dict(model.named_parameters())
        size = sum(layer.parameters for layer in self.layers)
        self._flat, self._gradient = torch.zeros(size), torch.zeros(size)
        self._views: dict[str, Tensor] = {}
        start = 0
        for layer in self.layers:
            stop = start + layer.parameters
            view = self._flat[start:stop].view(layer.shape)
            tensor = tensors[layer.name]
            view.copy_(tensor.detach())
            tensor.data = view
            tensor.grad = self._gradient[start:stop].view(layer.shape)
            self._views[layer.name] = view
            start = stop
        self._convolves = any(isinstance(part, torch.nn.Conv2d) for part in model.modules())
        buffers = dict(model.named_buffers())
        self._buffers = {n: b for n, b in buffers.items() if b.is_floating_point()}
        self._counters = {n: b for n, b in buffers.items() if not b.is_floating_point()}

    @property
    def buffer_entries(self) -> int:
        """Floating-point buffer entries, sent whole with every message."""
        return sum(buffer.numel() for buffer in self._buffers.values())

    def state(self) -> ModelState:
        """A copy of the model as it stands."""
        counters = {name: tensor.numpy().copy() for name, tensor in self._counters.items()}
        return ModelState(_copies(self._views), _copies(self._buffers), counters)

    def train(
        self,
        state: ModelState,
        x: Tensor,
        y: Tensor,
        generator: np.random.Generator,
        *,
        lr_factor: float = 1.0,
        temperature: float = 1.0,
        mask: Mapping[str, NDArray[np.bool_]] | None = None,
    ) -> LocalResult:
        """Local SGD from *state* on examples *x*, *y*.

        Args:
            state: where training starts; left as it is.
            x: float32, shape (n, ...).
            y: int64 labels, shape (n,), or float32 soft targets, shape (n, classes).
            generator: draws the order of examples, and the seed of what the model itself draws
                (dropout): equal generators give bit-equal results.
            lr_factor: by what the plan's learning rate is multiplied.
            temperature: T of the loss T^2 cross_entropy(scores / T, y), for soft targets.
            mask: name -> which entries are trained, for every layer; the others keep their
                values, but for weight decay.

        Raises:
            InputError: the model cannot be trained on these examples.
        """
        import torch

        kept = None
        if mask is not None:
            parts = [torch.from_numpy(mask[layer.name]).reshape(-1) for layer in self.layers]
            kept = torch.cat(parts).float()
        self._load(state)
        self.model.train()
        start = self._flat.clone()
        velocity = torch.zeros_like(self._flat) if self.plan.momentum else None
        losses, batches = [], []
        with torch.random.fork_rng(devices=[]):
            # of the CPU alone: torch.manual_seed queues a stack trace a call for absent GPUs
            torch.default_generator.manual_seed(int(generator.integers(2**63)))
            for _ in range(self.plan.epochs):
                order = torch.from_numpy(generator.permutation(len(y)))
                shuffled_x, shuffled_y = self._laid_out(x[order]), y[order]
                for part in batches_of(len(y), self.plan.batch_size):
                    examples = shuffled_x[part], shuffled_y[part]
                    loss = self._gradients(*examples, temperature)
                    if kept is not None:
                        self._gradient.mul_(kept)
                    self._step(velocity, self.plan.lr * lr_factor)
                    losses.append(loss)
                    batches.append(part.stop - part.start)
        change = self._flat - start
        return LocalResult(
            delta=self._split(change),
            buffers=_copies(self._buffers),
            batches=tuple(batches),
            loss=float(torch.stack(losses).mean()),
        )

    def gradient(self, state: ModelState, x: Tensor, y: Tensor) -> Arrays:
        """The gradient of the mean loss of one batch at *state* in evaluation mode, by layer.

        Raises:
            InputError: the model cannot be trained on these examples.
        """
        self._load(state)
        self.model.eval()
        self._gradients(x, y)
        return self._split(self._gradient.clone())

    def evaluate(self, state: ModelState, x: Tensor, y: Tensor) -> Evaluation:
        """*state* on examples *x*, *y*.

        Raises:
            InputError: the model cannot be evaluated on these examples.
        """
        import torch
        from torch.nn import functional

        scores = self.scores(state, x)
        with self._naming_the_model("evaluated", x):
            loss = float(functional.cross_entropy(scores, y, reduction="sum"))
        right = scores.argmax(dim=1) == y
        classes = max(scores.shape[1], int(y.max()) + 1)
        by_class = torch.bincount(y[right], minlength=classes)
        return Evaluation(
            accuracy=int(right.sum()) / len(y),
            loss=loss / len(y),
            right=tuple(by_class.tolist()),
            examples=tuple(torch.bincount(y, minlength=classes).tolist()),
        )

    def scores(self, state: ModelState, x: Tensor) -> Tensor:
        """The model's scores (logits) of *x* in evaluation mode; shape (n, classes).

        Raises:
            InputError: the model cannot be evaluated on these examples.
        """
        import torch

        self._load(state)
        self.model.eval()
        found = []
        with torch.no_grad():
            for images in map(self._laid_out, torch.split(x, EVALUATED_AT_ONCE)):
                with self._naming_the_model("evaluated", images):
                    found.append(self._scores(images))
        return torch.cat(found)

    def _laid_out(self, x: Tensor) -> Tensor:
        """Images with their channels last in memory, where the model convolves them.

        A fifth less time a step on a CPU (LeNet, a small ResNet); the shape is the same.
        """
        import torch

        if x.ndim != 4 or not self._convolves:
            return x
        return x.contiguous(memory_format=torch.channels_last)

    def _load(self, state: ModelState) -> None:
        import torch

        with torch.no_grad():
            for name, view in self._views.items():
                view.copy_(torch.from_numpy(state.parameters[name]))
            for name, buffer in self._buffers.items():
                buffer.copy_(torch.from_numpy(state.buffers[name]))
            for name, counter in self._counters.items():
                counter.copy_(torch.from_numpy(state.counters[name]))

    def _gradients(self, x: Tensor, y: Tensor, temperature: float = 1.0) -> Tensor:
        """The loss of a batch; its gradient is left in the flat tensor."""
        from torch.nn import functional

        self._gradient.zero_()
        with self._naming_the_model("trained", x):
            scores = self._scores(x)
            if temperature != 1:
                loss = functional.cross_entropy(scores / temperature, y) * temperature**2
            else:
                loss = functional.cross_entropy(scores, y)
            loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        return loss.detach()

    def _step(self, velocity: Tensor | None, lr: float) -> None:
        if self.plan.weight_decay:
            self._gradient.add_(self._flat, alpha=self.plan.weight_decay)
        step = self._gradient
        if velocity is not None:
            step = velocity.mul_(self.plan.momentum).add_(self._gradient)
        self._flat.add_(step, alpha=-lr)

    def _scores(self, x: Tensor) -> Tensor:
        import torch

        scores = self.model(x)
        if not isinstance(scores, torch.Tensor) or scores.ndim != 2:
            shape = tuple(getattr(scores, "shape", ()))
            kind = f"a {type(scores).__name__}" + (f" of shape {shape}" if shape else "")
            raise TypeError(f"it returns {kind}, not a tensor of (examples, classes) scores")
        return scores

    @contextmanager
    def _naming_the_model(self, done: str, x: Tensor) -> Iterator[None]:
        """Whatever the model's own code raises, as one line that names the model."""
        try:
            yield
        except Exception as error:
            lines = str(error).strip().splitlines()
            raise InputError(
                f"{type(self.model).__name__} cannot be {done} on a batch of shape "
                f"{tuple(x.shape)}: {lines[0] if lines else type(error).__name__}"
            ) from error

    def _split(self, flat: Tensor) -> dict[str, NDArray[np.float32]]:
        whole: NDArray[np.float32] = flat.numpy()
        parts, start = {}, 0
        for layer in self.layers:
            parts[layer.name] = whole[start : start + layer.parameters].reshape(layer.shape)
            start += layer.parameters
        return parts


def _copies(tensors: Mapping[str, torch.Tensor]) -> dict[str, NDArray[np.float32]]:
    return {name: tensor.detach().float().numpy().copy() for name, tensor in tensors.items()}
