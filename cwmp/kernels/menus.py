"""One option of each layer within a budget: the multiple-choice knapsack.

A layer's *menu* lists what it can be given, by rising joules, with what that captures; its first
option is nothing for nothing. Layers whose entries come in lumps (bursts, blocks) offer one
option for each number of lumps, best first. The linear relaxation over the upper concave hulls
of the menus bounds every choice (Sinha and Zoltners 1979, The multiple-choice knapsack problem,
Operations Research 27): a layer's opening cost is part of its hull's first edge.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cwmp.kernels.jit import compiled
from cwmp.kernels.reference import Floats, Integers

_EPSILON = float(np.finfo(np.float64).eps)


class Menus(NamedTuple):
    """The layers' options; layer l's are ``offsets[l]:offsets[l + 1]``.

    Attributes:
        joules, gains: of each option, rising and not falling; 0 and 0 for a layer's first.
        offsets: shape (L + 1,).
    """

    joules: Floats
    gains: Floats
    offsets: Integers


class Edges(NamedTuple):
    """The edges of the layers' hulls, by falling gain a joule.

    Attributes:
        layer, option: whose edge, and the option at its far end.
        joules, gain, density: of the step.
    """

    layer: Integers
    option: Integers
    joules: Floats
    gain: Floats
    density: Floats


@compiled
def hull(menus: Menus, start: int, stop: int, out: Integers) -> int:
    """The vertices of the upper concave hull of options *start*..*stop* - 1, into *out*."""
    joules, gains, size = menus.joules, menus.gains, 0
    for option in range(start, stop):
        if size > 0 and gains[option] <= gains[out[size - 1]]:
            continue
        while size > 0:
            top = out[size - 1]
            if size == 1:
                if joules[option] > joules[top]:
                    break
            else:
                base = out[size - 2]
                rise = (gains[top] - gains[base]) * (joules[option] - joules[base])
                if rise > (gains[option] - gains[base]) * (joules[top] - joules[base]):
                    break
            size -= 1
        out[size] = option
        size += 1
    return size


@compiled
def edges_of(menus: Menus, spendable_j: float, opened: bool) -> Edges:
    """The hulls' edges, without the options above *spendable_j*.

    Args:
        opened: whether hulls start at the first option that is not nothing.
    """
    room = menus.joules.size
    layer_of, option_of = np.empty(room, np.int64), np.empty(room, np.int64)
    step_j, gain, density = np.empty(room), np.empty(room), np.empty(room)
    vertices, total = np.empty(room, np.int64), 0
    for layer in range(menus.offsets.size - 1):
        start, stop = menus.offsets[layer], menus.offsets[layer + 1]
        while stop > start and menus.joules[stop - 1] > spendable_j:
            stop -= 1
        size = hull(menus, start + opened, stop, vertices)
        least = np.inf
        for place in range(1, size):
            here, before = vertices[place], vertices[place - 1]
            layer_of[total], option_of[total] = layer, here
            step_j[total] = menus.joules[here] - menus.joules[before]
            gain[total] = menus.gains[here] - menus.gains[before]
            least = min(least, gain[total] / step_j[total])
            density[total] = least
            total += 1
    order = np.argsort(-density[:total], kind="mergesort")
    return Edges(layer_of[order], option_of[order], step_j[order], gain[order], density[order])


@compiled
def relaxed(edges: Edges, spendable_j: float) -> tuple[float, float, float]:
    """What the edges capture within the budget if the last one may be taken in part.

    Returns:
        The bound, rounded up, on what any choice captures; the density of the edge in part (0
        if all fit); the same bound without rounding.
    """
    left_j, gained, price = spendable_j, 0.0, 0.0
    for edge in range(edges.layer.size):
        if edges.joules[edge] > left_j:
            price = edges.density[edge]
            break
        left_j -= edges.joules[edge]
        gained += edges.gain[edge]
    exact = gained + price * left_j
    rounding = (edges.layer.size + 64) * _EPSILON
    return exact + rounding * (gained + price * spendable_j), price, exact


@compiled
def spent(menus: Menus, chosen: Integers) -> float:
    """Joules of the options *chosen*, in the layers' order."""
    total_j = 0.0
    for layer in range(chosen.size):
        total_j += menus.joules[chosen[layer]]
    return total_j


@compiled
def captured_by(menus: Menus, chosen: Integers) -> float:
    """What the options *chosen* capture."""
    total = 0.0
    for layer in range(chosen.size):
        total += menus.gains[chosen[layer]]
    return total


@compiled
def take(menus: Menus, edges: Edges, chosen: Integers, closed: Integers, limit_j: float) -> None:
    """Move *chosen* along the edges while they fit; a layer whose edge did not fit stays there.

    Args:
        closed: 1 for layers that are left as they are; changed in place.
    """
    left_j = limit_j - spent(menus, chosen)
    for edge in range(edges.layer.size):
        layer = edges.layer[edge]
        if closed[layer]:
            continue
        if edges.joules[edge] <= left_j:
            left_j -= edges.joules[edge]
            chosen[layer] = edges.option[edge]
        else:
            closed[layer] = 1


@compiled
def fill(menus: Menus, chosen: Integers, limit_j: float) -> None:
    """Make *chosen* fit, then spend what is left by the step that gains most, while one fits."""
    offsets = menus.offsets
    while spent(menus, chosen) > limit_j:  # by rounding
        worst = np.argmax(chosen - offsets[:-1])
        chosen[worst] -= 1
    while True:
        left_j = limit_j - spent(menus, chosen)
        most, where, option = 0.0, -1, 0
        for layer in range(chosen.size):
            now = chosen[layer]
            stop = offsets[layer + 1]
            reach = menus.joules[now] + left_j
            best = now + np.searchsorted(menus.joules[now:stop], reach, side="right") - 1
            if best > now and menus.gains[best] - menus.gains[now] > most:
                most, where, option = menus.gains[best] - menus.gains[now], layer, best
        if where < 0:
            return
        before, chosen[where] = chosen[where], option
        if spent(menus, chosen) > limit_j:
            chosen[where] = option - 1
            if option - 1 <= before:
                chosen[where] = before
                return
