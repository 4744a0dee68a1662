"""Laws of the commit rules, on made-up states and through the engine."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dream import SamplingParams
from dream.remasking import RULES, Ranked, RuleLimits, apply_rules
from dream.sampling import certainty
from tests.laws.strategies import RULES as LIMITS
from tests.models import golden_engine, request

laws = settings(max_examples=60, deadline=None, derandomize=True)


def state(sizes: list[int], seed: int) -> Ranked:
    """A ranked state of requests of these sizes: entropies, probabilities, runs of masks."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(sum(sizes), 9)) * rng.choice([0.3, 3, 12])).float()
    owners = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    starts = torch.tensor(np.cumsum([0, *sizes[:-1]]))[owners]
    runs = owners * 100 + torch.from_numpy(rng.integers(0, 3, sum(sizes)))
    return Ranked(*certainty(logits), owners, starts, runs)


def applied(ranked: Ranked, sizes: list[int], **rule) -> tuple[list[set[int]], list[int]]:
    """Rows that each request commits, and how many of them are forced."""
    params = [SamplingParams(steps=None, **rule)] * len(sizes)
    limits = RuleLimits.of(params, [0] * len(sizes), sizes, torch.from_numpy)
    all_N = torch.ones_like(ranked.owners_N).bool()
    order, counts, forced = apply_rules(ranked, all_N, ~all_N, limits)
    rows = np.split(order.numpy(), np.cumsum(sizes)[:-1])
    kept = [
        set((r[:count] - start).tolist())
        for r, count, start in zip(rows, counts.tolist(), np.cumsum([0, *sizes]), strict=False)
    ]
    return kept, forced.tolist()


sizes_of = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@laws
@given(sizes_of, st.integers(0, 10**6), st.sampled_from(sorted(LIMITS)), st.data())
def test_a_laxer_limit_commits_a_superset_and_never_less_than_one(sizes, seed, name, data):
    ranked = state(sizes, seed)
    limits = sorted(data.draw(LIMITS[name]) for _ in range(2))
    strict, lax = limits if name != "threshold" else limits[::-1]

    few, _ = applied(ranked, sizes, **{name: strict})
    many, _ = applied(ranked, sizes, **{name: lax})

    for smaller, larger in zip(few, many, strict=True):
        assert smaller
        assert smaller <= larger or len(smaller) == 1


@laws
@given(sizes_of, st.integers(0, 10**6), st.sampled_from(sorted(LIMITS)), st.data())
def test_a_request_commits_the_same_whatever_is_beside_it(sizes, seed, name, data):
    limit = data.draw(LIMITS[name])
    ranked = state(sizes, seed)
    together, _ = applied(ranked, sizes, **{name: limit})

    for place, size in enumerate(sizes):
        rows = ranked.owners_N == place
        own = Ranked(*(values[rows] for values in ranked))
        own = own._replace(owners_N=own.owners_N * 0, starts_N=own.starts_N * 0)
        assert applied(own, [size], **{name: limit})[0] == [together[place]]


@laws
@given(sizes_of, st.integers(0, 10**6), st.sampled_from([0.05, 0.3, 0.7, 0.95]))
def test_threshold_takes_what_reaches_it_or_the_first(sizes, seed, threshold):
    ranked = state(sizes, seed)

    kept, forced = applied(ranked, sizes, threshold=threshold)

    probs = np.split(ranked.top_probs_N.numpy(), np.cumsum(sizes)[:-1])
    for rows, is_forced, p in zip(kept, forced, probs, strict=True):
        reached = set(np.flatnonzero(p >= threshold).tolist())
        assert rows == (reached or {0})
        assert is_forced == (not reached)


@laws
@given(sizes_of, st.integers(0, 10**6), st.sampled_from([0.3, 1.0, 2.0]))
def test_factor_takes_the_largest_n_that_satisfies_its_inequality(sizes, seed, factor):
    ranked = state(sizes, seed)

    kept, _ = applied(ranked, sizes, factor=factor)

    for rows, p in zip(
        kept, np.split(ranked.top_probs_N.numpy(), np.cumsum(sizes)[:-1]), strict=True
    ):
        order = sorted(range(len(p)), key=lambda i, p=p: (-p[i], i))
        fits = [n for n in range(1, len(p) + 1) if (n + 1) * (1 - float(p[order[n - 1]])) < factor]
        assert rows == (set(order[: max(fits)]) if fits else {0})


@laws
@given(sizes_of, st.integers(0, 10**6), st.sampled_from([0.05, 0.5, 2.0]))
def test_entropy_bound_takes_the_longest_prefix_within_it(sizes, seed, bound):
    ranked = state(sizes, seed)

    kept, _ = applied(ranked, sizes, entropy_bound=bound)

    for rows, h in zip(
        kept, np.split(ranked.entropies_N.double().numpy(), np.cumsum(sizes)[:-1]), strict=True
    ):
        fits = [n for n in range(1, len(h) + 1) if h[:n].sum() - h[:n].max() <= bound + 1e-7]
        assert rows == set(range(max(fits)))


@laws
@given(sizes_of, st.integers(0, 10**6), st.sampled_from([0.3, 0.6, 0.9]))
def test_hierarchy_adds_the_surest_of_each_run(sizes, seed, threshold):
    ranked, low = state(sizes, seed), threshold / 2

    kept, _ = applied(ranked, sizes, threshold=threshold, low_threshold=low)

    bounds = np.cumsum([0, *sizes])
    for rows, start, end in zip(kept, bounds, bounds[1:], strict=False):
        p, runs = ranked.top_probs_N[start:end].numpy(), ranked.mask_segments_N[start:end].tolist()
        wanted = set(np.flatnonzero(p >= threshold).tolist())
        by_run = groupby(sorted(range(len(p)), key=lambda i, r=runs: r[i]), key=runs.__getitem__)
        for _, members in by_run:
            best = max(members, key=lambda i, p=p: (p[i], -i))
            wanted |= {best} if p[best] > low else set()
        assert rows == (wanted or {0})


def test_entropy_of_a_row_is_in_nats_and_ids_that_are_suppressed_have_no_part_in_it():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [5.0, 5.0, -torch.inf, -torch.inf]])

    sure = certainty(logits)

    np.testing.assert_allclose(sure.entropies_N, [np.log(4), np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(sure.top_probs_N, [0.25, 0.5], rtol=1e-6)


@pytest.mark.parametrize("alg", ["maskgit_plus", "maskgit_tpp", "topk_margin", "entropy"])
@pytest.mark.parametrize(
    "one", [{"threshold": 1.0}, {"factor": 0.0}, {"entropy_bound": 0.0}, {"entropy_threshold": 0.0}]
)
def test_the_strictest_limit_fills_one_mask_at_every_step(alg, one):
    done = golden_engine().generate([request("a", [[1, 2], 12], alg=alg, **one)])[0]

    assert done.usage.forward_passes == 12
    assert done.usage.forced_commits == 12 - (12 if "entropy_bound" in one else 0)


@pytest.mark.parametrize(
    "lax", [{"threshold": 0.0}, {"factor": 1e6}, {"entropy_bound": 1e6}, {"entropy_threshold": 1e6}]
)
def test_the_laxest_limit_fills_everything_at_once(lax):
    done = golden_engine().generate([request("a", [[1, 2], 12], **lax)])[0]

    assert done.usage.forward_passes == 1
    assert done.usage.forced_commits == 0


@pytest.mark.parametrize("rule", [{"threshold": 0.35}, {"factor": 5.0}, {"entropy_bound": 14.0}])
def test_a_rule_looks_at_raw_probabilities_whatever_the_temperature_and_filters(rule):
    """The first step starts from the same canvas, so the number of its commits is the same."""
    counts = set()
    for drawing in ({}, {"temperature": 2.0}, {"top_p": 0.3}, {"temperature": 0.1, "top_k": 1}):
        engine = golden_engine()
        engine.add(request("a", [[1, 2], 12], order="left_to_right", **rule, **drawing))
        counts.add(len(engine.step()[0].positions))

    assert len(counts) == 1
    assert 1 < counts.pop() < 12


def test_an_entropy_bound_holds_for_thousands_of_requests_at_once():
    """Running maxima of requests are kept apart by offsets, which must not overflow."""
    sizes = [2] * 4096
    ranked = state(sizes, 0)

    kept, _ = applied(ranked, sizes, entropy_bound=0.5)

    alone, _ = applied(Ranked(*(values[:2] for values in ranked)), [2], entropy_bound=0.5)
    entropies = ranked.entropies_N.view(-1, 2)
    assert kept[0] == alone[0]
    assert [len(rows) for rows in kept] == (1 + (entropies.amin(1) <= 0.5).long()).tolist()


def test_every_rule_is_covered():
    assert set(RULES) == {*LIMITS, "low_threshold"}


def test_tpp_at_temperature_0_is_maskgit_plus():
    filled = [
        golden_engine().generate([request("a", [[1, 2], 12], alg=alg)])[0]
        for alg in ("maskgit_plus", "maskgit_tpp")
    ]

    assert filled[0] == filled[1]
