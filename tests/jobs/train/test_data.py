"""Batches: a pure function of seed and update, in order, whatever the number of workers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.train.batch import Batch, split
from jobs.train.corpus import TASK_VARIANTS, noisy_rows, shares
from jobs.train.data import MixSource, RowSource, feed
from jobs.train.order import rows_of_update
from jobs.train.sft import EncodedRow
from tests.jobs.train.trainrun import spec_of

EOS = 256


class Rows:
    """Twenty-three rows of 3 to 7 tokens; the first of each is given."""

    lengths_N = np.array([3 + row % 5 for row in range(23)])

    def __getitem__(self, row):
        return EncodedRow([row] * (int(self.lengths_N[row]) - 1) + [EOS], 1)


def row_source(**changes):
    spec = spec_of(mix=None, parquet="data", batch_size=4, group_batches=3, **changes)
    return RowSource(spec, Rows())


def same(one: Batch, other: Batch) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def rows_in(batch: Batch) -> Counter:
    """The rows of a batch, noise and all, as a bag."""
    cuts = np.cumsum(batch.lengths)[:-1]
    parts = zip(*(np.split(values, cuts) for values in batch[:3]), strict=True)
    return Counter(tuple(values.tobytes() for values in part) for part in parts)


@pytest.mark.parametrize("source", [MixSource(spec_of(), EOS), row_source()])
def test_workers_share_the_rows_of_one_worker(source):
    for update in (0, 1, 7):
        whole = source.share(update, 0, 1)
        for num_workers in (2, 3):
            parts = [source.share(update, rank, num_workers) for rank in range(num_workers)]

            assert sum(map(rows_in, parts), Counter()) == rows_in(whole)
            assert max(map(len, map(rows_in, parts))) > 0


@pytest.mark.parametrize("source", [MixSource(spec_of(), EOS), row_source()])
def test_a_batch_depends_on_seed_and_update_alone(source):
    assert same(source.share(5, 0, 2), source.share(5, 0, 2))
    assert not same(source.share(5, 0, 2), source.share(6, 0, 2))


def test_task_variant_i_of_update_u_is_drawn_with_the_key_seed_u_i():
    """The key of the embedded checkpoint: a change of it would be another run."""
    spec = spec_of()
    counts = shares(spec.mix, spec.batch_size)
    batch = MixSource(spec, EOS).share(4, 1, 2)

    expected = []
    for index, (name, num) in enumerate(counts.items()):
        rng = np.random.default_rng([spec.seed, 4, index])
        expected += noisy_rows(TASK_VARIANTS[name], rng, num, eos=EOS, cart_p=0.3)[1::2]

    assert np.array_equal(batch.token_ids, np.concatenate([r.token_ids for r in expected]))
    assert np.array_equal(batch.weights, np.concatenate([r.weights for r in expected]))


def held_out(variant, judge) -> int:
    """How many of 200 noisy rows of the variant the judge takes for a problem of the test split."""
    rows = noisy_rows(variant, np.random.default_rng(0), 200, eos=EOS, cart_p=0.3)
    assert len({len(row.token_ids) for row in rows}) == 1
    texts = [np.where(row.is_masked, ord("_"), row.token_ids % EOS) for row in rows]
    return sum(judge(bytes(text.astype(np.uint8)).decode()) for text in texts)


@pytest.mark.parametrize("name", TASK_VARIANTS)
def test_a_problem_of_the_held_out_split_is_never_shown(name):
    variant = TASK_VARIANTS[name]

    assert held_out(variant, variant.holds_out) == 0
    assert held_out(replace(variant, holds_out=lambda _: False), variant.holds_out) > 0


def drawn(num_updates: int, **keys) -> list[np.ndarray]:
    return [rows_of_update(update, **keys) for update in range(num_updates)]


@settings(deadline=None)
@given(
    num_rows=st.integers(1, 60),
    batch_size=st.integers(1, 25),
    group_batches=st.integers(1, 7),
    num_epochs=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_every_row_comes_once_an_epoch_and_none_is_left_out(
    num_rows, batch_size, group_batches, num_epochs, seed
):
    """Whatever the window: only the last batch holds rows of the epoch after the last."""
    lengths_N = np.arange(num_rows) % 5
    num_updates = -(-num_rows * num_epochs // batch_size)
    keys = {"batch_size": batch_size, "group_batches": group_batches, "seed": seed}

    batches = drawn(num_updates, lengths_N=lengths_N, **keys)

    assert {len(rows) for rows in batches} == {batch_size}
    times = np.bincount(np.concatenate(batches), minlength=num_rows)
    whole, rest = divmod(num_updates * batch_size, num_rows)
    assert Counter(times.tolist()) == Counter({whole: num_rows - rest, whole + 1: rest})


def test_a_window_larger_than_the_data_shows_every_row_in_one_epoch():
    keys = {"lengths_N": np.arange(1000) % 90, "batch_size": 256, "group_batches": 50, "seed": 0}

    batches = drawn(4, **keys)

    assert set(np.concatenate(batches)) == set(range(1000))
    assert all(len(set(rows)) == 256 for rows in batches[:3])


def test_rows_of_like_length_meet_in_a_batch():
    keys = {"lengths_N": Rows.lengths_N, "batch_size": 4, "group_batches": 3, "seed": 0}

    batches = drawn(69, **keys)

    assert all((np.diff(Rows.lengths_N[rows]) >= 0).all() for rows in batches)
    inside = [rows for update, rows in enumerate(batches) if update * 4 % 23 <= 19]
    assert np.mean([len(set(Rows.lengths_N[rows])) for rows in inside]) < 2.5


def test_shares_are_in_proportion_and_add_up():
    assert shares({"a": 1, "b": 1, "c": 1}, 10) == {"a": 4, "b": 3, "c": 3}
    assert shares({"a": 60, "b": 24, "c": 100, "d": 48, "e": 24, "f": 32}, 192) == {
        "a": 40, "b": 16, "c": 67, "d": 32, "e": 16, "f": 21,
    }  # fmt: skip


def test_micro_batches_are_the_batch():
    batch = MixSource(spec_of(), EOS).share(0, 0, 1)

    parts = split(batch, 3)

    assert sum(map(rows_in, parts), Counter()) == rows_in(batch)
    assert same(split(batch, 1)[0], batch)


@pytest.mark.ray
def test_ray_data_feeds_every_update_once_in_order(ray_local):
    source = MixSource(spec_of(), EOS)

    fed = list(feed(source, 3, 40, 1, 2))

    assert len(fed) == 37
    for update, batch in enumerate(fed, start=3):
        assert same(batch, source.share(update, 1, 2))
