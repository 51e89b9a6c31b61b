"""Profiling and training use the same number of threads."""

from __future__ import annotations

import pytest
import torch

from profiler.threads import SMALL_MODEL, thread_count, threads_for


@pytest.mark.parametrize(("parameters", "expected"), [(SMALL_MODEL - 1, 1), (SMALL_MODEL, 2)])
def test_small_models_get_one_thread_and_the_setting_is_put_back(parameters, expected):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError), threads_for(parameters):
            assert torch.get_num_threads() == thread_count(parameters) == expected
            raise RuntimeError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
