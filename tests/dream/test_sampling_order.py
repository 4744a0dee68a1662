"""Choosing without replacement by alg_temp, and ties of saturated confidences."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from itertools import permutations

import numpy as np
import torch

from dream import Engine, EngineConfig, Fixed, Hole, Request, SamplingParams, Template
from dream.engine.batch import first_of_each
from dream.engine.groups import rank_terms
from dream.remasking import STRATEGIES, stable_order
from dream.sampling import RowParams, sample
from tests.models import golden_model, request


def test_equal_confidences_of_the_published_instruct_settings_commit_left_to_right():
    """T .1 and top_p .9 leave one token a row: every score is exactly 0, so order is by ties."""
    peaked = torch.full((12, 600), -4.0)
    peaked[torch.arange(12), torch.arange(12) * 7] = 4.0 + torch.arange(12) % 3
    params = RowParams(
        temperature_N=torch.full((12,), 0.1),
        uniform_N=torch.full((12,), 0.5, dtype=torch.float64),
        top_p_N=torch.full((12,), 0.9),
        top_k_N=torch.full((12,), 600),
    )

    scores = sample(peaked, params, STRATEGIES["entropy"].score, 128).scores_N

    assert (scores == 0).all()
    rows = stable_order(scores.double(), torch.zeros(12, dtype=torch.int64))[
        first_of_each([12], [4])
    ]
    assert rows.tolist() == [0, 1, 2, 3]


def test_an_engine_whose_confidences_all_tie_fills_from_the_left():
    """A model that is sure of everything: its head is scaled until every score saturates."""
    model = deepcopy(golden_model())
    model.lm_head.weight.mul_(1e4)
    engine = Engine(model, None, EngineConfig(parity=True))

    engine.add(request("a", [[1, 2, 3], 12], steps=12, temperature=0.1, top_p=0.9))
    events = [event for _ in range(11) for event in engine.step()]

    order = [position for event in events for position in event.positions]
    assert order == list(range(3, 15))


def test_alg_temp_draws_positions_without_replacement_from_the_softmax_of_scores():
    scores = np.array([0.9, 0.5, 0.1])
    alg_temp, trials = 0.5, 6000
    weights = np.exp(scores / alg_temp)
    found: Counter[tuple[int, ...]] = Counter()
    for seed in range(trials):
        scale, shift = rank_terms(canvas_of(seed, alg_temp))
        ranks = torch.from_numpy(scores * scale + shift)
        found[
            tuple(
                stable_order(ranks, torch.zeros(3, dtype=torch.int64))[
                    first_of_each([3], [2])
                ].tolist()
            )
        ] += 1

    for first, second in permutations(range(3), 2):
        left = weights.sum() - weights[first]
        expected = weights[first] / weights.sum() * weights[second] / left
        assert abs(found[first, second] / trials - expected) < 0.025


def canvas_of(seed: int, alg_temp: float):
    from dream.canvas import Canvas

    wanted = Request(
        id="x",
        template=Template([Fixed([1]), Hole(3)]),
        params=SamplingParams(steps=3, alg_temp=alg_temp, seed=seed),
    )
    return Canvas(wanted, STRATEGIES["entropy"].plan, mask_id=501, eos_ids=frozenset([500]))
