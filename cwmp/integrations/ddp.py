"""A communication hook for torch's DistributedDataParallel: gradients within a joule budget.

Each rank j adds its gradient to what waits from the rounds before, selects within its share of
the budget, and sends that encoded; every rank decodes the payloads of all, in rank order::

    e_j <- e_j + g_j;   S_j = select(e_j, budget);   e_j <- e_j - S_j;   g = 1/W sum over j of S_j

so that all ranks hold the same bits. A bucket of DDP is one message: it pays the message's own
charge and has as much of the round's budget as its layers have of the dense cost.

Declared joules are those of sending a selection and applying its entries alone at a receiver.
They are not those of this optimizer's step: DDP gets a dense bucket back, the step reads and
writes every weight, and with momentum, Adam or weight decay those of zero gradient move too.
"""

# Without deferred annotations: DDP looks at those of a hook, and takes no strings.

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import GradBucket
from torch.futures import Future

from cwmp.codec import decode
from cwmp.integrations.ddp_state import Bucket, CwmpState
from cwmp.integrations.exchange import exchange
from cwmp.payload import PayloadLayout

__all__ = ["CwmpState", "cwmp_hook"]


def cwmp_hook(state: CwmpState, bucket: GradBucket) -> Future[Tensor]:
    """Average what every rank selected: ``ddp.register_comm_hook(CwmpState(...), cwmp_hook)``.

    Selection is on the CPU, whatever the device of the gradients, and the exchange is over when
    this returns. Gradients scaled by a loss scaler would mix scales in the residual: train
    without one.

    Raises:
        UpdateError, BudgetError: on every rank alike, when any rank has a gradient with NaN or
            inf, or a bucket that its budget does not open. Build the model, the DDP wrapper
            and its state, and the optimizer anew and load a checkpoint into them: the error
            leaves DDP's reducer in the middle of a reduction that nothing can end, so that the
            wrapper's next backward fails with an internal assert of torch; and the wrapper's
            hooks stay on the old model's parameters as long as it lives.
        PayloadError: a rank sent bytes that are not a payload of this bucket.
        LayerMismatchError: a parameter that is not the state's model's.
    """
    names = state.names_of(bucket.parameters())
    held = state.bucket(names)
    dense = state.rounds < state.start_after
    if bucket.is_last():
        state.rounds += 1
    if dense:
        return _all_reduced(state, held, bucket.buffer())
    gradients = dict(zip(names, bucket.gradients(), strict=True))
    outcome = state.outcome(held, gradients)
    device = _device(state.process_group, bucket.buffer())
    outcomes = exchange(outcome, held.layout.max_bytes, state.process_group, device)
    for rank, other in enumerate(outcomes):
        if other.status:
            raise other.error(f"rank {rank} cannot send its gradients of bucket {bucket.index()}")
    _average(gradients, [other.content for other in outcomes], held.layout)
    return _done(bucket.buffer())


def _average(
    gradients: Mapping[str, Tensor], payloads: Sequence[bytes], layout: PayloadLayout
) -> None:
    """Write the mean of *payloads* into *gradients*; sums run in rank order, in float32."""
    sums = {name: np.zeros(prod(shape), np.float32) for name, shape in layout.layers.items()}
    for payload in payloads:
        for layer in decode(payload, layout).layers:
            sums[layer.name][layer.indices] += layer.values
    for name, gradient in gradients.items():
        mean = torch.from_numpy(sums[name] / np.float32(len(payloads)))
        gradient.copy_(mean.view(gradient.shape))


def _all_reduced(state: CwmpState, held: Bucket, buffer: Tensor) -> Future[Tensor]:
    state.bytes_sent += buffer.numel() * buffer.element_size()
    state.energy_j += held.dense_j
    buffer.div_(dist.get_world_size(state.process_group))
    dist.all_reduce(buffer, group=state.process_group)
    return _done(buffer)


def _done(buffer: Tensor) -> Future[Tensor]:
    future: Future[Tensor] = Future(devices=[buffer.device] if buffer.is_cuda else None)
    future.set_result(buffer)
    return future


def _device(group: Any, buffer: Tensor) -> torch.device:
    return torch.device("cpu") if dist.get_backend(group) == "gloo" else buffer.device
