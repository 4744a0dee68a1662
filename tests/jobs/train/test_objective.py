"""The objective: which tokens are masked, what each weighs, and what the loss of a batch is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dream.errors import InvalidRequest
from jobs.train.data import MixSource
from jobs.train.network import collate
from jobs.train.objective import cart_weights, draw_mask, focal, token_weights
from tests.jobs.train.trainrun import fresh, spec_of

ROW = np.array([False, True, True, False, True])
"""Three masked tokens; tokens 0 and 3 are visible."""

LAW = settings(derandomize=True, deadline=None, max_examples=100)
rows = arrays(np.bool_, st.integers(1, 40))


def brute_force(is_masked, p):
    """The sum of reference.md, term by term."""
    visible = np.flatnonzero(~is_masked)
    weights = [sum(0.5 * p * (1 - p) ** (abs(n - m) - 1) for m in visible if m != n)
               for n in range(len(is_masked))]  # fmt: skip
    return np.where(is_masked, weights, 0)


def test_cart_of_a_row_worked_out_by_hand():
    """p = 1/2: a visible token at distance d gives (1/4) (1/2)^(d - 1)."""
    expected = [0, 0.25 * (1 + 0.5), 0.25 * (0.5 + 1), 0, 0.25 * (0.125 + 1)]

    assert cart_weights(ROW, 0.5).tolist() == expected


@LAW
@given(rows, st.floats(0.01, 1))
def test_cart_is_the_sum_over_visible_tokens(is_masked, p):
    np.testing.assert_allclose(
        cart_weights(is_masked, p), brute_force(is_masked, p), rtol=1e-5, atol=1e-30
    )


def test_cart_of_a_row_without_a_visible_token_is_nothing():
    assert not cart_weights(np.ones(9, np.bool_), 0.3).any()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("original", [0, 4, 4, 0, 4]),
        ("linear", [0, 0.75, 0.75, 0, 0.75]),
        ("none", [0, 1, 1, 0, 1]),
        ("cart", [0, 0.375, 0.375, 0, 0.28125]),
    ],
)
def test_every_weight_of_a_row_worked_out_by_hand(kind, expected):
    assert token_weights(kind, ROW, 0.25, cart_p=0.5).tolist() == expected


@pytest.mark.parametrize(("kind", "cart_p"), [("square", 0.5), ("cart", 0.0), ("cart", 1.5)])
def test_a_weight_there_is_not_is_refused(kind, cart_p):
    with pytest.raises(InvalidRequest, match="is not valid"):
        token_weights(kind, ROW, 0.5, cart_p=cart_p)


def test_focal_takes_weight_from_what_is_known():
    """At CE = ln 2 the model gives 1/2: a (1 - 1/2)^2 ln 2."""
    loss = focal(torch.tensor([math.log(2), 0.0]), alpha=0.25, gamma=2.0)

    torch.testing.assert_close(loss, torch.tensor([0.25 * 0.25 * math.log(2), 0.0]))


@LAW
@given(rows.filter(lambda row: row.any()), st.integers(0, 2**32))
def test_only_maskable_tokens_are_masked_and_at_least_one(maskable, seed):
    is_masked, t = draw_mask(np.random.default_rng(seed), maskable)

    assert is_masked.any()
    assert not (is_masked & ~maskable).any()
    assert 0.05 <= t <= 1


def test_the_share_of_masked_tokens_is_t():
    rng = np.random.default_rng(0)
    drawn = [draw_mask(rng, np.ones(1000, np.bool_)) for _ in range(200)]

    assert max(abs(is_masked.mean() - t) for is_masked, t in drawn) < 0.06


def dense_loss(model, batch, mask_id, *, alpha=1.0, gamma=None):
    """The loss of a batch, row by row and token by token, from logits of each row alone."""
    total, count, start = 0.0, 0, 0
    for length in batch.lengths.tolist():
        part = slice(start, start + length)
        ids, masked, weights = batch.token_ids[part], batch.is_masked[part], batch.weights[part]
        one = batch._replace(
            token_ids=ids,
            is_masked=masked,
            weights=weights,
            lengths=np.array([length]),
            variants=np.zeros(1, np.int64),
        )
        seen = collate(one, mask_id, "cpu")
        log_probs = model.logits(model(seen.noisy_T, seen.layout)).log_softmax(-1)
        for i in np.flatnonzero(masked):
            entropy = -log_probs[max(i - 1, 0), int(ids[i])]
            scale = 1 if gamma is None else alpha * (1 - (-entropy).exp()) ** gamma
            total = total + float(weights[i]) * scale * entropy
            count += 1
        start += length
    return total, count


@pytest.mark.parametrize("gamma", [None, 1.0])
def test_loss_and_gradient_are_those_of_the_formula(tmp_path, gamma):
    spec = spec_of(focal_gamma=gamma)
    state, source, mask_id = fresh(spec, tmp_path)
    batch = source.share(0, 0, 1)
    parameters = list(state.parameters.values())

    losses = state.network(collate(batch, mask_id, "cpu"))
    ours = torch.autograd.grad(losses.weighted, parameters)
    total, count = dense_loss(state.network.model, batch, mask_id, alpha=0.25, gamma=gamma)
    expected = torch.autograd.grad(total, parameters)

    torch.testing.assert_close(losses.weighted, total, rtol=1e-5, atol=0)
    assert int(losses.tokens_V.sum()) == count
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_gradient_agrees_with_finite_differences(tmp_path):
    """Along the gradient the loss changes by its squared norm; central differences, float32."""
    state, source, mask_id = fresh(spec_of(), tmp_path)
    batch = collate(source.share(0, 0, 1), mask_id, "cpu")
    parameters = list(state.parameters.values())
    gradient = torch.autograd.grad(state.network(batch).weighted, parameters)
    norm = torch.stack([g.square().sum() for g in gradient]).sum().sqrt()

    def loss_at(distance):
        with torch.no_grad():
            for parameter, g in zip(parameters, gradient, strict=True):
                parameter += distance * g / norm
            loss = state.network(batch).weighted.double().item()
            for parameter, g in zip(parameters, gradient, strict=True):
                parameter -= distance * g / norm
        return loss

    slope = (loss_at(1e-2) - loss_at(-1e-2)) / 2e-2

    assert slope == pytest.approx(norm.item(), rel=5e-3)


@LAW
@given(st.integers(0, 1000))
def test_a_masked_token_never_reaches_the_model(update):
    batch = MixSource(spec_of(), 256).share(update, 0, 1)
    seen = collate(batch, 260, "cpu")

    assert (seen.noisy_T[torch.from_numpy(batch.is_masked)] == 260).all()
    assert (seen.weights_N >= 0).all()
    starts = np.cumsum(batch.lengths) - batch.lengths
    row_of = np.repeat(np.arange(len(batch.lengths)), batch.lengths)
    targets = np.flatnonzero(batch.is_masked)
    assert (row_of[seen.sources_N.numpy()] == row_of[targets]).all()
    assert (seen.sources_N.numpy() == np.maximum(targets - 1, starts[row_of[targets]])).all()
