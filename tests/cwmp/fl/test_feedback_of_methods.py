"""What is not sent waits: error feedback, its step ahead, and the methods that keep their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from stand_ins.federations import small_data, small_job
from stand_ins.given_updates import (
    SHAPES,
    GivenTrainer,
    Update,
    arrived,
    follow,
    linear,
    method_of,
    priced,
    updates,
)

from cwmp.fl.engines.base import Standing
from cwmp.fl.engines.local import LocalEngine
from profiler.errors import InputError

TAKE_FEEDBACK = ("topk", "topk:tensor", "random", "cwmp", "cwmp:1,1", "cwmp:marginal", "prunefl")
KEEP_THEIR_OWN = ("dgc", "hard", "atomo", "atomo:svd")


def _total(given: list[Update]) -> dict[str, np.ndarray]:
    return {name: sum(u[name].astype(np.float64) for u in given) for name in SHAPES}


@pytest.mark.parametrize("costs", [linear(), priced()], ids=["linear", "priced"])
@pytest.mark.parametrize("name", [*TAKE_FEEDBACK, "dgc:0", "hard", "hard:0.02"])
def test_what_was_sent_and_what_waits_is_what_was_done(name: str, costs) -> None:
    """sum of sent + e = sum of g, whatever the rule."""
    own = name.startswith(("dgc", "hard"))
    method = method_of(name if own else f"{name}+ef", costs, share=0.5)
    given = updates(6)
    done = follow(method, given)
    sent = [arrived(method, upload) for upload in done.uploads]
    for layer, expected in _total(given).items():
        waits = done.memories[-1][f"waiting.{layer}" if own else layer]
        found = sum(one[layer] for one in sent) + waits
        np.testing.assert_allclose(found, expected, atol=1e-7)
    assert any(upload.payload != done.uploads[0].payload for upload in done.uploads)


@pytest.mark.parametrize("name", TAKE_FEEDBACK)
def test_a_step_of_nothing_is_error_feedback(name: str) -> None:
    """SA-PEF with alpha = 0, bit for bit."""
    given = updates(4)
    plain = follow(method_of(f"{name}+ef", priced()), given)
    ahead = follow(method_of(f"{name}+sapef:0", priced()), given)
    assert [u.payload for u in plain.uploads] == [u.payload for u in ahead.uploads]
    for one, other in zip(plain.memories, ahead.memories, strict=True):
        for layer in SHAPES:
            np.testing.assert_array_equal(one[layer], other[layer])


@pytest.mark.parametrize(("feedback", "alpha"), [("sapef:0.85", 0.85), ("saef", 1.0), ("ef", 0.0)])
@pytest.mark.parametrize("name", TAKE_FEEDBACK)
def test_training_starts_ahead_by_alpha_of_what_waits(
    name: str, feedback: str, alpha: float
) -> None:
    """w~ = w + alpha e, and u = (w~_T - w) + (1 - alpha) e, of which u - C(u) waits."""
    given = updates(4)
    method = method_of(f"{name}+{feedback}", priced())
    done = follow(method, given)
    waits = {layer: np.zeros(shape) for layer, shape in SHAPES.items()}
    for number, start in enumerate(done.starts):
        sent = arrived(method, done.uploads[number])
        for layer in SHAPES:
            np.testing.assert_allclose(start.parameters[layer], alpha * waits[layer], atol=1e-8)
            trained = start.parameters[layer] + given[number][layer]
            u = trained - 0.0 + (1 - alpha) * waits[layer]
            waits[layer] = u - sent[layer]
            np.testing.assert_allclose(done.memories[number][layer], waits[layer], atol=1e-7)
    assert any(np.abs(array).max() > 0 for array in waits.values())


@pytest.mark.parametrize("name", ["topk", "cwmp", "topk:tensor"])
def test_a_lone_client_a_whole_step_ahead_trains_as_if_all_were_sent(
    name: str, tmp_path: Path
) -> None:
    """With one client and alpha = 1, w + e is what the dense run has, whatever is sent."""
    torch.set_num_threads(1)
    ends = []
    for method, budget in ((f"{name}+saef", "20%"), ("dense", "100%")):
        job = small_job(
            tmp_path, method=method, budget=budget, clients=1, rounds=4, batch_size=8, lr=0.005
        )
        prepared = job.prepare(small_data(60))
        kept: list[Standing] = []
        list(LocalEngine().run(prepared.federation, prepared.team, keep=kept.append))
        ends.append(kept[-1])
    for layer, dense in ends[1].state.parameters.items():
        ahead = ends[0].state.parameters[layer] + ends[0].memories[0][layer]
        np.testing.assert_allclose(ahead, dense, atol=2e-5)
    assert any(np.abs(waits).max() > 1e-3 for waits in ends[0].memories[0].values())


def test_without_feedback_nothing_waits() -> None:
    assert all(not memory for memory in follow(method_of("topk", priced()), updates(2)).memories)


@pytest.mark.parametrize("feedback", ["ef", "saef", "sapef:0.5"])
@pytest.mark.parametrize("name", KEEP_THEIR_OWN)
def test_methods_with_a_memory_of_their_own_refuse_feedback(name: str, feedback: str) -> None:
    with pytest.raises(InputError, match="takes no feedback"):
        method_of(f"{name}+{feedback}", priced())


def test_fp16_keeps_what_rounding_loses() -> None:
    method = method_of("dense:fp16+ef", priced(), share=1.0)
    given = updates(3)
    done = follow(method, given)
    sent = [arrived(method, upload) for upload in done.uploads]
    for layer, expected in _total(given).items():
        found = sum(one[layer] for one in sent) + done.memories[-1][layer]
        np.testing.assert_allclose(found, expected, atol=1e-8)
        assert 0 < np.abs(done.memories[-1][layer]).max() < 0.05 * 2**-11


def test_a_trainer_of_given_updates_gives_them_in_order() -> None:
    given = updates(2)
    trainer = GivenTrainer(given)
    for update in given:
        result = trainer.train(None)  # type: ignore[arg-type]
        np.testing.assert_array_equal(result.delta["a"], update["a"])
