"""From a spec to a finished output: look first, lock, drive what is missing, prove, finish."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from jobs.common.errors import Refused, RowsFailed
from jobs.common.lock import Lock
from jobs.common.output import refuse_foreign, refuse_written, set_aside
from jobs.common.session import ray_session, row_needs
from jobs.fill.config import JobRecord, JobSpec
from jobs.fill.inputs import refuse_changed
from jobs.fill.ledger import CommitLog, JobFolder
from jobs.fill.manifest import finalize
from jobs.fill.preflight import Preflight, preflight
from jobs.fill.report import Tally, display
from jobs.fill.rows import output_schema
from jobs.fill.watch import watched

__all__ = ["resume", "run"]


def run(spec: JobSpec, *, overwrite: bool = False, break_lock: bool = False) -> JobFolder:
    """Begin a job, or go on with the same one; a finished one is left as it is."""
    folder = JobFolder(Path(spec.output))
    found = preflight(spec)
    if overwrite:
        _move_away(folder)
    _drive(folder, found, break_lock=break_lock)
    return folder


def resume(out: Path, *, replicas: int | None = None, break_lock: bool = False) -> JobFolder:
    """Go on with a job exactly as it was begun, from any directory."""
    folder = JobFolder(Path(os.path.abspath(out)))
    spec = folder.read_record().spec
    if not folder.success.exists():
        changed = {"output": str(folder.out)} | ({"replicas": replicas} if replicas else {})
        _drive(folder, preflight(spec.model_copy(update=changed)), break_lock=break_lock)
    return folder


def _drive(folder: JobFolder, found: Preflight, *, break_lock: bool) -> None:
    if folder.is_job:
        found.refuse_other(folder.read_record())
        if folder.success.exists():
            return
    else:
        refuse_foreign(folder.out, folder.meta)
    with Lock(folder.lock, break_it=break_lock) as lock:
        if not folder.is_job:
            folder.begin(found.new_record(), found.inputs.as_table())
        record = folder.read_record()
        found.refuse_other(record)  # another driver may have begun between the look and the lock
        log = CommitLog(folder)
        log.check()
        tally = Tally(folder)
        tally.update()
        if tally.damaged:
            raise Refused("; ".join(tally.damaged))
        folder.log("started", rows_committed=tally.num_rows, attempt=log.attempt + 1)
        _fail_with_rows(found.spec, tally)
        if tally.num_rows < record.num_rows:
            _fill_rows(folder, record, found, lock, tally)
            _fail_with_rows(found.spec, tally)
        refuse_changed(folder.meta / "inputs.parquet")
        finalize(folder, record)
        folder.log("finished", rows_committed=tally.num_rows)


def _fill_rows(
    folder: JobFolder, record: JobRecord, found: Preflight, lock: Lock, tally: Tally
) -> None:
    with ray_session(row_needs(found.spec)):
        from jobs.fill import pipeline  # imports Ray, which reads the session's environment
        from jobs.fill.stages import StagePlan

        def checks() -> None:
            lock.beat()
            _fail_with_rows(found.spec, tally)

        log = CommitLog(folder)
        ledger = log.take_over()
        schema = output_schema(found.inputs.schema, found.columns)
        plan = StagePlan(
            spec=found.spec,
            columns=found.columns,
            files=found.inputs.first_rows(found.spec.limit),
            schema=schema,
        )
        footer = found.provenance(record, log.attempt)
        shown = display(record.num_rows, sys.stderr)
        with pipeline.configured(ledger), watched(folder, tally, shown, checks):
            rows = pipeline.build(plan, found.inputs.schema)
            pipeline.write(rows, folder.data, schema.with_metadata(footer))


def _move_away(folder: JobFolder) -> None:
    if not folder.out.exists():
        return
    refuse_written(folder.out, folder.lock)
    if not folder.is_job:
        refuse_foreign(folder.out, folder.meta)
    set_aside(folder.out)


def _fail_with_rows(spec: JobSpec, tally: Tally) -> None:
    if spec.on_row_error == "fail" and tally.num_failed:
        raise RowsFailed(
            f"{tally.num_failed} of {tally.num_rows} rows failed; the same run with "
            "--on-row-error keep goes on and keeps them as error rows"
        )
