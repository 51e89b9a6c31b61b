"""SP-FL: what arrives when which packet is lost, and what arrives on average."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stand_ins.setting import small_setting, small_trainer

from cwmp.fl.algorithms import build_method
from cwmp.fl.algorithms.base import ClientTask, ServerTask, Upload
from cwmp.fl.algorithms.envelope import Kind, pack
from cwmp.fl.algorithms.spfl import SignPrioritized
from cwmp.fl.training import ModelState
from cwmp.payload import DecodedPayload, PayloadLayout
from cwmp.selectors.costs import SelectionCosts
from profiler.errors import InputError, PayloadError

LAYOUT = PayloadLayout({"a": (40, 5), "b": (33,)})
COSTS = SelectionCosts.linear(dict(LAYOUT.layers), {"a": 1.0, "b": 1.0})


def _change(seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        name: generator.normal(scale=1e-3, size=shape).astype(np.float32)
        for name, shape in LAYOUT.layers.items()
    }


def _upload(change: dict[str, np.ndarray], examples: int = 5, client: int = 0) -> Upload:
    payload = SignPrioritized(COSTS, LAYOUT).written(change, {})
    return Upload(payload, examples, (), 0.0, client=client)


def _arrived(payload: DecodedPayload, name: str) -> np.ndarray:
    found = [layer.values for layer in payload.layers if layer.name == name]
    return found[0] if found else np.zeros(np.prod(LAYOUT.layers[name]), np.float32)


def _across(method: SignPrioritized, channel: int = 0) -> DecodedPayload:
    return method.across(method.read(_upload(_change())), channel)


def test_without_loss_the_update_arrives_up_to_its_quantisation() -> None:
    """float16 shares of the largest modulus: half a unit in the last of 11 bits."""
    payload = _across(SignPrioritized(COSTS, LAYOUT, 0, 0))
    for name, values in _change().items():
        error = np.abs(_arrived(payload, name) - values.ravel())
        assert (error <= np.abs(values).ravel() * 2.0**-10.9 + np.abs(values).max() * 1e-7).all()


def test_with_every_modulus_lost_signs_arrive_times_the_mean_modulus() -> None:
    payload = _across(SignPrioritized(COSTS, LAYOUT, 0, 1))
    for name, values in _change().items():
        expected = np.where(values >= 0, 1, -1).ravel() * np.abs(values).mean()
        np.testing.assert_allclose(_arrived(payload, name), expected, rtol=1e-6)


def test_with_every_sign_lost_nothing_arrives_and_the_model_stays() -> None:
    method = SignPrioritized(COSTS, LAYOUT, 1, 0)
    assert _across(method).layers == ()
    state = ModelState({n: np.ones(s, np.float32) for n, s in LAYOUT.layers.items()}, {})
    task = ServerTask(state, 1, np.random.default_rng(0))
    after = method.apply(state, method.server([method.read(_upload(_change()))], task).payload)
    for name, values in state.parameters.items():
        np.testing.assert_array_equal(after.parameters[name], values)


@pytest.mark.parametrize(("sign_loss", "modulus_loss"), [(0.1, 0.1), (0.3, 0.5), (0.0, 0.7)])
def test_what_arrives_on_average(sign_loss: float, modulus_loss: float) -> None:
    """E = (1 - p) [(1 - r) s |d|_q + r s mbar], by Monte Carlo over channels."""
    method, draws = SignPrioritized(COSTS, LAYOUT, sign_loss, modulus_loss), 4000
    reading = method.read(_upload(_change()))
    packets, _ = reading.content
    arrived = [method.across(reading, channel) for channel in range(draws)]
    for name in LAYOUT.layers:
        signs, mean, moduli = packets[name]
        average = sum(_arrived(payload, name).astype(np.float64) for payload in arrived) / draws
        expected = (1 - sign_loss) * signs * ((1 - modulus_loss) * moduli + modulus_loss * mean)
        largest = np.maximum(moduli, mean)
        assert (np.abs(average - expected) <= 4 * largest * 0.5 / np.sqrt(draws) + 1e-9).all()


def test_the_channel_is_the_same_for_equal_seeds_and_does_not_depend_on_who_else_came() -> None:
    method = SignPrioritized(COSTS, LAYOUT, 0.5, 0.5)
    readings = [method.read(_upload(_change(seed), client=seed)) for seed in range(6)]
    fates = [
        tuple(layer.name for layer in method.across(reading, 11).layers) for reading in readings
    ]
    again = [
        tuple(layer.name for layer in method.across(reading, 11).layers)
        for reading in reversed(readings)
    ]
    assert fates == again[::-1]
    assert len(set(fates)) > 1
    state = ModelState({n: np.zeros(s, np.float32) for n, s in LAYOUT.layers.items()}, {})

    def payload(seed: int) -> bytes:
        return method.server(readings, ServerTask(state, 1, np.random.default_rng(seed))).payload

    assert payload(3) == payload(3)
    assert payload(3) != payload(4)


def test_without_loss_it_is_dense_averaging_up_to_the_quantisation() -> None:
    torch.set_num_threads(1)
    trainer = small_trainer(batch_size=8)
    state, setting = trainer.state(), small_setting(trainer)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(24, 1, 8, 8)).astype(np.float32))
    y = torch.arange(24) % 10
    after = []
    for name in ("dense", "spfl:0"):
        method = build_method(name, setting)
        uploads = [
            method.client(
                trainer,
                ClientTask(
                    state, x[part], y[part], np.random.default_rng(1), np.random.default_rng(2)
                ),
            )
            for part in (slice(0, 8), slice(8, 24))
        ]
        task = ServerTask(state, 1, np.random.default_rng(0))
        download = method.server(map(method.read, uploads), task)
        after.append(method.apply(state, download.payload))
    for name, before in state.parameters.items():
        moved = np.abs(after[0].parameters[name] - before).max()
        error = np.abs(after[0].parameters[name] - after[1].parameters[name]).max()
        assert moved > 0
        assert error <= moved * 2.0**-9


def test_a_sign_takes_a_bit_and_a_modulus_two_bytes() -> None:
    (a, b), (n_a, n_b) = LAYOUT.layers, LAYOUT.sizes
    assert (a, b) == ("a", "b")
    expected = 20 + sum(8 + (n + 7) // 8 + 2 * n for n in (n_a, n_b))
    assert len(_upload(_change()).payload) == expected


def test_an_update_of_zeros_arrives_as_zeros() -> None:
    method = SignPrioritized(COSTS, LAYOUT, 0, 0)
    zeros = {name: np.zeros(shape, np.float32) for name, shape in LAYOUT.layers.items()}
    payload = method.across(method.read(_upload(zeros)), 0)
    assert not any(_arrived(payload, name).any() for name in LAYOUT.layers)


@pytest.mark.parametrize("share", [-0.5, 1.5])
def test_moduli_out_of_range_are_refused(share: float) -> None:
    method = SignPrioritized(COSTS, LAYOUT)
    body = bytearray(_upload(_change()).payload[20:])
    body[-2:] = np.float16(share).tobytes()
    upload = Upload(pack(Kind.PACKETS, LAYOUT, bytes(body)), 1, (), 0.0)
    with pytest.raises(PayloadError, match="moduli"):
        method.read(upload)


@pytest.mark.parametrize("name", ["spfl:1.1", "spfl:0.1,-1", "spfl:0,0,0", "spfl+ef"])
def test_arguments_that_make_no_sense_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        build_method(name, small_setting(small_trainer()))
