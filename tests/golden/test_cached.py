"""The forward over kept keys and values equals Fast-dLLM's, given the same window."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dream.model.attention import PackedLayout, Segments
from dream.model.cache import CachedRows, KeyValueCache
from dream.model.loader import load_model
from tests.golden.replay import DATA, cases, tensors


@pytest.mark.parametrize("window", ["prefix", "dual"])
@pytest.mark.parametrize("case", cases("fastdllm_cached_logits"), ids=lambda case: case["case"])
@torch.inference_mode()
def test_logits_of_a_window_over_kept_rows_equal_the_recorded_ones(case, window):
    model = load_model(DATA / case["checkpoint"], dtype=torch.float32, device="cpu")
    recorded = {
        name.removeprefix(f"{window}_"): values
        for name, values in tensors(case).items()
        if name.startswith(window)
    }
    length, start = recorded["ids"].shape[1], int(recorded["start"][0])
    rows = np.arange(start, start + recorded["logits"].shape[1])
    slots = np.random.default_rng(0).permutation(length + 5)[:length]
    cache = KeyValueCache(model.config, length + 5, torch.float32, torch.device("cpu"), 1)

    forward(model, cache, slots, recorded["full_ids"][0], np.arange(length))
    hidden = forward(model, cache, slots, recorded["ids"][0], rows)

    np.testing.assert_allclose(model.logits(hidden), recorded["logits"][0], atol=3e-5, rtol=0)


def forward(model, cache, slots, ids, rows) -> torch.Tensor:
    """Hidden states of these rows, which see all that is kept."""
    layout = PackedLayout(
        torch.from_numpy(rows),
        Segments.of([len(rows)], [len(slots)], torch.from_numpy),
        cached=CachedRows(cache, 0, torch.from_numpy(slots[rows]), torch.from_numpy(slots)),
    )
    return model(torch.from_numpy(ids[rows].astype(np.int64)), layout)
