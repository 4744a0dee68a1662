"""Logits, hidden states, sampling filters and timetables of the official code."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from dream.model.attention import PackedLayout
from dream.model.loader import load_model
from dream.remasking import STRATEGIES
from dream.sampling import RowParams
from dream.timetable import commit_counts
from tests.golden.replay import DATA, cases, tensors
from tests.models import whole_sample


@pytest.fixture(scope="module")
def models():
    names = ("ckpt_a", "ckpt_b")
    return {n: load_model(DATA / n, dtype=torch.float32, device="cpu") for n in names}


@pytest.mark.parametrize("case", cases("logits"), ids=lambda case: case["case"])
@torch.inference_mode()
def test_logits_of_packed_rows_equal_the_padded_official_ones(case, models):
    model, recorded = models[case["checkpoint"]], tensors(case)
    keep = recorded["attention_mask"].astype(bool)
    rows = [ids[mask] for ids, mask in zip(recorded["input_ids"], keep, strict=True)]
    packed = torch.from_numpy(np.concatenate(rows)).long()

    logits = model.logits(model(packed, PackedLayout.of([len(row) for row in rows], "cpu")))

    np.testing.assert_allclose(logits.numpy(), recorded["logits"][keep], atol=3e-5, rtol=0)


@pytest.mark.parametrize("case", cases("hidden_states"), ids=lambda case: case["case"])
@torch.inference_mode()
def test_hidden_states_equal_the_official_ones(case, models):
    model, recorded = models[case["checkpoint"]], tensors(case)
    states = []
    hooks = [
        block.register_forward_pre_hook(lambda _, args: states.append(args[0]))
        for block in model.model.layers
    ]
    ids = torch.from_numpy(recorded["input_ids"][0]).long()

    last = model(ids, PackedLayout.of([len(ids)], "cpu"))

    for hook in hooks:
        hook.remove()
    found = torch.stack([*states, model.model.norm(last)])
    np.testing.assert_allclose(found.numpy(), recorded["hidden_states"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", cases("sampling_filter"), ids=lambda case: case["case"])
def test_filtered_distributions_equal_the_official_ones(case):
    recorded, params = tensors(case), case["params"]
    logits = torch.from_numpy(recorded["logits"])
    rows, vocabulary = logits.shape
    row_params = RowParams(
        temperature_N=torch.full((rows,), params["temperature"]) if params["temperature"] else None,
        top_p_N=torch.full((rows,), 1.0 if params["top_p"] is None else params["top_p"]),
        top_k_N=torch.full((rows,), params["top_k"] or vocabulary),
    )

    found = {alg: whole_sample(logits, row_params, STRATEGIES[alg].score) for alg in STRATEGIES}

    # Our scores are float32 whatever the model's dtype, so bfloat16 cases can only be near.
    is_exact = params["dtype"] == "float32"
    drawn = found["maskgit_plus"]
    if is_exact and "ties" not in case["case"]:
        np.testing.assert_array_equal(drawn.token_ids_N.numpy(), recorded["argmax"])
    expected = {"maskgit_plus": "top1_prob", "topk_margin": "margin", "entropy": "neg_entropy"}
    for alg, name in expected.items():
        tolerance = (1e-5 if alg == "entropy" else 1e-6) if is_exact else 0.05
        np.testing.assert_allclose(
            found[alg].scores_N.numpy(), recorded[name], atol=tolerance, rtol=0
        )


def test_timetables_equal_the_official_ones():
    for entry in json.loads((DATA / "schedule.json").read_text()):
        counts = dict(commit_counts(entry["n"], entry["steps"], entry["eps"]))

        assert [counts.get(step, 0) for step in range(entry["steps"])] == entry["per_step"]
