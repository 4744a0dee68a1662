"""Read, select, repartition, fill, write: the one Ray Data plan of a job."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.data.checkpoint import CheckpointConfig
from ray.exceptions import RayActorError, RayError

from jobs.common.errors import JobError
from jobs.fill.parts import PartNames
from jobs.fill.stages import GenerateRows, StagePlan, select_rows

__all__ = ["build", "configured", "write"]

BLOCKS_IN_FLIGHT = 4
"""Blocks that one engine works on at once, so that its batch stays full between two of them."""

RETRIES = 3
"""How often a commit batch is begun again after its replica died, before the job fails."""

ROW_GROUP_ROWS = 8192
FILTER_BYTES = 256 * 2**20
"""Least memory the checkpoint filter asks for; it holds 8 bytes for each committed row."""


def build(plan: StagePlan, read_schema: pa.Schema) -> Dataset:
    """Everything up to the write: one row out for each row in.

    No limit, filter, shuffle or sort of Ray's: the ledger knows rows by (file, position), and
    rows that end without an output would be computed again at every resume.
    """
    spec = plan.spec
    engine = spec.engine()
    on_gpu = engine.device.startswith("cuda")
    is_sharded = engine.tensor_parallel > 1  # then each rank holds what a replica holds otherwise
    rows = _read(plan, read_schema)
    with warnings.catch_warnings():
        # Ray 2.60 has no named parameter for max_task_retries yet.
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        return rows.map_batches(
            GenerateRows,
            fn_constructor_args=(plan,),
            batch_size=spec.commit_rows,
            batch_format="pyarrow",
            num_cpus=0 if is_sharded else None if on_gpu else engine.threads,
            num_gpus=1 if on_gpu and not is_sharded else None,
            max_task_retries=RETRIES,
            udf_modifying_row_count=False,
            compute=ActorPoolStrategy(
                size=spec.replicas,
                max_concurrent_calls_per_actor=BLOCKS_IN_FLIGHT,
                max_tasks_in_flight_per_actor=2 * BLOCKS_IN_FLIGHT,
            ),
        )


def write(rows: Dataset, data: Path, schema: pa.Schema) -> None:
    """Run the plan; each commit batch is committed as soon as its part is written."""
    with warnings.catch_warnings():
        # Ray only warns when a plan cannot be checkpointed, and then runs it without.
        warnings.filterwarnings("error", message="You've enabled checkpointing")
        try:
            rows.write_parquet(
                str(data),
                filename_provider=PartNames(),
                schema=schema,
                compression="zstd",
                write_page_checksum=True,
                row_group_size=ROW_GROUP_ROWS,
            )
        except RayError as error:
            raise JobError(f"the rows could not be filled: {_reason(error)}") from error


def _read(plan: StagePlan, read_schema: pa.Schema) -> Dataset:
    """The wanted rows with their row_hash, in blocks of one commit batch."""
    rows = ray.data.read_parquet(
        [file.path for file in plan.files],
        schema=read_schema,
        partitioning=None,
        include_row_hash=True,
    ).select_columns([*plan.columns.read, "row_hash"])
    if plan.spec.limit is not None:
        limited = partial(select_rows, files=plan.files, limit=plan.spec.limit)
        rows = rows.map_batches(limited, batch_format="pyarrow")
    return rows.repartition(target_num_rows_per_block=plan.spec.commit_rows)


def _reason(error: RayError) -> str:
    """What a remote traceback ends with: the error itself."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1] if lines else type(error).__name__
    if isinstance(error, RayActorError) and "creation task" not in str(error):
        reason += (
            f" (a replica died {RETRIES + 1} times over the same rows; resume goes on, and if it "
            "ends like this again, one of the rows not yet committed ends the engine)"
        )
    return reason


@contextmanager
def configured(ledger: Path) -> Iterator[None]:
    """Ray Data as a job wants it while the body runs, with what is committed left out."""
    checkpoint = CheckpointConfig(
        id_column="row_hash", checkpoint_path=str(ledger), delete_checkpoint_on_success=False
    )
    checkpoint.checkpoint_actor_memory_bytes = FILTER_BYTES
    checkpoint.checkpoint_actor_pool_max_size = 1  # each takes a CPU; a look-up is cheap
    context = DataContext.get_current().copy()
    context.checkpoint_config = checkpoint
    context.max_errored_blocks = 0
    context.max_consecutive_actor_init_deaths = 0
    context.actor_init_retry_on_errors = False
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    levels = {"ray.data": logging.WARNING, "ray.data._internal.progress": logging.ERROR}
    before = {name: logging.getLogger(name).level for name in levels}
    try:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        with DataContext.current(context):
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
