"""Laws of the timetable, the noise and the sampler."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dream.engine.batch import first_of_each
from dream.noise import Purpose, uniforms
from dream.remasking import STRATEGIES
from dream.remasking.base import stable_order
from dream.sampling import RowParams, sample
from dream.timetable import commit_counts, hit_steps
from tests.models import whole_sample

laws = settings(max_examples=60, deadline=None, derandomize=True)


@laws
@given(st.integers(1, 400), st.integers(1, 600), st.sampled_from([1e-3, 0.05, 1e-5]))
def test_counts_are_positive_sum_to_the_masks_and_follow_the_recurrence(n, steps, eps):
    counts = commit_counts(n, steps, eps)

    assert sum(count for _, count in counts) == n
    assert all(count > 0 for _, count in counts)
    assert dict(counts) == reference_counts(n, steps, eps)


def reference_counts(n: int, steps: int, eps: float) -> dict[int, int]:
    """The published loop, in torch's float32 scalars."""
    t = torch.linspace(1, eps, steps + 1)
    left, counts = n, {}
    for i in range(steps):
        masks = torch.tensor([[left]]).sum() / 1
        count = int(masks * (1 - t[i + 1] / t[i])) if i < steps - 1 else int(masks)
        if count:
            counts[i] = count
        left -= count
    return counts


@laws
@given(st.integers(2, 400), st.integers(1, 600), st.sampled_from([1e-3, 0.05, 1e-5]))
def test_the_last_two_masks_are_always_committed_at_once(n, steps, eps):
    assert commit_counts(n, steps, eps)[-1][1] >= 2


def test_origin_commit_times_have_the_law_of_independent_coin_flips():
    steps, eps = 7, 1e-3
    t = np.linspace(1, eps, steps + 1)
    draws = np.random.default_rng(0).random(200_000)

    found = np.bincount(hit_steps(draws, steps, eps), minlength=steps) / len(draws)

    expected = np.append(t[:-2] - t[1:-1], t[-2])
    np.testing.assert_allclose(found, expected, atol=0.004)


@laws
@given(st.integers(0, 2**63 - 1), st.integers(0, 2047), st.lists(st.integers(0, 2047), min_size=1))
def test_noise_depends_on_seed_purpose_step_and_position_alone(seed, step, positions):
    together = uniforms(seed, Purpose.TOKEN, step, np.array(positions))

    alone = [uniforms(seed, Purpose.TOKEN, step, np.array([p]))[0] for p in positions]

    assert together.tolist() == alone
    assert ((together > 0) & (together < 1)).all()


def test_noise_is_uniform_and_differs_between_purposes_steps_and_seeds():
    positions = np.arange(20_000)
    draws = [
        uniforms(seed, purpose, step, positions)
        for seed, purpose, step in [(0, 1, 0), (0, 2, 0), (0, 1, 1), (1, 1, 0)]
    ]

    for draw in draws:
        histogram = np.histogram(draw, bins=20, range=(0, 1))[0]
        assert ((histogram - 1000) ** 2 / 1000).sum() < 45  # chi-squared, 19 degrees: p ~ 0.001
    for i in range(4):
        for j in range(i):
            assert abs(np.corrcoef(draws[i], draws[j])[0, 1]) < 0.03


@laws
@given(st.data())
def test_filters_without_sorting_equal_the_sorted_definition(data):
    """The prefix with its fall-back against the definition of the published `sample_tokens`."""
    rows, vocabulary = (
        data.draw(st.integers(1, 5)),
        data.draw(st.sampled_from([40, 300, 700, 20_003])),
    )
    spread = data.draw(st.sampled_from([0.1, 1.0, 6.0]))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10_000)))
    logits = torch.randn(rows, vocabulary, generator=generator) * spread
    if data.draw(st.booleans()):
        logits = (logits * 2).round() / 2  # many ties
    top_p = torch.tensor(
        data.draw(
            st.lists(st.sampled_from([0.0, 0.3017, 0.8973, 1.0]), min_size=rows, max_size=rows)
        )
    )
    top_k = torch.tensor(
        data.draw(st.lists(st.sampled_from([1, 7, 200, vocabulary]), min_size=rows, max_size=rows))
    ).clamp(max=vocabulary)

    params = RowParams(top_p_N=top_p, top_k_N=top_k)
    drawn = whole_sample(logits, params, STRATEGIES["entropy"].score)

    for row in range(rows):
        probs = reference_probs(logits[row], float(top_p[row]), int(top_k[row]))
        np.testing.assert_allclose(drawn.probs_N[row], probs.max(), atol=2e-6)
        entropy = (probs * (probs + 1e-10).log()).sum()
        np.testing.assert_allclose(drawn.scores_N[row], entropy, atol=3e-5, rtol=1e-5)
        assert drawn.token_ids_N[row] == logits[row].argmax()


def reference_probs(logits: torch.Tensor, top_p: float, top_k: int) -> torch.Tensor:
    values, ids = logits.sort(descending=True, stable=True)
    kept = values.clone()
    if top_p < 1:
        mass = values.softmax(-1).cumsum(-1)
        removed = mass > top_p
        removed[1:] = removed[:-1].clone()
        removed[0] = False
        kept[removed] = -torch.inf
    kept[kept < kept[min(top_k, len(kept)) - 1]] = -torch.inf
    return torch.zeros_like(logits).scatter(0, ids, kept.softmax(-1))


def test_drawn_tokens_follow_their_distribution():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0]).repeat(40_000, 1)
    noise = torch.from_numpy(uniforms(5, Purpose.TOKEN, 0, np.arange(40_000)))
    params = RowParams(temperature_N=torch.full((40_000,), 0.8), uniform_N=noise)

    drawn = sample(logits.clone(), params, STRATEGIES["maskgit_plus"].score, 0)

    found = torch.bincount(drawn.token_ids_N, minlength=4) / 40_000
    expected = (logits[0] / 0.8).softmax(-1)
    np.testing.assert_allclose(found, expected, atol=0.01)


@laws
@given(
    st.lists(st.lists(st.integers(-2, 2), min_size=1, max_size=6), min_size=1, max_size=5),
    st.data(),
)
def test_each_request_commits_its_best_and_ties_go_to_the_lowest_position(scores, data):
    counts = [data.draw(st.integers(1, len(row))) for row in scores]
    ranks = torch.tensor([float(score) for row in scores for score in row])
    owners = torch.repeat_interleave(
        torch.arange(len(scores)), torch.tensor([len(row) for row in scores])
    )

    rows = stable_order(ranks, owners)[first_of_each([len(row) for row in scores], counts)]

    start, expected = 0, []
    for row, count in zip(scores, counts, strict=True):
        best = sorted(range(len(row)), key=lambda i, row=row: (-row[i], i))[:count]
        expected += [start + i for i in best]
        start += len(row)
    assert rows.tolist() == expected
