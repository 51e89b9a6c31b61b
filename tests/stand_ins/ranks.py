"""What each of two real processes does in the tests of the DDP hook; spawned, so importable."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from cwmp.fl.data import load_data
from cwmp.fl.models import build_model
from cwmp.integrations.ddp import CwmpState, cwmp_hook
from cwmp.selectors.costs import SelectionCosts
from profiler.errors import CwmpError
from profiler.layers import layers_of

WORLD = 2
BATCH = 32
NAN_STEP = 2


@dataclass(frozen=True)
class Setting:
    """One training run; ``budget=None`` is DDP as it comes."""

    budget: str | None = None
    steps: int = 5
    cap_mb: float = 25.0
    message_j: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)
    resume_at: int | None = None
    nan_rank: int | None = None


SETTINGS = {
    "dense": Setting(steps=110),
    "budget": Setting("15%", steps=110, message_j=1e-6),
    "dense, short": Setting(),
    "buckets": Setting("20%", steps=6, cap_mb=0.02),
    "late start": Setting("5%", options={"start_after": 5}),
    "float16": Setting("15%", options={"value_type": "float16"}),
    "float32": Setting("15%"),
    "resumed": Setting("15%", resume_at=3),
    "NaN": Setting("15%", nan_rank=1),
    "nothing opens": Setting("10%", cap_mb=0.02, message_j=2e-6),
}


def small_model() -> nn.Module:
    return build_model("mlp", (1, 8, 8), 10, seed=3)


def prices(message_j: float = 0.0) -> SelectionCosts:
    """A nanojoule an entry, more in later layers, and a fixed cost for each layer."""
    shapes = {layer.name: layer.shape for layer in layers_of(small_model())}
    marginal_j = {name: 1e-9 * (1 + number) for number, name in enumerate(shapes)}
    fixed_j = dict.fromkeys(shapes, 2e-8)
    return SelectionCosts.linear(shapes, marginal_j, fixed_j, message_j=message_j)


def run_rank(rank: int, folder: str) -> None:
    """Every setting in turn; what came of it goes to files named after setting and rank."""
    torch.set_num_threads(1)
    store = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=WORLD)
    for name, setting in SETTINGS.items():
        try:
            counts, arrays = _run(setting, rank)
        except CwmpError as error:
            counts, arrays = {"error": f"{type(error).__name__}: {error}"}, {}
        np.savez(Path(folder) / f"{name}-{rank}.npz", **arrays)
        (Path(folder) / f"{name}-{rank}.json").write_text(json.dumps(counts))
    dist.destroy_process_group()


def _run(setting: Setting, rank: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    data = load_data("digits")
    x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
    run = _Run(setting, small_model())
    for step in range(setting.steps):
        if step == setting.resume_at:
            run = run.again()
        rows = torch.arange(BATCH) + BATCH * (WORLD * step + rank)
        images = x[rows % len(x)]
        if rank == setting.nan_rank and step == NAN_STEP:
            images = images * torch.nan
        run.step(images, y[rows % len(y)])
    with torch.no_grad():
        loss = cross_entropy(run.model(x), y).item()
    counts: dict[str, Any] = {"loss": loss, "groups": run.groups}
    arrays = {f"weight {n}": p.detach().numpy() for n, p in run.model.named_parameters()}
    if run.state:
        saved = run.state.state_dict()
        arrays |= {f"residual {n}": e.numpy() for n, e in saved.pop("residual").items()}
        arrays |= {f"local {n}": g.numpy() for n, g in run.local.items()}
        arrays |= {f"mean {n}": g.numpy() for n, g in run.mean.items()}
        counts |= saved | {"norm": run.state.residual_norm}
    return counts, arrays


class _Run:
    """A wrapped model, its hook, and sums of what went into the hook and came out, in float64."""

    def __init__(self, setting: Setting, model: nn.Module) -> None:
        self.setting = setting
        self.model = model
        self.ddp = DistributedDataParallel(model, bucket_cap_mb=setting.cap_mb)
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.15)
        self.state: CwmpState | None = None
        self.groups: list[tuple[str, ...]] = []
        zeros = {n: torch.zeros(p.shape, dtype=torch.float64) for n, p in model.named_parameters()}
        self.local, self.mean = zeros, {n: z.clone() for n, z in zeros.items()}
        if setting.budget:
            costs = prices(setting.message_j)
            self.state = CwmpState(model, costs, setting.budget, **setting.options)
            self.ddp.register_comm_hook(self.state, self._watched(cwmp_hook))

    def _watched(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        names = {id(p): name for name, p in self.model.named_parameters()}

        def watched(state, bucket):  # DDP checks annotations and takes no strings
            group = tuple(names[id(p)] for p in bucket.parameters())
            if group not in self.groups:
                self.groups.append(group)
            for name, gradient in zip(group, bucket.gradients(), strict=True):
                self.local[name] += gradient
            future = hook(state, bucket)
            for name, gradient in zip(group, bucket.gradients(), strict=True):
                self.mean[name] += gradient
            return future

        return watched

    def again(self) -> _Run:
        """As after a checkpoint: another wrapper, state and optimizer, and what was saved."""
        other = _Run(replace(self.setting, resume_at=None), self.model)
        assert self.state is not None and other.state is not None
        other.state.load_state_dict(self.state.state_dict())
        return other

    def step(self, images: Tensor, labels: Tensor) -> None:
        self.optimizer.zero_grad()
        cross_entropy(self.ddp(images), labels).backward()
        self.optimizer.step()
