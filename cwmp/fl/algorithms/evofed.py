"""EvoFed: clients send how near each member of a shared population is to what they trained.

Rahimi et al., NeurIPS 2023. Everybody draws the same P perturbations from seed and round::

    client   f_i = -||theta + eps_i - theta'||^2      theta' after local SGD, eps_i ~ N(0, s^2 I)
    server   F_i = sum_j w_j f_ij                     w_j = n_j / sum n
    everyone theta <- theta + eta / (P s) sum_i F_i eps_i

Known of the paper: fitness is a negative distance, P values go up and P come down, the top
ones alone may be sent. Chosen here:

* Distance squared, without what everybody can compute or that is the same for all members:
  f_i = 2 eps_i . (theta' - theta), minus its mean over the population (so sum_i f_i = 0, which
  keeps a constant from moving the model). ||eps_i||^2 would be noise as large as the signal
  unless s is far below ||theta' - theta|| / sqrt(n).
* eta = m / (2 s): with m = 1, the default, the expected step is the true update (E[eps eps'] =
  s^2 I), and its squared norm (P + n + 1) / P times the update's: right on average and noisy, so
  that a small P on a large model diverges. A smaller m is steadier and slower: m =
  sqrt(P / (P + n + 1)) makes a step as long as the update, and m = P / (P + n + 1) has the least
  expected squared error. No m suits every problem: a study has to name its own, and
  docs/methods.md shows what some did on digits.
* s scales out but for rounding; 0.01 by default.
* Where the budget does not pay for P values, the k of largest |f_i| go up with a bitmap. The
  receivers' update is dense whatever k is and not within the budget, so that EvoFed is compared on
  cumulative joules, not at equal joules a round.

Noise is never sent and never held: one perturbation at a time, memory of two models. Drawing
it costs P n normal numbers twice a round and client; the ledger has no price for that, so
EvoFed's client joules are a lower bound here. Buffers travel whole, as with every method.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

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
    FRAME_BYTES,
    Kind,
    affordable_bytes,
    bits_of,
    buffers_of,
    counted,
    numbers,
    pack,
    unpack,
    values_of,
)
from cwmp.fl.algorithms.setting import MethodName, Setting
from cwmp.fl.training import Arrays, ModelState, Trainer
from cwmp.payload import PayloadLayout
from profiler.errors import BudgetError, InputError, PayloadError

_STREAM = 0xE70
_COUNTS = 12
MAX_POPULATION = 1_000_000


@dataclass(frozen=True, slots=True)
class Population:
    """P perturbations that anyone with the seed can draw again.

    Attributes:
        layout: the model's layers, in whose order the entries of a perturbation stand.
        seed: of the run.
        members: P.
        sigma: the standard deviation of each entry.
    """

    layout: PayloadLayout
    seed: int
    members: int
    sigma: float

    @property
    def entries(self) -> int:
        """n, the model's parameters."""
        return sum(self.layout.sizes)

    def member(self, round_number: int, number: int) -> NDArray[np.float32]:
        """eps_i of a round; shape (n,)."""
        generator = np.random.default_rng([self.seed, round_number, number, _STREAM])
        noise: NDArray[np.float32] = generator.standard_normal(self.entries, dtype=np.float32)
        noise *= np.float32(self.sigma)
        return noise

    def fitness(self, round_number: int, change: Arrays) -> NDArray[np.float32]:
        """f_i = 2 eps_i . change, less their mean; shape (P,)."""
        flat = np.concatenate([change[name].reshape(-1) for name in self.layout.names])
        found = np.array(
            [2 * float(eps @ flat) for eps in self._all(round_number)], dtype=np.float64
        )
        found -= found.mean()
        return found.astype(np.float32)

    def combine(self, round_number: int, weights: NDArray[np.float32]) -> Arrays:
        """sum_i w_i eps_i, by layer; bit-equal wherever it is computed."""
        total = np.zeros(self.entries, dtype=np.float32)
        for weight, eps in zip(weights, self._all(round_number), strict=True):
            if weight:
                total += np.multiply(eps, weight, out=eps)
        parts, start = {}, 0
        for name, size in zip(self.layout.names, self.layout.sizes, strict=True):
            parts[name] = total[start : start + size].reshape(self.layout.layers[name])
            start += size
        return parts

    def _all(self, round_number: int) -> Iterator[NDArray[np.float32]]:
        return (self.member(round_number, number) for number in range(self.members))


@dataclass(frozen=True)
class EvoFed:
    """Averaging of fitness values over a shared population.

    Attributes:
        population: what everybody draws.
        rate: m, the factor of the unbiased step.
        kept: fitness values that a client sends, at most P.
    """

    population: Population
    rate: float
    kept: int

    @property
    def track(self) -> Track:
        return "shared"

    @property
    def layout(self) -> PayloadLayout:
        return self.population.layout

    def client(self, trainer: Trainer, task: ClientTask) -> Upload:
        local = trainer.train(task.state, task.x, task.y, task.order, lr_factor=task.lr_factor)
        fitness = self.population.fitness(task.round, local.delta)
        return Upload(
            payload=self._written(task.round, _largest(fitness, self.kept), local.buffers),
            examples=len(task.y),
            batches=local.batches,
            loss=local.loss,
            client=task.client,
        )

    def read(self, upload: Upload) -> Reading:
        round_number, fitness, buffers = self._read(upload.payload)
        if upload.round and round_number != upload.round:
            raise PayloadError(
                f"fitness over the population of round {round_number} came in round {upload.round}"
            )
        # fitness has variance 4 s^2 ||d||^2 over the population
        spread = float(np.sqrt(np.square(fitness, dtype=np.float64).mean()))
        norm = spread / (2 * self.population.sigma)
        content = (round_number, fitness, buffers)
        return Reading(upload.client, counted(upload.examples), (), content, norm, buffers)

    def server(self, readings: Iterable[Reading], task: ServerTask) -> Download:
        total = np.zeros(self.population.members)
        means = {name: np.zeros(shape) for name, shape in self.layout.buffers.items()}
        examples = 0
        for reading in readings:
            _, fitness, buffers = reading.content
            examples += reading.examples
            total += reading.examples * fitness.astype(np.float64)
            for name, values in buffers.items():
                means[name] += reading.examples * values.astype(np.float64)
        if not examples:
            raise InputError("no update arrived: there is nothing to average")
        averaged = {name: (sums / examples).astype(np.float32) for name, sums in means.items()}
        payload = self._written(task.round, (total / examples).astype(np.float32), averaged)
        touched = (
            Touch(name, size, "dense")
            for name, size in zip(self.layout.names, self.layout.sizes, strict=True)
        )
        return Download(payload, tuple(touched))

    def apply(self, state: ModelState, payload: bytes) -> ModelState:
        round_number, fitness, buffers = self._read(payload)
        sigma = self.population.sigma
        step = np.float32(self.rate / (2 * sigma) / (self.population.members * sigma))
        moved = self.population.combine(round_number, fitness * step)
        parameters = {name: values + moved[name] for name, values in state.parameters.items()}
        return replace(state, parameters=parameters, buffers={**state.buffers, **buffers})

    def _written(self, round_number: int, fitness: NDArray[np.float32], buffers: Arrays) -> bytes:
        """round u32, P u32, k u32, bitmap where k < P, k float32 values, buffers."""
        sent = fitness != 0
        k = int(sent.sum())
        if _COUNTS + (fitness.size + 7) // 8 + 4 * k >= _COUNTS + 4 * fitness.size:
            sent[:], k = True, fitness.size
        counts = np.array([round_number, fitness.size, k], dtype="<u4").tobytes()
        where = b"" if k == fitness.size else bits_of(sent)
        values = values_of(fitness[sent], "<f4", "the fitness values")
        body = counts + where + values + buffers_of(self.layout, buffers)
        return pack(Kind.FITNESS, self.layout, body)

    def _read(self, payload: bytes) -> tuple[int, NDArray[np.float32], Arrays]:
        body = unpack(Kind.FITNESS, self.layout, payload)
        round_number, members, k = body.integers(3)
        if members != self.population.members or k > members:
            raise PayloadError(
                f"{k} fitness values of a population of {members}, which has "
                f"{self.population.members}"
            )
        sent = np.ones(members, dtype=np.bool_) if k == members else body.bits(members)
        if int(sent.sum()) != k:
            raise PayloadError(f"a bitmap of {int(sent.sum())} for {k} fitness values")
        fitness = np.zeros(members, dtype=np.float32)
        fitness[sent] = body.values(k, "<f4", "the fitness values")
        return round_number, fitness, body.buffers()


def _largest(fitness: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """*fitness* with all but the *count* of largest magnitude set to 0; of equals the first."""
    if count >= fitness.size:
        return fitness
    order = np.argsort(-np.abs(fitness), kind="stable")
    kept = fitness.copy()
    kept[order[count:]] = 0
    return kept


def make(name: MethodName, setting: Setting) -> EvoFed:
    """``evofed[:POPULATION,SIGMA,RATE]``.

    Raises:
        InputError: arguments it does not take.
        BudgetError: the budget does not pay for one fitness value.
    """
    members, sigma, rate = numbers(name, "evofed:POPULATION,SIGMA,RATE", (128.0, 0.01, 1.0))
    if not 1 < members <= MAX_POPULATION or members != int(members) or sigma <= 0:
        raise InputError(
            f"evofed needs a whole population of 2 to {MAX_POPULATION} and a positive sigma: {name}"
        )
    if not rate > 0:
        raise InputError(f"evofed needs a positive rate, 1 for the unbiased step: {name}")
    population = Population(setting.layout, setting.seed, int(members), sigma)
    return EvoFed(population, rate, _affordable(population, setting))


def _affordable(population: Population, setting: Setting) -> int:
    """How many fitness values the budget pays for, at most P."""
    buffers = 4 * sum(prod(shape) for shape in setting.layout.buffers.values())
    left = affordable_bytes(setting) - FRAME_BYTES - _COUNTS - buffers
    members = population.members
    if left >= 4 * members:
        return members
    kept = int((left - (members + 7) // 8) // 4)
    if kept < 1:
        raise BudgetError(
            f"infeasible: the budget of {setting.budget_j:.4g} J does not pay for one fitness "
            f"value of {members}"
        )
    return kept
