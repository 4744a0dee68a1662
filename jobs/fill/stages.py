"""What Ray Data runs on blocks: choosing rows by position, and filling their holes."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import numpy as np
import pyarrow as pa

from cluster.shards import start_engine
from dream import Completion, Request
from dream.engine.async_engine import AsyncEngine
from dream.engine.facts import read_facts
from dream.errors import CheckpointError, EngineError
from dream.request import StepEvent
from jobs.fill.columns import ColumnMap
from jobs.fill.config import JobSpec
from jobs.fill.identity import FileRows, RowIndex
from jobs.fill.rows import (
    OutputRow,
    Text,
    commit_steps,
    completed,
    failed,
    last_attempt,
    output_table,
    prepare,
)

__all__ = ["GenerateRows", "StagePlan", "select_rows"]

LARGEST = {"steps": 2**31 - 1, "seed": 2**64 - 1}
"""Row parameters that come back as output columns, and the most each of those holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """All a stage needs to know, as plain data."""

    spec: JobSpec
    columns: ColumnMap
    files: tuple[FileRows, ...]
    schema: pa.Schema


def select_rows(batch: pa.Table, *, files: tuple[FileRows, ...], limit: int) -> pa.Table:
    """The rows of a block that are among the first `limit` of the input; it may become empty."""
    place = RowIndex(files).locate(batch.column("row_hash").to_numpy())
    offsets = np.cumsum([0, *(file.num_rows for file in files)])
    return batch.filter(pa.array(offsets[place.files] + place.rows < limit))


class GenerateRows:
    """Owns one engine; the rows of all blocks in flight share its forwards.

    One row in, one row out: what is wrong with a row becomes the row's status. An engine that
    is dead ends the process, because only a new process gets a new engine.
    """

    def __init__(self, plan: StagePlan) -> None:
        spec = plan.spec
        facts = read_facts(spec.model, spec.engine())
        if facts.tokenizer is None:
            raise CheckpointError(f"{spec.model}: has no tokenizer files, and rows hold text")
        self._plan = plan
        self._text: Text = facts.tokenizer
        self._max_tokens = facts.max_model_len
        self._encode = partial(self._text.encode_within, max_tokens=self._max_tokens)
        # A model that cannot run fails the job here, and not every row.
        self._engine = AsyncEngine(start_engine(spec.model, spec.engine()))
        self._index = RowIndex(plan.files)
        self._paths = pa.array([file.path for file in plan.files], type=pa.string())
        self._numbers = itertools.count()

    async def __call__(self, batch: pa.Table) -> AsyncIterator[pa.Table]:
        """One block: all its rows are submitted at once."""
        hashes = batch.column("row_hash").to_numpy()
        place = self._index.locate(hashes)
        files = self._paths.take(pa.array(place.files)).dictionary_encode()
        rows = await asyncio.gather(
            *(self._fill(batch, row, int(row_hash)) for row, row_hash in enumerate(hashes))
        )
        places = {"src_file": files, "src_row": pa.array(place.rows)}
        yield output_table(batch, self._plan.columns, self._plan.schema, places, rows)

    async def _fill(self, batch: pa.Table, row: int, row_hash: int) -> OutputRow:
        try:
            return await self._complete(batch, row, row_hash)
        except EngineError as error:
            self._exit_if_dead()
            return failed(error, self._given(batch, row))
        except Exception as error:  # the row boundary: the error is the row's answer
            return failed(error, self._given(batch, row))

    def _given(self, batch: pa.Table, row: int) -> dict[str, int]:
        """What the row itself asks for, as far as the output columns can hold it."""
        names = [name for name in LARGEST if name in self._plan.columns.parameters]
        cells = {name: batch.column(name)[row].as_py() for name in names}
        return {
            name: value
            for name, value in cells.items()
            if value is not None and 0 <= value <= LARGEST[name]
        }

    async def _complete(self, batch: pa.Table, row: int, row_hash: int) -> OutputRow:
        columns = self._plan.columns
        wanted = (*columns.template, *columns.parameters)
        cells = {name: batch.column(name)[row].as_py() for name in wanted}
        spec = self._plan.spec
        prepared = prepare(cells, spec, columns, row_hash)
        prepared.text.check_length(self._max_tokens, self._text.max_token_bytes)
        request = Request(
            id=f"{row_hash:016x}-{next(self._numbers)}",
            template=prepared.text.encode(self._encode),
            params=prepared.params,
        )
        started = time.perf_counter()
        events: list[StepEvent] = []
        async for item in self._engine.generate(request):
            if isinstance(item, Completion):
                events = last_attempt(events)
                confidences = [value for event in events for value in event.confidences]
                return completed(
                    prepared,
                    item,
                    self._text,
                    mean_confidence=float(np.mean(confidences)) if confidences else None,
                    latency_ms=1000 * (time.perf_counter() - started),
                    finished_at=datetime.now(UTC),
                    commit_steps=commit_steps(item, events) if spec.record_order else None,
                )
            events.append(item)
        raise EngineError("the engine ended a request without a completion")

    def __del__(self) -> None:
        """Ray Data ends an actor so: what the engine holds on other processes is given back."""
        if hasattr(self, "_engine"):
            self._engine.shutdown()

    def _exit_if_dead(self) -> None:
        try:
            self._engine.check_health()
        except EngineError as error:
            print(f"engine is dead: {error}", file=sys.stderr, flush=True)
            os._exit(1)
