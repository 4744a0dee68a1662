"""What the driver of an evaluation reads of its jobs."""

from __future__ import annotations

import json

import pytest

from jobs.common.errors import JobError
from jobs.evaluate import driver
from jobs.evaluate.config import EvalFolder, EvalRecord, EvalSpec
from jobs.evaluate.suites import build_suites
from jobs.fill.ledger import JobFolder
from tests.jobs.fill.jobfolder import begin


def test_the_time_at_work_is_that_of_every_attempt_without_the_pauses_between(tmp_path):
    events = [("started", 10), ("progress", 20), ("started", 100), ("progress", 104)]
    events += [("finished", 105), ("started", 200)]
    folder = JobFolder(tmp_path)
    folder.meta.mkdir()
    lines = [json.dumps({"time": time, "event": event}) for event, time in events]
    (folder.meta / "events.jsonl").write_text("\n".join(lines) + "\n")

    assert driver._seconds_at_work(folder) == 10 + 5


def test_variants_by_different_weights_are_not_put_into_one_result(tmp_path, monkeypatch):
    spec = EvalSpec(
        suite="lists", model="embedded", output=str(tmp_path), num=2, order="confidence,random"
    )
    suites = build_suites(spec.suite, spec.options())
    record = EvalRecord(created_at=1, spec=spec, identity={}, environment={})
    folder = EvalFolder(tmp_path)
    for variant in spec.variants:
        job, _ = begin(folder.job(variant), 2)
        record_of_job = json.loads((job.meta / "job.json").read_text())
        record_of_job["identity"] |= {"weights_sha256": variant.order, "tokenizer_sha256": "t"}
        (job.meta / "job.json").write_text(json.dumps(record_of_job))
        job.log("started")
    monkeypatch.setattr(driver, "score_variant", lambda *_: [])

    with pytest.raises(JobError, match="changed between two variants"):
        driver._report(folder, record, suites)
