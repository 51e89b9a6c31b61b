"""SP-FL: signs and moduli of an update in packets of their own, over a channel that loses some.

"Prioritizing Gradient Sign Over Modulus", arXiv 2603.10763. For each layer l of a client's
update d a sign packet and a modulus packet are sent. What the server adds for the layer::

    both arrive            s * |d|_q          s = sign(d), |d|_q the moduli as sent
    only the sign packet   s * mbar           mbar the compensating modulus
    not the sign packet    0                  moduli without signs are of no use

so that with loss probabilities p (sign) and r (modulus), independent,
E = (1 - p) [(1 - r) s |d|_q + r s mbar]. Known of the paper: the packets, the compensation at
the server, signs protected before moduli, and power and bandwidth allocated by importance.
Chosen here: one packet pair a layer; mbar is the mean modulus of the layer in this update, one
scalar in its sign packet; moduli go out as float16 shares of the layer's largest. The
allocation is not here: give the loss it would leave as two numbers, ``spfl:0.01,0.2``.

The channel is simulated at the server, after every packet is paid for: `server` draws each
packet's fate from its own generator and the client's number, so that it does not depend on who
else came. The payload holds all packets; its checksum is ours, not the radio's. Header and
buffers are never lost. A lost packet is not sent again, and applying is charged as if none
were lost. Aggregation: the rule of `cwmp.fl.aggregate`.

A sign takes a bit and a modulus 16: 17 / 32 of dense.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cwmp.codec import decode, encode
from cwmp.fl.aggregate import apply_update, average
from cwmp.fl.algorithms.base import (
    ClientTask,
    Download,
    Reading,
    ServerTask,
    Touch,
    Track,
    Upload,
)
from cwmp.fl.algorithms.envelope import (
    Kind,
    bits_of,
    buffers_of,
    counted,
    numbers,
    pack,
    unpack,
    values_of,
)
from cwmp.fl.algorithms.setting import MethodName, Setting
from cwmp.fl.algorithms.sparse import touches
from cwmp.fl.training import Arrays, ModelState, Trainer
from cwmp.payload import DecodedPayload, PayloadLayout
from cwmp.selection import LayerSelection
from cwmp.selectors.costs import SelectionCosts
from profiler.errors import InputError, PayloadError

Floats = NDArray[np.float32]


class Packets(NamedTuple):
    """What was sent of one layer.

    Attributes:
        signs: -1 or 1; shape (n,).
        mean: the compensating modulus.
        moduli: 0 or more; shape (n,).
    """

    signs: Floats
    mean: float
    moduli: Floats

    def received(self, sign: bool, modulus: bool) -> Floats | None:
        """What the server adds where the packets arrived or not; ``None`` for nothing."""
        if not sign:
            return None
        return self.signs * (self.moduli if modulus else np.float32(self.mean))


@dataclass(frozen=True)
class SignPrioritized:
    """Dense averaging over an erasure channel that signs and moduli cross apart.

    Attributes:
        costs, layout: as of every method.
        sign_loss, modulus_loss: p and r, the probability that a packet is lost.
    """

    costs: SelectionCosts
    layout: PayloadLayout
    sign_loss: float = 0.1
    modulus_loss: float = 0.1

    @property
    def track(self) -> Track:
        return "shared"

    def client(self, trainer: Trainer, task: ClientTask) -> Upload:
        local = trainer.train(task.state, task.x, task.y, task.order, lr_factor=task.lr_factor)
        return Upload(
            payload=self.written(local.delta, local.buffers),
            examples=len(task.y),
            batches=local.batches,
            loss=local.loss,
            client=task.client,
        )

    def written(self, change: Arrays, buffers: Arrays) -> bytes:
        """All sign packets, all modulus packets, buffers::

        sign packet     mean modulus f32, n bits (1 for 0 or more)
        modulus packet  largest modulus f32, n float16 shares of it
        """
        signs, moduli = [], []
        for name in self.layout.names:
            values = change[name].reshape(-1).astype(np.float32)
            size = np.abs(values)
            largest = float(size.max())
            mean = size.mean(dtype=np.float64)
            what = f"the moduli of layer {name!r}"
            signs += [values_of([mean], "<f4", what), bits_of(values >= 0)]
            shares = size / np.float32(largest) if largest else size
            moduli += [values_of([largest], "<f4", what), values_of(shares, "<f2", what)]
        body = b"".join([*signs, *moduli, buffers_of(self.layout, buffers)])
        return pack(Kind.PACKETS, self.layout, body)

    def read(self, upload: Upload) -> Reading:
        body = unpack(Kind.PACKETS, self.layout, upload.payload)
        signs = []
        for name, size in zip(self.layout.names, self.layout.sizes, strict=True):
            mean = float(body.values(1, "<f4", f"the mean modulus of layer {name!r}")[0])
            signs.append((mean, np.where(body.bits(size), np.float32(1), np.float32(-1))))
        packets: dict[str, Packets] = {}
        squares = 0.0
        for (mean, sign), name in zip(signs, self.layout.names, strict=True):
            what = f"the moduli of layer {name!r}"
            largest = float(body.values(1, "<f4", what)[0])
            shares = body.values(sign.size, "<f2", what).astype(np.float32)
            if not 0 <= mean <= largest or (shares < 0).any() or (shares > 1).any():
                raise PayloadError(f"{what} are not in 0 to the largest, or their mean is not")
            packets[name] = Packets(sign, mean, shares * np.float32(largest))
            squares += float(np.square(packets[name].moduli, dtype=np.float64).sum())
        buffers = body.buffers()
        touched = (
            Touch(name, size, "dense")
            for name, size in zip(self.layout.names, self.layout.sizes, strict=True)
        )
        content = (packets, buffers)
        examples = counted(upload.examples)
        norm = sqrt(squares)
        return Reading(upload.client, examples, tuple(touched), content, norm, buffers)

    def server(self, readings: Iterable[Reading], task: ServerTask) -> Download:
        channel = int(task.draws.integers(2**63))
        arrived = ((self.across(reading, channel), reading.examples) for reading in readings)
        mean = average(arrived, self.layout, self.costs)
        return Download(encode(mean.layers, self.layout, mean.buffers), touches(mean.layers))

    def across(self, reading: Reading, channel: int) -> DecodedPayload:
        """What arrives of an upload: a pure function of the round's channel and the client."""
        fate = np.random.default_rng([channel, reading.client]).random((len(self.layout.names), 2))
        kept = fate >= [self.sign_loss, self.modulus_loss]
        packets, buffers = reading.content
        layers = []
        for (name, shape), (sign, modulus) in zip(self.layout.layers.items(), kept, strict=True):
            values = packets[name].received(bool(sign), bool(modulus))
            if values is not None:
                indices = np.arange(values.size, dtype=np.int64)
                layers.append(LayerSelection(name, tuple(shape), indices, values, "dense"))
        return DecodedPayload(tuple(layers), buffers)

    def apply(self, state: ModelState, payload: bytes) -> ModelState:
        decoded = decode(payload, self.layout)
        return apply_update(state, decoded.layers, decoded.buffers)


def make(name: MethodName, setting: Setting) -> SignPrioritized:
    """``spfl[:LOSS]`` for all packets alike, or ``spfl:SIGN_LOSS,MODULUS_LOSS``.

    Raises:
        InputError: arguments it does not take.
    """
    first, second = numbers(name, "spfl:LOSS or spfl:SIGN_LOSS,MODULUS_LOSS", (0.1, -1.0))
    losses = (first, first if len(name.arguments) < 2 else second)
    if not all(0 <= loss <= 1 for loss in losses):
        raise InputError(f"a loss is a probability from 0 to 1: {name}")
    return SignPrioritized(setting.costs, setting.layout, *losses)
