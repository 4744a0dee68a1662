"""From an evaluation's settings to its results: ask, answer, score, write."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from jobs.common.errors import JobError, Refused, Stopped
from jobs.common.files import write_if_changed
from jobs.common.fingerprint import differences
from jobs.common.lock import Lock
from jobs.common.output import refuse_foreign, refuse_written, set_aside
from jobs.common.session import ray_session, row_needs
from jobs.evaluate.config import EvalFolder, EvalRecord, EvalSpec, Variant
from jobs.evaluate.curves import pictures
from jobs.evaluate.departures import departures, refuse_without_data
from jobs.evaluate.environment import environment
from jobs.evaluate.questions import InputFile, input_files, refuse_trivial
from jobs.evaluate.results import Entry, Value, VariantFacts, as_results, group
from jobs.evaluate.scoring import Sample, samples_as_parquet, score_variant
from jobs.evaluate.suite import Suite
from jobs.evaluate.suites import build_suites
from jobs.fill import drive
from jobs.fill.ledger import JobFolder
from jobs.fill.preflight import model_folder

__all__ = ["Evaluation", "evaluate"]


class Evaluation(NamedTuple):
    """What was measured: results.json, the entries it was made of, departures from the preset."""

    results: dict[str, Value]
    entries: list[Entry]
    departures: list[str] | None


def evaluate(spec: EvalSpec, *, overwrite: bool = False, break_lock: bool = False) -> Evaluation:
    """Begin an evaluation, or go on with the same one; what is done is not done again."""
    folder = EvalFolder(Path(spec.output))
    refuse_without_data(spec)
    suites = build_suites(spec.suite, spec.options())
    for suite in suites:
        refuse_trivial(suite, spec)
    model_folder(spec)
    if overwrite:
        _move_away(folder)
    record = _begin(folder, spec, suites, break_lock=break_lock)
    _fill(folder, spec, break_lock=break_lock)
    return _report(folder, record, suites)


def _begin(
    folder: EvalFolder, spec: EvalSpec, suites: Sequence[Suite], *, break_lock: bool
) -> EvalRecord:
    """Write what is asked; refuses a folder that was begun as anything else."""
    files = input_files(suites, spec.steps, spec.seed)
    identity = spec.identity() | {"questions_sha256": _digest(files)}
    if not folder.record.is_file():
        refuse_foreign(folder.out, folder.meta)
    with Lock(folder.lock, break_it=break_lock):
        if not folder.record.is_file():
            record = EvalRecord(
                created_at=round(time.time(), 3),
                spec=spec,
                identity=identity,
                environment=environment(),
            )
            write_if_changed(folder.record, (record.model_dump_json(indent=1) + "\n").encode())
        record = folder.read_record()
        if lines := differences(record.identity, identity):
            raise Refused(
                f"{folder.out} holds an evaluation with other settings; nothing was changed:\n  "
                + "\n  ".join(lines)
                + "\nwrite to another --out, or move it away with --overwrite"
            )
        for file in files:
            write_if_changed(folder.input / file.name, file.content)
    return record


def _fill(folder: EvalFolder, spec: EvalSpec, *, break_lock: bool) -> None:
    """Drive every job to its end, one after the other, on one Ray."""
    jobs = [spec.job(variant) for variant in spec.variants]
    is_done = all(JobFolder(Path(job.output)).success.exists() for job in jobs)
    session: AbstractContextManager[None] = (
        nullcontext() if is_done else ray_session(row_needs(spec))
    )
    try:
        with session:
            for variant, job in zip(spec.variants, jobs, strict=True):
                if not JobFolder(Path(job.output)).success.exists():
                    print(f"variant {variant.name}", file=sys.stderr, flush=True)
                drive.run(job, break_lock=break_lock)
    except Stopped as error:
        raise Stopped(
            f"{error}\nor give the same evaluate command again, for all variants"
        ) from error


def _report(folder: EvalFolder, record: EvalRecord, suites: Sequence[Suite]) -> Evaluation:
    """Score every row and write samples, plots and results; files that hold them already stay."""
    spec = record.spec
    samples: list[Sample] = []
    facts: list[VariantFacts] = []
    for variant in spec.variants:
        job = JobFolder(folder.job(variant))
        scored = score_variant(job, variant, suites, spec.steps)
        write_if_changed(folder.samples(variant), samples_as_parquet(scored))
        samples += scored
        facts.append(_facts(job, variant))
    if len({fact.weights_sha256 for fact in facts}) > 1:
        raise JobError(f"{spec.model} changed between two variants: begin again with --overwrite")
    entries = group(samples, suites)
    departed = departures(spec, suites)
    results = as_results(entries, facts, record, departed)
    for name, picture in pictures(entries, spec.model).items():
        write_if_changed(folder.plot(name, "png"), picture.png)
        write_if_changed(folder.plot(name, "svg"), picture.svg)
    text = json.dumps(results, indent=1, ensure_ascii=False) + "\n"
    write_if_changed(folder.results, text.encode("utf-8"))
    return Evaluation(results, entries, departed)


def _facts(job: JobFolder, variant: Variant) -> VariantFacts:
    record = job.read_record()
    return VariantFacts(
        variant=variant,
        fingerprint=record.fingerprint,
        weights_sha256=str(record.identity["weights_sha256"]),
        tokenizer_sha256=str(record.identity["tokenizer_sha256"]),
        seconds=_seconds_at_work(job),
    )


def _seconds_at_work(job: JobFolder) -> float:
    """Time between the first and the last event of every attempt together."""
    lines = (job.meta / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    starts = [place for place, event in enumerate(events) if event["event"] == "started"]
    ends = [*(start - 1 for start in starts[1:]), len(events) - 1]
    pairs = zip(starts, ends, strict=True)
    return sum(float(events[end]["time"] - events[start]["time"]) for start, end in pairs)


def _move_away(folder: EvalFolder) -> None:
    if not folder.out.exists():
        return
    for lock in (folder.lock, *folder.out.glob("variants/*/_dream/lock.json")):
        refuse_written(folder.out, lock)
    if not folder.record.is_file():
        refuse_foreign(folder.out, folder.meta)
    set_aside(folder.out)


def _digest(files: Sequence[InputFile]) -> str:
    return sha256(b"".join(sha256(file.content).digest() for file in files)).hexdigest()
