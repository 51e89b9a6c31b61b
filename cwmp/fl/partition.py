"""Examples dealt to clients so that each sees its own mix of labels.

For each label, client shares are drawn from Dirichlet(alpha, ..., alpha) and its examples
are cut in those proportions (Hsu, Qi and Brown 2019; Li et al., NIID-Bench, 2022). A small
alpha gives each client few labels, a large one gives all of them the same mix.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from profiler.errors import InputError

_ATTEMPTS = 1000


def dirichlet_partition(
    labels: NDArray[np.int64], clients: int, alpha: float, seed: int
) -> tuple[NDArray[np.int64], ...]:
    """Positions of *labels* by client: disjoint, together everything, none empty.

    Draws that leave a client without examples are thrown away and drawn anew, so the result
    follows the distribution given that nobody is empty.

    Args:
        labels: shape (n,).
        clients: how many parts.
        alpha: concentration, positive.
        seed: equal seeds give equal partitions.

    Returns:
        One ascending int64 array a client.

    Raises:
        InputError: *alpha* is not a positive number, *clients* is below 1 or above n, or no
            draw in 1 000 gave every client an example.
    """
    if not (np.isfinite(alpha) and alpha > 0):
        raise InputError(f"the Dirichlet alpha is {alpha}; it must be a positive number")
    if clients < 1:
        raise InputError(f"{clients} clients cannot be trained; at least 1 is needed")
    if clients > len(labels):
        raise InputError(f"{clients} clients cannot share {len(labels)} examples; use fewer")
    generator = np.random.default_rng([seed, _STREAM])
    for _ in range(_ATTEMPTS):
        owner = _draw(labels, clients, alpha, generator)
        counts = np.bincount(owner, minlength=clients)
        if counts.all():
            # stable: each client's positions stay ascending
            return tuple(np.split(np.argsort(owner, kind="stable"), np.cumsum(counts)[:-1]))
    raise InputError(
        f"alpha {alpha:g} leaves one of {clients} clients without examples in each of "
        f"{_ATTEMPTS} draws; raise alpha or use fewer clients"
    )


_STREAM = 0x9A47
"""Keeps these draws apart from others made from the same seed."""


def _draw(
    labels: NDArray[np.int64], clients: int, alpha: float, generator: np.random.Generator
) -> NDArray[np.int64]:
    """The client of each example; shape (n,)."""
    owner = np.empty(len(labels), dtype=np.int64)
    everyone = np.arange(clients)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        shares = generator.dirichlet(np.full(clients, alpha))
        cuts = np.rint(np.cumsum(shares) * members.size).astype(np.int64)
        cuts[-1] = members.size
        owner[members] = np.repeat(everyone, np.diff(cuts, prepend=0))
    return owner
