"""Log-probabilities along the official loop's trajectories, beside its logits at each canvas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dream import Engine, EngineConfig
from dream.model.attention import PackedLayout
from tests.golden.replay import DATA, Replay, cases, play, replays
from tests.laws.reference import run
from tests.models import golden_model

TRAJECTORIES = [case for case in cases("generate", "infill") if case["params"]["alg"] != "origin"]


@torch.inference_mode()
def official_log_probs(checkpoint: str, canvas: np.ndarray) -> torch.Tensor:
    """Of each position: the row before it predicts it, and no id is left out."""
    model = golden_model(checkpoint)
    ids = torch.from_numpy(canvas)
    logits = model.logits(model(ids, PackedLayout.of([len(ids)], "cpu")))
    return torch.cat([logits[:1], logits[:-1]]).double().log_softmax(-1)


def frames(row: Replay) -> np.ndarray:
    """The canvas that each step found."""
    return np.concatenate([row.canvas[None], row.history[:-1]])


@pytest.mark.parametrize("case", TRAJECTORIES, ids=lambda case: case["case"])
def test_parity_tells_the_log_probabilities_of_the_official_loops_tokens(case):
    engine = Engine.from_pretrained(DATA / case["checkpoint"], EngineConfig(parity=True))
    for row in replays(case):
        events, _ = run(engine, replace(row.request, logprobs=2))

        own = events[row.request.id]
        np.testing.assert_array_equal(play(row.canvas, own, len(row.history)), row.history)
        found = frames(row)
        for event in own:
            raw = official_log_probs(case["checkpoint"], found[event.step])[event.positions]
            chosen = raw[range(len(raw)), event.token_ids].tolist()
            assert [one.logprob for one in event.logprobs] == pytest.approx(chosen, abs=1e-5)
            tops = raw.topk(2).values.flatten().tolist()
            told = [value for one in event.logprobs for _, value in one.top]
            assert told == pytest.approx(tops, abs=1e-5)
