"""Selection to bytes and back.

One message holds, for each touched layer, either all of it (``dense``) or the kept entries
(``sparse``: indices as the smaller of a bitmap and 32-bit integers, then values), then the
model's buffers, whole. All integers are little-endian.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cwmp.selection import Form

HEADER_BYTES = 24
LAYER_HEADER_BYTES = 12


def layer_bytes(
    parameters: int, k: ArrayLike, form: Form, value_bytes: int = 4
) -> NDArray[np.int64]:
    """Bytes that *k* kept entries of a layer of n *parameters* take, elementwise; 0 at k = 0.

    dense: header + v n;  sparse: header + v k + min(4 k, ceil(n / 8)).
    """
    amounts = np.asarray(k, dtype=np.int64)
    if form == "dense":
        body = np.full_like(amounts, value_bytes * parameters)
    else:
        body = value_bytes * amounts + np.minimum(4 * amounts, -(-parameters // 8))
    return np.where(amounts > 0, LAYER_HEADER_BYTES + body, 0)


def buffer_bytes(entries: int, value_bytes: int = 4) -> int:
    """Bytes that a model's buffers (BatchNorm statistics) take; 0 when it has none."""
    return LAYER_HEADER_BYTES + value_bytes * entries if entries else 0
