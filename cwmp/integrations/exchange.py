"""Bytes of different lengths between the ranks of a process group, and their troubles.

Every rank tells first how it fared and how long its bytes are, and then all send as many bytes
as the longest has. A rank that failed sends its reason in their place, so that every rank
raises the same error and none waits for another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from profiler.errors import BudgetError, InputError, LayerMismatchError, PayloadError, UpdateError

_REASON_BYTES = 1000
_ERRORS: Sequence[type[Exception]] = (InputError, UpdateError, BudgetError, LayerMismatchError)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one rank has to say.

    Attributes:
        content: its payload, or the reason in UTF-8 why it has none.
        status: 0 for a payload, else which error.
    """

    content: bytes
    status: int = 0

    @classmethod
    def of_error(cls, error: Exception) -> Outcome:
        """The class as far as the receivers know it, and the text."""
        kinds = [number for number, kind in enumerate(_ERRORS, start=1) if type(error) is kind]
        text = str(error) if kinds else f"{type(error).__name__}: {error}"
        return cls(text.encode()[:_REASON_BYTES], kinds[0] if kinds else 1)

    def error(self, where: str) -> Exception:
        """The error to raise on every rank."""
        kind = _ERRORS[self.status - 1] if self.status <= len(_ERRORS) else InputError
        return kind(f"{where}: {' '.join(self.content.decode(errors='replace').split())}")


def exchange(mine: Outcome, max_bytes: int, group: Any, device: torch.device) -> list[Outcome]:
    """What every rank of *group* says, in the order of the ranks; collective.

    Args:
        mine: this rank's.
        max_bytes: no payload is longer; a rank that announces more is refused.
        group: the process group; ``None`` for the default one.
        device: where the group's backend takes tensors.

    Raises:
        PayloadError: a rank announces a length or status that cannot be.
    """
    world = dist.get_world_size(group)
    header = torch.tensor([mine.status, len(mine.content)], dtype=torch.int64, device=device)
    headers = [torch.empty_like(header) for _ in range(world)]
    dist.all_gather(headers, header, group=group)
    announced = [(int(status), int(length)) for status, length in torch.stack(headers).tolist()]
    for rank, (status, length) in enumerate(announced):
        limit = _REASON_BYTES if status else max_bytes
        if not (0 <= status < 256 and 0 <= length <= limit):
            raise PayloadError(
                f"rank {rank} announces {length} bytes and status {status}; at most {limit} "
                "bytes are read: run the same version and model on every rank"
            )
    longest = max(length for _, length in announced)
    padded = torch.zeros(longest, dtype=torch.uint8)
    padded[: len(mine.content)] = torch.from_numpy(np.frombuffer(mine.content, np.uint8).copy())
    padded = padded.to(device)
    received = [torch.empty_like(padded) for _ in range(world)]
    dist.all_gather(received, padded, group=group)
    return [
        Outcome(tensor[:length].cpu().numpy().tobytes(), status)
        for tensor, (status, length) in zip(received, announced, strict=True)
    ]
