"""A batch job on real Ray and a real engine: killed, resumed, repeated, and told apart."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.__main__ import main
from jobs.fill.ledger import CommitLog, JobFolder
from jobs.fill.manifest import read_manifest
from jobs.fill.report import read_status
from jobs.fill.verify import verify

pytestmark = pytest.mark.ray

NUM_ROWS, LIMIT, COMMIT_ROWS = 84, 72, 4
BAD = {5: "error", 17: "too_long", 23: "error", 41: "error"}
"""Rows that are malformed, spread over the files, and what becomes of them."""

NOT_DETERMINED = ["latency_ms", "finished_at"]
DRIVER_S = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Killed:
    """A driver that was killed in the middle of its job, and what another one was told then."""

    folder: JobFolder
    committed: int
    attempt: int
    second: tuple[object, str]


def segment(text=None, hole=None, name=None):
    return {"text": text, "hole": hole, "id": name}


def row(index):
    """Steps and segments of an input row; some rows are malformed on purpose."""
    segments = [segment(text=f"S:{index} "), segment(hole=12, name="gap"), segment(text=" é\n")]
    steps = None if index % 3 else 12
    if index == 5:
        segments = None
    elif index == 17:
        segments[1] = segment(hole=4000)
    elif index == 23:
        segments[1] = segment(text="both", hole=2)
    elif index == 41:
        steps = 99_999
    return segments, steps


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two input files of slightly different schema; `n` is a row's place in both together."""
    base = tmp_path_factory.mktemp("jobs") / "a é=1"
    base.mkdir()
    (base / "in").mkdir()
    kind = pa.struct([("text", pa.string()), ("hole", pa.int64()), ("id", pa.string())])
    for name, start, stop in (("a", 0, 31), ("b", 31, NUM_ROWS)):
        rows = [row(index) for index in range(start, stop)]
        table = pa.table(
            {
                "n": pa.array(range(start, stop), pa.int32() if name == "a" else pa.int64()),
                "segments": pa.array([segments for segments, _ in rows], pa.list_(kind)),
                "steps": pa.array([steps for _, steps in rows], pa.int64()),
            }
        )
        if name == "a":
            table = table.append_column("note", pa.array(["x"] * table.num_rows))
        pq.write_table(table, base / "in" / f"{name}.parquet", row_group_size=10)
    return base


@pytest.fixture(scope="module")
def ray_address(ray_local) -> str:
    """Address of the Ray that the drivers connect to; it outlives them, and so may their actors."""
    import ray

    return ray.get_runtime_context().gcs_address


def arguments(folder, out, **changed):
    settings = {"--steps": 16, "--temperature": 0.7, "--seed": 3, "--commit-rows": COMMIT_ROWS}
    settings |= {"--limit": LIMIT, "--id-column": "n", "--keep-columns": "n,segments,note"}
    given = ["run", "-i", f"{folder}/in", "-o", out, "--task", "infill", "--model", "embedded"]
    given += ["--no-early-exit"]
    for name, value in (settings | changed).items():
        given += [name, value]
    return [str(value) for value in given]


def start(address, *given) -> subprocess.Popen[str]:
    """A driver as a process group of its own."""
    environment = os.environ | {"RAY_ADDRESS": address}
    return subprocess.Popen(
        [sys.executable, "-m", "jobs", *map(str, given)],
        env=environment,
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(*given) -> str:
    """What a command in this process printed; it must end well."""
    code, said = call(*given)
    assert not code, said
    return said


def call(*given) -> tuple[object, str]:
    """Exit code and words of a command in this process, on the Ray of this process."""
    said = io.StringIO()
    with pytest.raises(SystemExit) as end, redirect_stdout(said), redirect_stderr(said):
        main([str(value) for value in given])
    return end.value.code, said.getvalue()


def read(out) -> pa.Table:
    """The output as any reader sees it, in the order of the input."""
    table = pq.read_table(out / "data")
    for index, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):  # neither sorted nor compared by pyarrow
            table = table.set_column(index, field.name, table.column(index).cast(pa.string()))
    return table.sort_by([("src_file", "ascending"), ("src_row", "ascending")])


def wait_for(condition, driver, seconds=DRIVER_S):
    until = time.monotonic() + seconds
    while not condition():
        assert driver.poll() is None, driver.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture(scope="module")
def whole(folder, ray_address) -> JobFolder:
    """An uninterrupted run."""
    said = finish(*arguments(folder, folder / "whole"))
    assert f"of {LIMIT} rows" in said
    return JobFolder(folder / "whole")


@pytest.fixture(scope="module")
def killed(folder, ray_address) -> Killed:
    """The same job, its driver killed after the first commit; another driver tried before that."""
    job = JobFolder(folder / "killed")
    log = CommitLog(job)
    driver = start(ray_address, *arguments(folder, job.out))
    try:
        wait_for(lambda: next(log.committed(), None) is not None, driver)
        second = call("resume", "-o", job.out)
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.communicate()
    committed = read_status(job).rows_committed
    return Killed(folder=job, committed=committed, attempt=log.attempt, second=second)


@pytest.fixture(scope="module")
def resumed(killed, ray_address, tmp_path_factory) -> JobFolder:
    """The killed job gone on with at once, from another directory, while its actors may live.

    Two half states are added that a kill may leave: a part whose ids are still pending, and a
    part that no ledger entry names.
    """
    log = CommitLog(killed.folder)
    name, (part, *_) = next(iter(log.parts().items()))
    shutil.copy(part, part.with_name("part-half-00000000-0.parquet"))
    shutil.copy(log.path / f"{name}.parquet", log.path / "part-half-00000000.pending.parquet")
    shutil.copy(part, part.with_name("part-stray-00000000-0.parquet"))
    with chdir(tmp_path_factory.mktemp("elsewhere")):
        finish("resume", "-o", killed.folder.out)
    return killed.folder


def test_every_row_is_there_once_with_its_own_status_and_columns(whole):
    table = read(whole.out)

    assert table.column("n").to_pylist() == list(range(LIMIT))
    assert table.column("note").to_pylist() == ["x"] * 31 + [None] * (LIMIT - 31)
    assert table.column("dream_id").to_pylist() == list(range(LIMIT))
    assert len(set(table.column("row_hash").to_pylist())) == LIMIT
    assert table.column("src_row").to_pylist() == [*range(31), *range(LIMIT - 31)]
    assert {Path(path).name for path in table.column("src_file").to_pylist()} == {
        "a.parquet",
        "b.parquet",
    }
    statuses = dict(enumerate(table.column("status").to_pylist()))
    assert {n: status for n, status in statuses.items() if status != "ok"} == BAD


def test_malformed_rows_say_why_and_their_neighbours_are_filled(whole):
    rows = read(whole.out).to_pylist()

    said = {n: rows[n]["error_message"] for n in BAD}
    assert "segments=None" in said[5]
    assert "at least 4000 tokens" in said[17]
    assert "segments[1]" in said[23]
    assert "steps=99999" in said[41]
    for n in (4, 6, 16, 18, 22, 24, 40, 42):
        (span,) = rows[n]["infilled"]
        assert span["span"] == "gap"
        assert rows[n]["output"] == f"S:{n} {span['text']} é\n"
        assert rows[n]["steps"] == (16 if n % 3 else 12)
        assert rows[n]["forward_passes"] <= rows[n]["steps"]


def test_parts_carry_their_provenance(whole):
    for part in whole.parts():
        metadata = pq.read_schema(part).metadata

        assert metadata[b"dream.fingerprint"].decode() == whole.read_record().fingerprint
        assert metadata[b"dream.model_id"] == b"embedded"
        assert metadata[b"dream.approximation"] == b"none"
        assert len(metadata[b"dream.weights_sha256"]) == 64
    assert len({str(pq.read_schema(part).remove_metadata()) for part in whole.parts()}) == 1


def test_batches_of_rows_are_commit_units(whole):
    sizes = [part.num_rows for part in read_manifest(whole).parts]

    assert sum(sizes) == LIMIT
    assert max(sizes) <= 2 * COMMIT_ROWS
    assert len(sizes) >= LIMIT // (2 * COMMIT_ROWS)


def test_the_kill_landed_in_the_middle_of_the_job(killed):
    assert 0 < killed.committed < LIMIT
    assert killed.attempt == 1


def test_a_second_driver_is_refused_while_the_first_one_lives(killed):
    code, said = killed.second

    assert code == 2
    assert "is being written by process" in said


def test_a_killed_job_resumes_to_exactly_what_an_uninterrupted_one_gives(whole, killed, resumed):
    expected, found = read(whole.out), read(resumed.out)

    assert found.num_rows == LIMIT
    assert found.drop(NOT_DETERMINED).equals(expected.drop(NOT_DETERMINED))
    assert CommitLog(resumed).attempt == killed.attempt + 1
    assert verify(resumed, deep=True) == []
    assert not resumed.lock.exists()


def test_what_was_committed_before_the_kill_was_not_computed_again(killed, resumed):
    attempts = [pq.read_schema(part).metadata[b"dream.attempt"] for part in resumed.parts()]
    rows = [part.num_rows for part in read_manifest(resumed).parts]

    kept = sum(count for count, attempt in zip(rows, attempts, strict=True) if attempt == b"1")
    assert kept >= killed.committed


def test_running_a_finished_job_again_changes_nothing(folder, whole):
    def snapshot():
        files = [path for path in whole.out.rglob("*") if path.is_file()]
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    before = snapshot()

    for given in (arguments(folder, whole.out), ["resume", "-o", whole.out]):
        code, said = call(*given)
        assert (code or 0) == 0
        assert "state    finished" in said

    assert snapshot() == before


@pytest.mark.parametrize(
    ("flag", "value", "line"),
    [
        ("--steps", 8, "steps: 16 -> 8"),
        ("--seed", 4, "seed: 3 -> 4"),
        ("--limit", 5, "limit: 72 -> 5"),
        ("--keep-columns", "n", "keep_columns"),
    ],
)
def test_a_changed_job_is_refused_with_the_difference(folder, whole, flag, value, line):
    code, said = call(*arguments(folder, whole.out, **{flag: value}))

    assert code == 2
    assert line in said


def test_verify_proves_the_output_and_sees_a_part_lost_or_doubled(whole, tmp_path):
    assert call("verify", "-o", whole.out)[0] == 0
    shutil.copytree(whole.out, tmp_path / "out")
    parts = JobFolder(tmp_path / "out").parts()

    shutil.copy(parts[0], parts[0].with_name("part-doubled-00000000-0.parquet"))
    code, said = call("verify", "-o", tmp_path / "out")
    assert code == 1
    assert "part-doubled-00000000-0.parquet" in said

    parts[1].unlink()
    code, said = call("verify", "-o", tmp_path / "out")
    assert code == 1
    assert parts[1].name in said
    assert f"of {LIMIT} rows are there" in said
