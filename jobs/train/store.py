"""The token store: every Parquet row encoded once, in order, in one memory-mapped Arrow file."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from numpy.typing import NDArray
from ray.data import Dataset

from dream.errors import InvalidRequest
from dream.model.config import read_config
from dream.model.tokenizer import Tokenizer
from jobs.common.errors import JobError
from jobs.common.files import replacing
from jobs.fill.inputs import scan
from jobs.train.config import TrainSpec
from jobs.train.data import arrow_batches
from jobs.train.sft import COLUMNS, EncodedRow, RowLayout, encode, layout_of

__all__ = ["TokenStore", "build_store", "eos_of"]

SCHEMA = pa.schema({"token_ids": pa.list_(pa.int32()), "first": pa.int32(), "problem": pa.string()})
ROWS_OF_BATCH = 1024
DROPPED = b"rows_dropped"


@dataclass(frozen=True)
class TokenStore:
    """Rows of an encoded data set by number; opened where it is used, never copied."""

    path: Path

    @cached_property
    def _table(self) -> pa.Table:
        return pa.ipc.open_file(pa.memory_map(str(self.path))).read_all()

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum([len(chunk) for chunk in self._table["first"].chunks])

    @cached_property
    def lengths_N(self) -> NDArray[np.int64]:
        """Tokens of each row."""
        chunks = [np.diff(chunk.offsets.to_numpy()) for chunk in self._table["token_ids"].chunks]
        return np.concatenate(chunks).astype(np.int64)

    @property
    def rows_dropped(self) -> int:
        """Rows of the data that were too long and are not in the store."""
        return int(json.loads(self._table.schema.metadata[DROPPED]))

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, row: int) -> EncodedRow:
        chunk = int(np.searchsorted(self._ends, row, side="right"))
        within = row - int(self._ends[chunk - 1] if chunk else 0)
        token_ids = self._table["token_ids"].chunk(chunk)[within].values
        return EncodedRow(token_ids.to_pylist(), self._table["first"].chunk(chunk)[within].as_py())


def encode_batch(base: Path, layout: RowLayout, room: int, batch: pa.Table) -> pa.Table:
    """A stage over Arrow batches: texts to token ids; what is wrong with a row is a column."""
    tokenizer, eos = _tokenizer_of(base), eos_of(base)
    rows: list[dict[str, object]] = []
    for row in batch.to_pylist():
        try:
            token_ids, first = encode(tokenizer, layout, row, eos)
        except InvalidRequest as error:
            rows.append({"token_ids": [], "first": 0, "problem": str(error)})
            continue
        problem = f"{len(token_ids)} tokens, and max_length leaves {room}"
        is_long = len(token_ids) > room
        rows.append(
            {"token_ids": token_ids, "first": first, "problem": problem if is_long else None}
        )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def build_store(spec: TrainSpec, base: Path, path: Path) -> TokenStore:
    """Encode the Parquet files with Ray Data; the file appears when it is whole."""
    unfinished = path.with_suffix(".unfinished")
    dropped = _write(spec, base, unfinished)
    _mark(unfinished, path, dropped)
    return TokenStore(path)


def eos_of(base: Path) -> int:
    """The end-of-text id that ends a training row; the first of the config's where it has more."""
    eos = read_config(base).eos_token_id
    return eos[0] if isinstance(eos, list) else eos


def _write(spec: TrainSpec, base: Path, path: Path) -> int:
    """Write all rows that fit; returns how many did not."""
    dropped = row = 0
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as writer:
        for table in arrow_batches(_encoded(spec, base)):
            problems = table["problem"].to_pylist()
            for index, problem in enumerate(problems):
                is_long = problem is not None and table["token_ids"][index].as_py()
                if problem is not None and not (is_long and spec.on_long == "drop"):
                    raise JobError(f"row {row + index} of the data: {problem}")
            row += table.num_rows
            dropped += sum(problem is not None for problem in problems)
            fits = table.filter(pc.is_null(table["problem"]))
            writer.write_table(fits.cast(SCHEMA).combine_chunks())
    if row == dropped:
        raise JobError(f"{', '.join(spec.parquet or [])}: no row to train on; {dropped} too long")
    return dropped


def _mark(unfinished: Path, path: Path, dropped: int) -> None:
    """Turn the stream into a file of random access that knows how many rows were left out."""
    schema = pa.schema(list(SCHEMA)[:2], metadata={DROPPED: json.dumps(dropped)})
    with (
        replacing(path) as whole,
        pa.memory_map(str(unfinished)) as source,
        pa.ipc.open_stream(source) as stream,
        pa.OSFile(str(whole), "wb") as file,
        pa.ipc.new_file(file, schema) as writer,
    ):
        for batch in _nonempty(stream):
            writer.write_batch(pa.RecordBatch.from_arrays(batch.columns[:2], schema=schema))
    unfinished.unlink()


@cache
def _tokenizer_of(base: Path) -> Tokenizer:
    """Read once in each process."""
    tokenizer = Tokenizer.from_folder(base)
    assert tokenizer is not None, f"{base} was prepared without a tokenizer"
    return tokenizer


def _nonempty(stream: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    return (batch for batch in stream if batch.num_rows)


def _encoded(spec: TrainSpec, base: Path) -> Dataset:
    assert spec.parquet is not None
    inputs = scan(spec.parquet)
    layout = layout_of(spec.rows, inputs.schema.names)
    data = ray.data.read_parquet([file.path for file in inputs.files])
    encoded = data.select_columns(list(COLUMNS[layout])).map_batches(
        partial(encode_batch, base, layout, spec.max_length - spec.eos_slack),
        batch_size=ROWS_OF_BATCH,
        batch_format="pyarrow",
    )
    encoded.context.execution_options.preserve_order = True
    encoded.context.enable_progress_bars = False
    encoded.context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # "bars disabled"
    return encoded
