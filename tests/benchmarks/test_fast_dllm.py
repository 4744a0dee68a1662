"""Our copy of Fast-dLLM's rules fills what the published code filled, pass by pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.fast_dllm import Cache, MasksLeft, fill_blocks, fill_threshold
from dream.model.attention import PackedLayout
from tests.golden.replay import cases, tensors
from tests.models import MASK, golden_model


def prompt_of(recorded):
    return recorded["input_ids"][0].tolist()


def run_blocks(case, recorded):
    params = case["params"]
    return fill_blocks(
        golden_model(case["checkpoint"]),
        prompt_of(recorded),
        max_new_tokens=params["max_new_tokens"],
        block_length=params["block_length"],
        cache="dual" if params["dual_cache"] else "prefix",
        threshold=params["threshold"],
        steps=params["steps"],
        eps=params["eps"],
    )


class StubbornModel:
    """A golden model that predicts one token above all others at every row."""

    def __init__(self, token):
        self.config, self.model, self.token = golden_model().config, golden_model().model, token

    def logits(self, hidden):
        logits = golden_model().logits(hidden)
        logits[:, self.token] = 100.0
        return logits


@pytest.mark.parametrize("case", cases("fastdllm_threshold_nocache"), ids=lambda c: c["case"])
def test_threshold_without_cache_fills_what_the_published_loop_does(case):
    recorded, params = tensors(case), case["params"]

    filled = fill_threshold(
        golden_model(case["checkpoint"]),
        prompt_of(recorded),
        max_new_tokens=params["max_new_tokens"],
        steps=params["steps"],
        threshold=params["threshold"],
    )

    frames = [*(done.canvas for done in filled.passes[1:]), filled.token_ids]
    np.testing.assert_array_equal(frames, recorded["history"][:, 0])
    np.testing.assert_array_equal(filled.token_ids, recorded["sequences"][0])


@pytest.mark.parametrize("case", cases("fastdllm_block_cache"), ids=lambda c: c["case"])
def test_blocks_with_cache_fill_what_the_published_loop_does(case):
    recorded = tensors(case)

    filled = run_blocks(case, recorded)

    before = [done.canvas for done in filled.passes]
    np.testing.assert_array_equal(before, recorded["states_before_each_forward"])
    np.testing.assert_array_equal(filled.token_ids, recorded["sequences"][0])


@pytest.mark.parametrize("case", cases("fastdllm_block_cache"), ids=lambda c: c["case"])
def test_forwards_and_the_rows_they_ran_are_counted(case):
    recorded = tensors(case)

    filled = run_blocks(case, recorded)

    assert [done.start for done in filled.passes] == recorded["forward_start"].tolist()
    assert [done.rows for done in filled.passes] == recorded["forward_len"].tolist()
    assert filled.forward_passes == case["forward_passes"]
    assert filled.token_forwards == recorded["forward_len"].sum()


@pytest.mark.parametrize("mode", ["prefix", "dual"])
@pytest.mark.parametrize("case", cases("fastdllm_cached_logits"), ids=lambda c: c["case"])
def test_cached_logits_equal_the_published_ones(case, mode):
    recorded = {name.removeprefix(f"{mode}_"): part for name, part in tensors(case).items()}
    full, ids = (torch.from_numpy(recorded[name][0]).long() for name in ("full_ids", "ids"))
    start, rows = int(recorded["start"][0]), recorded["logits"].shape[1]
    cache = Cache(golden_model(case["checkpoint"]), len(full))

    cache.forward(full, 0)
    logits = cache.forward(ids[start : start + rows], start)

    np.testing.assert_allclose(logits.numpy(), recorded["logits"][0], atol=3e-5, rtol=0)


def test_a_full_forward_gives_the_logits_of_the_packed_one():
    model, ids = golden_model(), torch.arange(40)

    logits = Cache(model, 40).forward(ids, 0)

    with torch.inference_mode():
        expected = model.logits(model(ids, PackedLayout.of([40], "cpu")))
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("cache", ["prefix", "dual"])
@pytest.mark.parametrize("threshold", [0.9, None])
def test_a_model_that_predicts_masks_ends_in_an_error_and_no_endless_loop(cache, threshold):
    shape = {"max_new_tokens": 8, "block_length": 4, "steps": 8}

    with pytest.raises(MasksLeft):
        fill_blocks(StubbornModel(MASK), [1, 2], cache=cache, threshold=threshold, **shape)


def test_without_a_cache_too_masks_that_are_left_are_an_error():
    with pytest.raises(MasksLeft, match="8 masks are left after 2 passes"):
        fill_threshold(StubbornModel(MASK), [1, 2], max_new_tokens=8, steps=2, threshold=0.9)


def test_one_pass_a_block_by_timetable_leaves_masks_which_is_an_error():
    shape = {"max_new_tokens": 8, "block_length": 4, "steps": 2}

    with pytest.raises(MasksLeft, match="masks are left"):
        fill_blocks(golden_model(), [1, 2], cache="dual", threshold=None, **shape)


def test_certain_tokens_fill_a_block_in_two_forwards():
    shape = {"max_new_tokens": 8, "block_length": 4, "steps": 8}

    filled = fill_blocks(StubbornModel(7), [1, 2], cache="dual", threshold=0.9, **shape)

    assert filled.token_ids == (1, 2, *[7] * 8)
    assert [(done.start, done.rows) for done in filled.passes] == [(0, 10), (2, 4), (0, 10), (6, 4)]


@pytest.mark.parametrize(("block", "steps"), [(3, 8), (4, 7)])
def test_lengths_that_do_not_divide_are_refused(block, steps):
    shape = {"max_new_tokens": 8, "block_length": block, "steps": steps}

    with pytest.raises(ValueError, match="not in blocks"):
        fill_blocks(golden_model(), [1, 2], cache="dual", threshold=0.9, **shape)
