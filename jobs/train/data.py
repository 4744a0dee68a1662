"""What the loop is fed: for each update, this worker's share of the batch, noise and all.

The batch of update u is a pure function of (seed, u), whatever the number of workers.

Letters: T packed tokens, B rows, W workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray
from ray.data import Dataset, ExecutionOptions, TaskPoolStrategy

from jobs.train.batch import Batch
from jobs.train.config import TrainSpec
from jobs.train.corpus import TASK_VARIANTS, NoisyRow, noisy_rows, shares
from jobs.train.order import rows_of_update
from jobs.train.sft import EncodedRow, noisy_row

__all__ = ["MixSource", "RowSource", "Source", "arrow_batches", "feed"]

UPDATES_OF_ROUND = 256
"""Batches that are made at once, while the loop works on those before."""

UPDATES_OF_BLOCK = 16


class Rows(Protocol):
    """Encoded rows by number."""

    @property
    def lengths_N(self) -> NDArray[np.int64]:
        """Tokens of each row."""
        ...

    def __getitem__(self, row: int) -> EncodedRow: ...


class Source(Protocol):
    """Where batches come from."""

    @property
    def variant_names(self) -> tuple[str, ...]:
        """Names of the task variants that `Batch.variants` counts; losses are told for each."""
        ...

    def share(self, update: int, rank: int, num_workers: int) -> Batch:
        """Rows of the batch of `update` that belong to this worker."""
        ...


@dataclass(frozen=True, slots=True)
class MixSource:
    """Generated rows: of each task variant, worker R of W takes the rows R, R + W, R + 2W, ..."""

    spec: TrainSpec
    eos: int

    @property
    def variant_names(self) -> tuple[str, ...]:
        """The task variants of the mix, in its order."""
        return tuple(self.spec.mix or {})

    def share(self, update: int, rank: int, num_workers: int) -> Batch:
        """Task variant number i of update u is drawn with the key (seed, u, i)."""
        spec = self.spec
        assert spec.mix is not None
        rows: list[NoisyRow] = []
        variants: list[int] = []
        for index, (name, num) in enumerate(shares(spec.mix, spec.batch_size).items()):
            variant = TASK_VARIANTS[name]
            if spec.time_weight is not None:
                variant = replace(variant, time_weight=spec.time_weight)
            rng = np.random.default_rng([spec.seed, update, index])
            drawn = noisy_rows(
                variant, rng, num, eos=self.eos, cart_p=spec.cart_p, tail_weight=spec.tail_weight
            )
            mine = drawn[rank::num_workers]
            rows += mine
            variants += [index] * len(mine)
        return _pack(rows, variants)


@dataclass(frozen=True, slots=True)
class RowSource:
    """Rows of a token store: worker R of W takes the rows R, R + W, ... of the batch."""

    spec: TrainSpec
    store: Rows

    @property
    def variant_names(self) -> tuple[str, ...]:
        """One variant: rows of Parquet."""
        return ("parquet",)

    def share(self, update: int, rank: int, num_workers: int) -> Batch:
        """The noise of row b of update u is drawn with the key (seed, u, b + 1), slack with 0."""
        spec = self.spec
        rows_B = rows_of_update(
            update,
            lengths_N=self.store.lengths_N,
            batch_size=spec.batch_size,
            group_batches=spec.group_batches,
            seed=spec.seed,
        )
        slack = np.random.default_rng([spec.seed, update, 0]).integers(spec.eos_slack + 1)
        rows = [
            noisy_row(
                np.random.default_rng([spec.seed, update, place + 1]),
                self.store[int(rows_B[place])],
                slack=int(slack),
                tail_weight=spec.tail_weight,
                time_weight=spec.time_weight or "original",
                cart_p=spec.cart_p,
            )
            for place in range(rank, len(rows_B), num_workers)
        ]
        return _pack(rows, [0] * len(rows))


def feed(source: Source, first: int, last: int, rank: int, num_workers: int) -> Iterator[Batch]:
    """This worker's batches of updates `first` to `last`, in order.

    Ray Data makes them a round ahead of the loop. A round runs to its end without waiting for the
    loop, because an executor that is held back keeps its process, the training worker, busy.
    """
    rounds = [
        range(u, min(u + UPDATES_OF_ROUND, last)) for u in range(first, last, UPDATES_OF_ROUND)
    ]
    coming: Future[list[pa.Table]] | None = None
    with ThreadPoolExecutor(1) as ahead:
        for updates in [*rounds, None]:
            tables = coming.result() if coming else []
            if updates is not None:
                coming = ahead.submit(_made, source, updates, rank, num_workers)
            for table in tables:
                yield from (_batch(table, row) for row in range(table.num_rows))


def arrow_batches(data: Dataset) -> Iterator[pa.Table]:
    """The blocks of a data set, in the order they come."""
    for table in data.iter_batches(batch_size=None, batch_format="pyarrow"):
        assert isinstance(table, pa.Table)
        yield table


def _pack(rows: Sequence[NoisyRow], variants: Sequence[int]) -> Batch:
    return Batch(
        token_ids=np.concatenate([row.token_ids for row in rows]),
        is_masked=np.concatenate([row.is_masked for row in rows]),
        weights=np.concatenate([row.weights for row in rows]),
        lengths=np.array([len(row.token_ids) for row in rows], np.int64),
        variants=np.array(variants, np.int64),
    )


def _batch(table: pa.Table, row: int) -> Batch:
    values = {name: table[name].combine_chunks()[row].values for name in Batch._fields}
    return Batch(**{name: v.to_numpy(zero_copy_only=False) for name, v in values.items()})


def _made(source: Source, updates: range, rank: int, num_workers: int) -> list[pa.Table]:
    """The batches of some updates; a row of a table is one update."""
    blocks = -(-len(updates) // UPDATES_OF_BLOCK)
    data = ray.data.range(len(updates), override_num_blocks=blocks).map_batches(
        partial(_shares, source, updates.start, rank, num_workers),
        batch_size=None,
        batch_format="pyarrow",
        compute=TaskPoolStrategy(size=1),
    )
    data.context.execution_options = ExecutionOptions(preserve_order=True)
    tables = list(arrow_batches(data))
    made = [update for table in tables for update in table["update"].to_pylist()]
    assert made == list(updates), "Ray Data kept the order of updates"
    return tables


def _shares(source: Source, first: int, rank: int, num_workers: int, ids: pa.Table) -> pa.Table:
    """A row for each update: its number, and the columns of `Batch`."""
    updates = [first + index for index in ids["id"].to_pylist()]
    batches = [source.share(update, rank, num_workers) for update in updates]
    columns: dict[str, pa.Array] = {"update": pa.array(updates, pa.int64())}
    for place, name in enumerate(Batch._fields):
        columns[name] = pa.array([batch[place] for batch in batches])
    return pa.table(columns)
