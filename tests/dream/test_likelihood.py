"""The likelihood estimate: the published rule, its exact expectation, and its errors."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from dream import InvalidRequest
from dream.errors import ContextLengthExceeded, EngineError
from dream.likelihood import (
    LikelihoodParams,
    draw_noise,
    estimate_log_likelihood,
    scored_positions,
)
from dream.model.attention import PackedLayout
from tests.models import EOS, MASK, VOCAB, golden_engine, golden_model

PREFIX = [17, 400, 3, 88]
TARGET = [9, 250, 31, EOS]


def loss_table(prefix, target):
    """For every mask over the scored positions: the cross-entropy of each, one forward a mask."""
    ids = [*prefix, *target]
    scored = list(scored_positions(len(prefix), len(target)))
    table = {}
    for mask in product([False, True], repeat=len(scored)):
        noisy = torch.tensor(ids)
        for position, is_masked in zip(scored, mask, strict=True):
            if is_masked:
                noisy[position] = MASK
        model = golden_model()
        logits = model.logits(model(noisy, PackedLayout.of([len(ids)], "cpu"))).double()
        shifted = torch.cat([logits[:1], logits[:-1]])
        loss = torch.nn.functional.cross_entropy(shifted, torch.tensor(ids), reduction="none")
        table[mask] = [float(loss[position]) for position in scored]
    return table


def exact_expectation(table, eps):
    """Mean and variance of one copy: Gauss-Legendre over the noise level, a sum over masks."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    noise_levels = (1 - eps) * (nodes + 1) / 2 + eps
    mean = square = 0.0
    for p, weight in zip(noise_levels, weights / 2, strict=True):
        for mask, losses in table.items():
            k = sum(mask)
            chance = weight * p**k * (1 - p) ** (len(mask) - k)
            value = sum(loss for loss, hit in zip(losses, mask, strict=True) if hit) / p
            mean += chance * value
            square += chance * value * value
    return mean, square - mean * mean


@pytest.mark.parametrize("prefix", [PREFIX, []])
def test_many_copies_come_to_the_exact_expectation_over_all_masks(prefix):
    eps, num_copies = 0.05, 2**16
    mean, variance = exact_expectation(loss_table(prefix, TARGET), eps)

    params = LikelihoodParams(mc_num=num_copies, batch_size=1, eps=eps, seed=5)
    found = -golden_engine().log_likelihood(prefix, TARGET, params)

    assert found == pytest.approx(mean, abs=4 * (variance / num_copies) ** 0.5)
    assert 4 * (variance / num_copies) ** 0.5 < 0.03 * mean


def test_it_is_the_published_sum_over_the_same_masks():
    table = loss_table(PREFIX, TARGET)
    params = LikelihoodParams(mc_num=24, batch_size=8, seed=11)
    noise = draw_noise(3, params)

    total = 0.0
    for mask, p_mask in zip(noise.is_masked_MS.tolist(), noise.p_mask_M, strict=True):
        for loss, hit in zip(table[tuple(mask)], mask, strict=True):
            if hit:
                total += loss / p_mask

    found = golden_engine().log_likelihood(PREFIX, TARGET, params)
    assert found == pytest.approx(-total / 24, rel=1e-6)


def test_the_noise_levels_of_a_batch_are_spread_evenly():
    params = LikelihoodParams(mc_num=48, batch_size=16, eps=0.1, seed=3)

    levels = draw_noise(2, params).p_mask_M.reshape(3, 16)

    times = (levels - 0.1) / 0.9
    assert (times >= 0).all()
    assert (times < 1).all()
    for batch in times:
        assert sorted((batch * 16).astype(int).tolist()) == list(range(16))
    assert len(np.unique((times * 16) % 1).round(9)) >= 3, "each batch has its own start"


def test_a_position_is_masked_as_often_as_its_copy_says():
    noise = draw_noise(2000, LikelihoodParams(mc_num=32, seed=1))

    rate = noise.is_masked_MS.mean(1)

    assert np.abs(rate - noise.p_mask_M).max() < 4 * 0.5 / 2000**0.5


@pytest.mark.parametrize(
    ("num_prefix", "num_target", "scored"),
    [(4, 3, [4, 5]), (1, 2, [1]), (0, 4, [1, 2]), (5, 1, []), (0, 2, [])],
)
def test_the_first_and_the_last_token_are_never_masked(num_prefix, num_target, scored):
    assert list(scored_positions(num_prefix, num_target)) == scored


def test_given_mask_ids_are_ordinary_tokens():
    """The published code compares with the mask id; a bitmap does not score given ones."""
    seen = []

    class Watched:
        config, device = golden_model().config, golden_model().device

        def __call__(self, ids, layout):
            seen.append(ids.view(-1, 5).clone())
            return golden_model()(ids, layout)

        def logits(self, hidden):
            seen.append(len(hidden))
            return golden_model().logits(hidden)

    params = LikelihoodParams(mc_num=8, seed=2)
    estimate_log_likelihood(
        Watched(), [7, MASK], [MASK, 9, EOS], params, max_rows=1000, max_logit_rows=1000
    )

    ids, num_rows = seen
    assert (ids[:, 0] == 7).all()
    assert (ids[:, 1] == MASK).all()
    assert (ids[:, 4] == EOS).all()
    masks = np.unique(draw_noise(2, params).is_masked_MS, axis=0)
    assert num_rows == masks.sum()


def test_the_same_seed_gives_the_same_number_and_another_seed_another():
    engine = golden_engine()

    first, again, other = (
        engine.log_likelihood(PREFIX, TARGET, LikelihoodParams(mc_num=16, seed=seed))
        for seed in (1, 1, 2)
    )

    assert first == again != other


@pytest.mark.parametrize("limits", [{"max_num_batched_tokens": 1}, {"max_logit_rows": 3}])
def test_row_budgets_do_not_change_a_bit(limits):
    params = LikelihoodParams(mc_num=64, seed=4)
    target = [*range(40, 60), EOS]

    assert golden_engine(**limits).log_likelihood(PREFIX, target, params) == (
        golden_engine().log_likelihood(PREFIX, target, params)
    )


def test_copies_with_equal_masks_run_once_and_are_counted():
    engine = golden_engine()

    engine.log_likelihood(PREFIX, [9, EOS], LikelihoodParams(mc_num=128))

    assert engine.stats.forward_passes == 1
    assert engine.stats.token_forwards == len(PREFIX) + 2


def test_copies_without_a_mask_cost_nothing():
    engine = golden_engine()
    params = LikelihoodParams(mc_num=1, eps=1e-9, seed=0)
    seed = next(s for s in range(99) if not draw_noise(1, replace_seed(params, s))[0].any())

    assert engine.log_likelihood(PREFIX, [9, EOS], replace_seed(params, seed)) == 0
    assert engine.stats.forward_passes == 0


def replace_seed(params, seed):
    return LikelihoodParams(mc_num=params.mc_num, eps=params.eps, seed=seed)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("mc_num", {"mc_num": 0}),
        ("mc_num", {"mc_num": True}),
        ("batch_size", {"mc_num": 8, "batch_size": 3}),
        ("batch_size", {"batch_size": 0}),
        ("eps", {"eps": 0}),
        ("eps", {"eps": 1.0}),
        ("eps", {"eps": float("nan")}),
        ("eps", {"eps": "small"}),
        ("seed", {"seed": -1}),
    ],
)
def test_a_bad_parameter_is_named(field, values):
    with pytest.raises(InvalidRequest) as error:
        LikelihoodParams(**values)

    assert error.value.field == field
    assert error.value.value == values[field] or values[field] != values[field]


@pytest.mark.parametrize(("prefix", "target"), [(PREFIX, []), (PREFIX, [9]), ([], [9, EOS])])
def test_a_target_with_nothing_to_score_is_refused(prefix, target):
    with pytest.raises(InvalidRequest) as error:
        golden_engine().log_likelihood(prefix, target)

    assert (error.value.field, error.value.value) == ("target", target)


def test_more_than_the_context_is_refused():
    with pytest.raises(ContextLengthExceeded):
        golden_engine(max_model_len=7).log_likelihood(PREFIX, TARGET)


def test_an_id_outside_the_vocabulary_is_refused():
    with pytest.raises(InvalidRequest, match=f"ids below {VOCAB}"):
        golden_engine().log_likelihood(PREFIX, [VOCAB, EOS])


def test_numbers_that_are_not_finite_are_an_error():
    class Broken:
        config, device = golden_model().config, golden_model().device

        def __call__(self, ids, layout):
            return torch.full((len(ids), 4), float("nan"))

        def logits(self, hidden):
            return hidden.repeat(1, VOCAB // 4)

    with pytest.raises(EngineError, match="not finite"):
        estimate_log_likelihood(
            Broken(), PREFIX, TARGET, LikelihoodParams(), max_rows=99, max_logit_rows=9
        )
