"""Price mode: one price of energy for all clients and rounds (`cwmp.controller`).

The server tells each client a price lambda (`Download.personal`); a client keeps what is worth it
(`cwmp.selectors.priced`), with its number of examples as its weight, and sends along a
`SpendReport`: what it spent, and what it would spend at prices around. The server adds the curves
and sets the next price, so that all clients together spend B joules a client and round over the
whole run. **A single client may declare more than B in a round, the run may not**: with the price
goes a cap, the joules left less the empty messages still to come, shared by the clients of a
round. In round 1, and for a client that was told nothing, there is no price: it spends B as
`CostWeighted` does, and answers for a coarse grid around a guess.

::

    message = "CWPR", version u8 = 1, zero (3), price f64, cap f64, CRC-32 of the rest u32
    upload  = "CWPU", version u8 = 1, zero u8, bytes of the report u16, the price it answers for
              f64, CRC-32 of all before and of the report u32, report, payload of `cwmp.codec`
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite
from typing import NamedTuple

import numpy as np

from cwmp.controller import PriceController
from cwmp.controller_state import ControllerState
from cwmp.fl.algorithms.arguments import at_most
from cwmp.fl.algorithms.base import ClientTask, Download, Reading, ServerTask, Track, Upload
from cwmp.fl.algorithms.setting import MethodName, Setting
from cwmp.fl.algorithms.sparse import SparseAveraging
from cwmp.fl.training import ModelState, Trainer
from cwmp.payload import DecodedPayload
from cwmp.selection import Selection
from cwmp.selectors.cost_weighted import CostWeighted
from cwmp.selectors.priced import PriceSelector
from cwmp.selectors.updates import AnyUpdate
from cwmp.spending import PriceGrid, SpendReport, SpendTotal
from profiler.errors import BudgetError, FileFormatError, InputError, PayloadError

_MESSAGE = struct.Struct("<4sB3xdd")
_UPLOAD = struct.Struct("<4sBBHd")
_CRC = struct.Struct("<I")
_TOLD, _SENT, _VERSION = b"CWPR", b"CWPU", 1
_STATE = "controller"
_GRID = PriceGrid(bins=24, ratio=1.5)
_OPENING = PriceGrid(bins=24, ratio=16.0)
_FRAME_BYTES = _UPLOAD.size + _CRC.size + 8 + 4 * _GRID.bins


class Priced(NamedTuple):
    """An upload of this method, read.

    Attributes:
        decoded: the update.
        report: what the client says of its joules.
        price: for which price its curve stands.
    """

    decoded: DecodedPayload
    report: SpendReport
    price: float


@dataclass(frozen=True)
class PriceAveraging:
    """FedAvg of what is worth the price.

    Attributes:
        inner: averaging by `CostWeighted`, with the prices, the layout and the feedback.
        clients, per_round, rounds: of the run that the budget has to last for.
        mean_budget_j: B, the mean over clients where devices differ; ``None``: inner's.
        dearest_j: the largest dense cost of a device; ``None``: inner's.
    """

    inner: SparseAveraging
    clients: int
    per_round: int
    rounds: int
    mean_budget_j: float | None = None
    dearest_j: float | None = None

    @property
    def track(self) -> Track:
        return "shared"

    @property
    def overhead_j(self) -> float:
        """Joules of a message that carries a report and no entry."""
        return self.inner.costs.message_j + self._frame_j

    @property
    def first_price(self) -> float:
        """A guess: entries of 1e-3 at 100 examples and the mean joules of an entry."""
        costs = self.inner.costs
        entries = sum(layer.parameters for layer in costs.layers)
        return (100 * 1e-3) ** 2 * entries / self._dearest_j

    def client(self, trainer: Trainer, task: ClientTask) -> Upload:
        self._check_budget()
        price, cap_j = self._told(task.message)
        rule = _AtPrice(self, price, len(task.y))
        spendable_j = max(cap_j - self._frame_j, 0.0)
        upload = replace(self.inner, selector=rule, budget_j=spendable_j).client(trainer, task)
        found = upload.selection
        if found is None:
            raise InputError("a selection without a report")
        declared_j = max(found.energy_j, self.inner.costs.message_j) + self._frame_j
        report = SpendReport(f"client {task.client}", declared_j, rule.curve_j)
        return replace(
            upload,
            payload=_framed(report, rule.answers_for, upload.payload),
            selection=replace(found, energy_j=declared_j),
        )

    def read(self, upload: Upload) -> Reading:
        report, price, payload = _unframed(upload, self._controller)
        reading = self.inner.read(replace(upload, payload=payload))
        return replace(reading, content=Priced(reading.content, report, price))

    def server(self, readings: Iterable[Reading], task: ServerTask) -> Download:
        state = self._state(task)
        seen: list[Priced] = []

        def updates() -> Iterator[Reading]:
            for reading in readings:
                content: Priced = reading.content
                seen.append(content._replace(decoded=DecodedPayload((), {})))
                yield replace(reading, content=content.decoded)

        download = self.inner.server(updates(), task)
        after = self._after(state, seen)
        message = _message(after.price, self._cap_j(after))
        return replace(
            download,
            personal=dict.fromkeys(range(self.clients), message),
            memory={_STATE: np.frombuffer(after.to_json().encode(), dtype=np.uint8)},
        )

    def apply(self, state: ModelState, payload: bytes) -> ModelState:
        return self.inner.apply(state, payload)

    @property
    def _dearest_j(self) -> float:
        return self.inner.costs.dense_j if self.dearest_j is None else self.dearest_j

    @property
    def _frame_j(self) -> float:
        return max(layer.byte_j for layer in self.inner.costs.layers) * _FRAME_BYTES

    @cached_property
    def _controller(self) -> PriceController:
        mean_j = self.inner.budget_j if self.mean_budget_j is None else self.mean_budget_j
        return PriceController(
            budget_j=mean_j * self.per_round * self.rounds,
            rounds=self.rounds,
            grid=_GRID,
            client_limit_j=2 * (self._dearest_j + self._frame_j),
        )

    def grid_of(self, price: float) -> tuple[float, ...]:
        """The prices that clients answer for; a coarse grid before there is a price."""
        return _OPENING.prices(self.first_price) if price == 0 else _GRID.prices(price)

    def _check_budget(self) -> None:
        budget_j, costs = self.inner.budget_j, self.inner.costs
        costs.check_budget(budget_j)
        if budget_j - self._frame_j < costs.cheapest_j:
            raise BudgetError(
                f"infeasible: the budget of {budget_j:.4g} J opens no layer beside a spend report "
                f"of {self._frame_j:.4g} J"
            )

    def _told(self, message: bytes) -> tuple[float, float]:
        """The price and the cap; 0 and B where nothing was told."""
        return _read_message(message) if message else (0.0, self.inner.budget_j)

    def _state(self, task: ServerTask) -> ControllerState:
        held = task.memory.get(_STATE)
        if held is None:
            return self._controller.initial(self.first_price)
        try:
            return ControllerState.from_json(held.tobytes().decode())
        except (UnicodeDecodeError, FileFormatError) as error:
            raise InputError(f"the server's memory holds no controller: {error}") from error

    def _after(self, state: ControllerState, seen: list[Priced]) -> ControllerState:
        """The controller after a round; reports for another price count as spent alone."""
        expected = 0.0 if state.round == 0 else state.price
        total = SpendTotal(0, 0, 0.0, (0.0,) * _GRID.bins)
        strays_j = 0.0
        for one in seen:
            if one.price == expected:
                total += SpendTotal.of(one.report)
            else:
                strays_j += one.report.spent_j
        if state.round < self.rounds:
            grid = _OPENING if state.round == 0 else _GRID
            controller = replace(self._controller, grid=grid)
            state = controller.update(state, total, clients=self.per_round)
        return state.model_copy(update={"spent_j": state.spent_j + strays_j})

    def _cap_j(self, state: ControllerState) -> float:
        """What one client may declare next, so that the rounds after it can send something."""
        rounds = max(self.rounds - state.round, 1)
        kept_j = self.overhead_j * self.per_round * (rounds - 1)
        left_j = self._controller.remaining_j(state) - kept_j
        return min(max(left_j / self.per_round, 0.0), self._dearest_j + self._frame_j)


class _AtPrice:
    """Price mode as a selector, for one call: the budget is the cap."""

    name = "cwmp-price"

    def __init__(self, method: PriceAveraging, price: float, examples: int) -> None:
        self.costs = method.inner.costs
        self.price = price
        self.weight = float(examples)
        self.grid = method.grid_of(price)
        self.answers_for = price
        self.curve_j: tuple[float, ...] = ()

    def select(
        self, update: AnyUpdate, budget_j: float, *, generator: np.random.Generator | None = None
    ) -> Selection:
        rule = PriceSelector(self.costs)
        curve_j = rule.spend_j(update, self.grid, weight=self.weight)
        self.curve_j = tuple(np.minimum.accumulate(curve_j).tolist())
        if self.price == 0:
            budget_j = min(budget_j, self.costs.dense_j)
            return CostWeighted(self.costs).select(update, budget_j)
        return rule.keep(update, self.price, weight=self.weight, cap_j=budget_j)


def make(name: MethodName, setting: Setting) -> PriceAveraging:
    """``cwmp-price``, with any feedback.

    Raises:
        InputError: arguments.
    """
    at_most(name, 0, "cwmp-price")
    inner = SparseAveraging(
        CostWeighted(setting.costs),
        setting.budget_j,
        setting.costs,
        setting.layout,
        feedback=name.feedback,
    )
    return PriceAveraging(
        inner,
        setting.clients,
        setting.per_round,
        setting.rounds,
        setting.mean_budget_j,
        setting.dearest_j,
    )


def _message(price: float, cap_j: float) -> bytes:
    start = _MESSAGE.pack(_TOLD, _VERSION, price, cap_j)
    return start + _CRC.pack(zlib.crc32(start))


def _read_message(message: bytes) -> tuple[float, float]:
    if len(message) != _MESSAGE.size + _CRC.size:
        raise PayloadError(f"a message of {len(message)} bytes holds no price")
    start = message[: _MESSAGE.size]
    magic, version, price, cap_j = _MESSAGE.unpack(start)
    if (magic, version) != (_TOLD, _VERSION):
        raise PayloadError(f"not the price of this release: it starts with {message[:5]!r}")
    if _CRC.unpack(message[_MESSAGE.size :]) != (zlib.crc32(start),):
        raise PayloadError("the message with the price is damaged: its checksum does not match")
    if not (isfinite(price) and price > 0 and isfinite(cap_j) and cap_j >= 0):
        raise PayloadError(f"the server names a price of {price} and a cap of {cap_j} J")
    return price, cap_j


def _framed(report: SpendReport, price: float, payload: bytes) -> bytes:
    told = report.to_bytes()
    start = _UPLOAD.pack(_SENT, _VERSION, 0, len(told), price)
    return b"".join((start, _CRC.pack(zlib.crc32(told, zlib.crc32(start))), told, payload))


def _unframed(upload: Upload, controller: PriceController) -> tuple[SpendReport, float, bytes]:
    """The report, its price and the payload.

    Raises:
        PayloadError: anything that `_framed` never gives, or a report that cannot be.
    """
    data = upload.payload
    head = _UPLOAD.size + _CRC.size
    if len(data) < head:
        raise PayloadError(f"an upload of {len(data)} bytes holds no spend report")
    magic, version, zero, size, price = _UPLOAD.unpack_from(data)
    if (magic, version, zero) != (_SENT, _VERSION, 0):
        raise PayloadError(f"not an upload with a spend report: it starts with {data[:6]!r}")
    told = data[head : head + size]
    checksum = zlib.crc32(told, zlib.crc32(data[: _UPLOAD.size]))
    if len(told) != size or _CRC.unpack_from(data, _UPLOAD.size) != (checksum,):
        raise PayloadError("the spend report is cut short or damaged")
    if not (isfinite(price) and price >= 0):
        raise PayloadError(f"a spend report answers for a price of {price}")
    try:
        report = controller.check(SpendReport.from_bytes(f"client {upload.client}", told))
    except InputError as error:
        raise PayloadError(str(error)) from error
    return report, price, data[head + size :]
