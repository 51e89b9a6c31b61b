"""The method that docs/methods.md shows is found by its entry point and runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from stand_ins.setting import small_setting, small_trainer

from cwmp.fl.algorithms import build_method
from cwmp.fl.algorithms.base import ClientTask, ServerTask
from profiler.errors import InputError

PAGE = Path(__file__).parents[3] / "docs" / "methods.md"


def test_the_documented_method_runs_from_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.S)
    (tmp_path / "half.py").write_text(code)
    installed = tmp_path / "half-0.1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: half\nVersion: 0.1\n")
    (installed / "entry_points.txt").write_text("[cwmp.methods]\nhalf = half:Half\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    trainer = small_trainer(batch_size=8)
    state, setting = trainer.state(), small_setting(trainer)
    x, y = torch.randn(12, 1, 8, 8), torch.arange(12) % 10
    after = []
    for name in ("dense", "half"):
        method = build_method(name, setting)
        draws = np.random.default_rng(0), np.random.default_rng(1)
        upload = method.client(trainer, ClientTask(state, x, y, *draws))
        task = ServerTask(state, 1, np.random.default_rng(2))
        after.append(method.apply(state, method.server([method.read(upload)], task).payload))
    for name, before in state.parameters.items():
        whole, half = (moved.parameters[name] - before for moved in after)
        np.testing.assert_allclose(half, whole / 2, atol=1e-6)


def test_an_unknown_method_names_those_that_are_known() -> None:
    with pytest.raises(InputError, match=r"evofed.*kernel"):
        build_method("no-such-method", small_setting(small_trainer()))
