"""A batch job whose engine runs on two ranks gives the rows of one process."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.__main__ import main
from tests.cluster.processes import eventually, groups_here

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NOT_DETERMINED = ["latency_ms", "finished_at", "mean_confidence", "bit_exact"]


def rows_of(source: Path, out: Path, *flags: str) -> pa.Table:
    given = ["run", "-i", str(source), "-o", str(out), "--task", "generate", "--model", "embedded"]
    given += ["--prompt-column", "prompt", "--max-new-tokens", "12", "--temperature", "0.7"]
    with pytest.raises(SystemExit) as end:
        main([*given, "--commit-rows", "4", *flags])
    assert not end.value.code
    table = pq.ParquetDataset(out / "data").read()
    return table.sort_by([("src_row", "ascending")]).drop_columns(NOT_DETERMINED)


def test_two_ranks_fill_the_rows_of_one_process_and_give_their_bundles_back(ray_local, tmp_path):
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"prompt": [f"Number {n} is" for n in range(12)]}), source)
    before = groups_here()

    alone = rows_of(source, tmp_path / "alone")
    shared = rows_of(source, tmp_path / "shared", "--tensor-parallel", "2")

    assert alone.num_rows == 12
    assert shared.to_pylist() == alone.to_pylist()
    assert eventually(lambda: groups_here() == before)
