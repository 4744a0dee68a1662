"""The stage alone, without Ray: one engine, rows of many blocks, and errors that stay in rows."""

from __future__ import annotations

import asyncio
import shutil
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

from dream.errors import EngineError
from dream.model.loader import resolve
from jobs.fill.columns import input_columns
from jobs.fill.config import JobSpec
from jobs.fill.identity import FileRows, row_hashes, row_seed
from jobs.fill.rows import output_schema
from jobs.fill.stages import GenerateRows, StagePlan, select_rows

FILE = FileRows(path="/data/in.parquet", num_rows=12)
PROMPTS = ["a", "bc", None, "d" * 600, "ef", "ghi", "j", "kl", "m", "n", "o", "p"]
STEPS = [2, 2, 2, 2, 99999, None, 2, 2, 2, 2, 2, 2]

CLOCKED = ["latency_ms", "finished_at"]


@pytest.fixture(scope="module")
def table():
    columns = {"prompt": PROMPTS, "steps": pa.array(STEPS, pa.int64())}
    return pa.table(columns | {"row_hash": row_hashes(FILE.path, 0, FILE.num_rows)})


def plan_of(table, model="embedded", **more):
    spec = JobSpec(
        input=["/data"],
        output="/out",
        task="generate",
        model=str(model),
        max_new_tokens=4,
        steps=3,
        temperature=0.8,
        seed=11,
        **more,
    )
    schema = table.schema.remove(table.schema.get_field_index("row_hash"))
    columns = input_columns(spec, schema)
    return StagePlan(
        spec=spec, columns=columns, files=(FILE,), schema=output_schema(schema, columns)
    )


@pytest.fixture
def stage(table):
    stage = GenerateRows(plan_of(table))
    yield stage
    stage._engine.shutdown()


async def collect(stage, *blocks):
    async def one(block):
        return [out async for out in stage(block)]

    return [tables[0] for tables in await asyncio.gather(*map(one, blocks))]


def test_bad_rows_become_error_rows_and_their_neighbours_are_well(stage, table):
    (out,) = asyncio.run(collect(stage, table))

    statuses = out.column("status").to_pylist()
    assert statuses == ["ok", "ok", "error", "too_long", "error", *["ok"] * 7]
    assert out.column("error_type").to_pylist()[2:5] == [
        "InvalidRequest",
        "ContextLengthExceeded",
        "InvalidRequest",
    ]
    assert "steps=99999" in out.column("error_message")[4].as_py()
    assert out.column("src_row").to_pylist() == list(range(12))
    assert set(out.column("src_file").to_pylist()) == {FILE.path}
    assert out.column("steps").to_pylist()[5:7] == [3, 2]
    assert out.column("steps").to_pylist()[2:5] == [2, 2, 99999]
    assert out.column("seed")[0].as_py() == row_seed(11, table.column("row_hash")[0].as_py())


def test_rows_that_are_not_utf8_become_error_rows(stage, table):
    bad = pa.array([b"fine", b"\xff\xfe"]).cast(pa.binary())
    text = pa.Array.from_buffers(pa.string(), 2, bad.buffers())
    block = table.slice(0, 2).set_column(0, "prompt", text)

    (out,) = asyncio.run(collect(stage, block))

    assert out.column("status").to_pylist() == ["ok", "error"]
    assert out.column("error_type")[1].as_py() == "UnicodeDecodeError"


def test_blocks_in_flight_share_forwards_and_give_what_they_give_alone(stage, table):
    blocks = [table.slice(5, 3), table.slice(8, 4)]
    (alone_a,) = asyncio.run(collect(stage, blocks[0]))
    (alone_b,) = asyncio.run(collect(stage, blocks[1]))
    before = stage._engine.stats.steps

    together = asyncio.run(collect(stage, *blocks))

    shared = stage._engine.stats.steps - before
    passes = sum(sum(out.column("forward_passes").to_pylist()) for out in together)
    assert shared <= passes / 3
    for alone, out in zip((alone_a, alone_b), together, strict=True):
        assert out.drop(CLOCKED) == alone.drop(CLOCKED)


def test_rows_say_whether_they_are_bit_exact(stage, table):
    (exact,) = asyncio.run(collect(stage, table.slice(5, 2)))
    lower = GenerateRows(plan_of(table, dtype="bfloat16"))
    (rounded,) = asyncio.run(collect(lower, table.slice(5, 2)))
    lower._engine.shutdown()

    assert exact.column("bit_exact").to_pylist() == [True, True]
    assert rounded.column("bit_exact").to_pylist() == [False, False]


def test_commit_steps_are_recorded_where_they_are_asked_for(stage, table):
    recorder = GenerateRows(plan_of(table, record_order=True, order="right_to_left"))
    (plain,) = asyncio.run(collect(stage, table))
    (out,) = asyncio.run(collect(recorder, table.slice(5, 3)))
    recorder._engine.shutdown()

    assert plain.column("commit_steps").null_count == table.num_rows
    steps = out.column("commit_steps").to_pylist()
    assert [len(row) for row in steps] == [4, 4, 4]
    for row in steps:
        known = [step for step in row if step is not None]
        assert known == sorted(known, reverse=True)
    assert out.column("finished_at").null_count == 0


def test_a_dead_engine_ends_the_process_instead_of_failing_rows(stage, table, monkeypatch):
    codes = []
    monkeypatch.setattr("jobs.fill.stages.os._exit", codes.append)
    stage._engine.shutdown()

    asyncio.run(collect(stage, table.slice(0, 1)))

    assert codes == [1]


def test_a_model_whose_numbers_are_not_finite_fails_the_stage_before_any_row(table, tmp_path):
    shutil.copytree(resolve("embedded"), tmp_path / "broken")
    weights = load_file(tmp_path / "broken" / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, tmp_path / "broken" / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(EngineError, match="not finite"):
        GenerateRows(plan_of(table, tmp_path / "broken"))


def test_a_replica_computes_on_one_thread_whatever_the_machine_has(table):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        stage = GenerateRows(plan_of(table))
        stage._engine.shutdown()
        with ThreadPoolExecutor(1) as engine_thread:  # torch counts threads for each thread
            assert engine_thread.submit(torch.get_num_threads).result() == 1
    finally:
        torch.set_num_threads(before)


def test_what_a_failed_row_asked_for_is_kept_where_a_column_can_hold_it(stage, table):
    asked = pa.array([2**40, -1, 5, None], pa.int64())
    block = table.slice(1, 4).set_column(1, "steps", asked)

    (out,) = asyncio.run(collect(stage, block))

    assert out.column("status").to_pylist() == ["error", "error", "too_long", "ok"]
    assert out.column("steps").to_pylist() == [None, None, 5, 3]


def test_a_limit_counts_rows_over_files_in_their_order():
    files = (FileRows(path="z", num_rows=3), FileRows(path="a", num_rows=3))
    hashes = [*row_hashes("a", 0, 3).tolist(), *row_hashes("z", 0, 3).tolist()]
    block = pa.table({"name": list("012345"), "row_hash": pa.array(hashes, pa.uint64())})

    kept = select_rows(block, files=files, limit=4)

    assert kept.column("name").to_pylist() == ["0", "3", "4", "5"]
    assert select_rows(block.slice(1, 2), files=files, limit=4).num_rows == 0
