"""Commands of which every row failed: the output is whole and verifies, and the exit code is 6."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray.data import DataContext

from jobs.fill.ledger import JobFolder
from jobs.fill.verify import verify
from tests.integration.test_jobs import call

pytestmark = pytest.mark.ray

TOO_LONG = 4000
"""More new tokens than the embedded checkpoint has positions."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    pq.write_table(pa.table({"prompt": ["sort 21=", "copy a="], "answer": ["12", "a"]}), path)
    return path


def test_a_job_that_filled_no_row_is_finished_and_ends_with_6(ray_local, rows, tmp_path):
    out = tmp_path / "out"
    given = ["run", "-i", rows, "-o", out, "--task", "generate", "--model", "embedded"]
    given += ["--max-new-tokens", TOO_LONG]

    code, said = call(*given)

    assert code == 6, said
    assert "error: all 2 rows failed" in said
    folder = JobFolder(out)
    assert folder.success.exists()
    assert verify(folder, deep=True) == []
    assert pq.read_table(folder.data).column("status").to_pylist() == ["too_long"] * 2
    assert call(*given)[0] == call("resume", "-o", out)[0] == 6
    assert call("status", "-o", out)[0] in (0, None)
    assert DataContext.get_current().checkpoint_config is None, "other pipelines are not touched"


def test_an_evaluation_reports_no_score_where_every_row_failed(ray_local, rows, tmp_path):
    out = tmp_path / "out"
    given = ["evaluate", "--suite", "lists,custom", "--model", "embedded", "-o", out, "-n", 2]
    given += ["--data", rows, "--reference-column", "answer", "--max-new-tokens", TOO_LONG]

    code, said = call(*given)

    assert code == 6, said
    assert "every row failed, so nothing was measured of custom@full" in said
    assert "2 rows failed and count as wrong; the first: " in said
    results = json.loads((out / "results.json").read_text())["results"]
    assert results["lists@full"]["acc_wilson_high"] > 0
    failed = results["custom@full"]
    assert failed["num_errors"] == failed["sample_len"] == 2
    for name in ("acc,none", "acc_wilson_low", "acc_wilson_high"):
        assert failed[name] is None
    assert failed["buckets"]["all"]["acc"] is failed["buckets"]["all"]["wilson_low"] is None
    assert pq.read_table(out / "samples").num_rows == 4
    assert call(*given)[0] == 6
