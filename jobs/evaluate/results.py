"""results.json: what was measured, in the shape that users of lm-evaluation-harness know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from jobs.evaluate.config import EvalRecord, Variant
from jobs.evaluate.questions import suite_hash
from jobs.evaluate.scoring import Row, Sample
from jobs.evaluate.stats import busy_seconds, paired_difference, stderr, wilson
from jobs.evaluate.suite import Suite

__all__ = ["COSTS", "Entry", "Value", "VariantFacts", "as_results", "group", "tokens_per_second"]

Value = str | int | float | bool | None | list["Value"] | dict[str, "Value"]
"""What JSON holds."""

COSTS = ("forward_passes", "token_forwards")
"""Means that each bucket has beside its score."""


NO_ERROR = "N/A"
"""A standard error there is none of, as lm-evaluation-harness writes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """All samples of one suite at one steps count by one algorithm and order."""

    name: str
    suite: Suite
    steps_asked: str
    variant: Variant
    samples: Sequence[Sample]

    @property
    def metric(self) -> str:
        """The suite's own metric."""
        return next(iter(self.suite.metrics))

    def solved(self, bucket: str | None = None) -> list[bool]:
        """The suite's own score of every sample, or of those of one bucket."""
        return [sample.scores[self.metric] for sample in self._of(bucket)]

    def mean(self, read: Callable[[Row], float | None], bucket: str | None = None) -> float | None:
        """Mean of a value over the rows, or those of one bucket, that have it."""
        return _mean([read(sample.row) for sample in self._of(bucket)])

    def order_mean(self, name: str) -> float | None:
        """Mean of an order metric over the rows that have it."""
        return _mean([sample.order_metrics[name] for sample in self.samples])

    @property
    def num_errors(self) -> int:
        """Rows that were not filled; they count as wrong."""
        return sum(sample.row["status"] != "ok" for sample in self.samples)

    def is_measured(self, bucket: str | None = None) -> bool:
        """Whether any row was filled; where none was, there is no score to report."""
        return any(sample.row["status"] == "ok" for sample in self._of(bucket))

    @property
    def buckets(self) -> list[str]:
        """Every bucket once, in the order of the questions."""
        return list(dict.fromkeys(sample.row["bucket"] for sample in self.samples))

    def _of(self, bucket: str | None) -> list[Sample]:
        return [sample for sample in self.samples if bucket in (None, sample.row["bucket"])]


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantFacts:
    """What the job of a variant recorded about itself."""

    variant: Variant
    fingerprint: str
    weights_sha256: str
    tokenizer_sha256: str
    seconds: float


def group(samples: Sequence[Sample], suites: Sequence[Suite]) -> list[Entry]:
    """Entries in the order of the samples; a name says as much as tells it from the others."""
    by_name = {suite.name: suite for suite in suites}
    found: dict[tuple[str, str, Variant], list[Sample]] = {}
    for sample in samples:
        key = (sample.row["suite"], sample.row["steps_asked"], sample.variant)
        found.setdefault(key, []).append(sample)
    has_many = len({variant for _, _, variant in found}) > 1
    return [
        Entry(
            name=f"{suite}@{steps}" + (f":{variant.name}" if has_many else ""),
            suite=by_name[suite],
            steps_asked=steps,
            variant=variant,
            samples=members,
        )
        for (suite, steps, variant), members in found.items()
    ]


def as_results(
    entries: Sequence[Entry],
    facts: Sequence[VariantFacts],
    record: EvalRecord,
    departures: Sequence[str] | None = None,
) -> dict[str, Value]:
    """The whole of results.json; a function of its arguments alone."""
    seconds = sum(fact.seconds for fact in facts)
    hashes = {entry.suite.name: suite_hash(entry.suite) for entry in entries}
    return {
        "results": {entry.name: _scores(entry) for entry in entries},
        "group_subtasks": {entry.name: [] for entry in entries},
        "differences": _differences(entries, record.spec.seed),
        "configs": {entry.name: _config(entry, record) for entry in entries},
        "versions": {entry.name: entry.suite.version for entry in entries},
        "n-shot": {entry.name: entry.suite.config.get("shots") or 0 for entry in entries},
        "higher_is_better": {e.name: dict.fromkeys(e.suite.metrics, True) for e in entries},
        "n-samples": {
            entry.name: {"original": len(entry.samples), "effective": len(entry.samples)}
            for entry in entries
        },
        "task_hashes": {entry.name: hashes[entry.suite.name] for entry in entries},
        "config": _model_config(facts, record, departures),
        "environment": dict(record.environment),
        "git_hash": record.environment.get("git_hash"),
        "transformers_version": record.environment.get("transformers"),
        "date": record.created_at,
        "total_evaluation_time_seconds": f"{seconds:.3f}",
    }


def tokens_per_second(entry: Entry) -> float | None:
    """Completion tokens by the time in which at least one row of the entry was under way."""
    spans = [
        (row["finished_at"].timestamp(), row["latency_ms"] / 1000)
        for row in (sample.row for sample in entry.samples)
        if row["finished_at"] is not None and row["latency_ms"] is not None
    ]
    busy = busy_seconds([end - lasted for end, lasted in spans], [end for end, _ in spans])
    tokens = sum(sample.row["completion_tokens"] or 0 for sample in entry.samples)
    return tokens / busy if busy else None


def _scores(entry: Entry) -> dict[str, Value]:
    own, n = entry.metric, len(entry.samples)
    low, high = wilson(sum(entry.solved()), n)
    values: dict[str, Value] = {"name": entry.name, "alias": entry.name, "sample_len": n}
    for metric in entry.suite.metrics:
        right = sum(sample.scores[metric] for sample in entry.samples)
        error = stderr(right, n) if entry.is_measured() else None
        values[f"{metric},none"] = right / n if entry.is_measured() else None
        values[f"{metric}_stderr,none"] = NO_ERROR if error is None else error
    for name, end in ((f"{own}_wilson_low", low), (f"{own}_wilson_high", high)):
        values[name] = end if entry.is_measured() else None
    values["num_errors"] = entry.num_errors
    values |= {name: entry.mean(read) for name, read in _MEANS.items()}
    values |= {"tokens_per_second": tokens_per_second(entry)}
    values |= {name: entry.order_mean(name) for name in entry.samples[0].order_metrics}
    values["buckets"] = {bucket: _bucket(entry, bucket) for bucket in entry.buckets}
    return values


def _bucket(entry: Entry, bucket: str) -> dict[str, Value]:
    solved = entry.solved(bucket)
    low, high = wilson(sum(solved), len(solved))
    score = {"acc": sum(solved) / len(solved), "wilson_low": low, "wilson_high": high}
    cost = {name: entry.mean(_MEANS[name], bucket) for name in COSTS}
    if not entry.is_measured(bucket):
        return {"n": len(solved), **dict.fromkeys(score), **cost}
    return {"n": len(solved), **score, **cost}


def _differences(entries: Sequence[Entry], seed: int) -> list[Value]:
    """Each entry against the first variant's at the same suite and steps, question by question."""
    found: list[Value] = []
    first: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        base = first.setdefault((entry.suite.name, entry.steps_asked), entry)
        if base is entry or not (base.is_measured() and entry.is_measured()):
            continue
        solved = [np.array(e.solved(), np.bool_) for e in (base, entry)]
        gap = paired_difference(solved[0], solved[1], seed=seed)
        names: dict[str, Value] = {"of": entry.name, "from": base.name}
        found.append(names | {"mean": gap.mean, "low": gap.low, "high": gap.high})
    return found


def _config(entry: Entry, record: EvalRecord) -> dict[str, Value]:
    spec = record.spec
    params = spec.sampling_of(entry.variant)
    sampling: dict[str, Value] = asdict(params) | {"steps": entry.steps_asked}
    del sampling["seed"]  # every row has its own
    metrics: list[Value] = [
        {"metric": name, "aggregation": "mean", "higher_is_better": True}
        for name in entry.suite.metrics
    ]
    return {
        "task": entry.suite.name,
        "metric_list": metrics,
        "generation_kwargs": sampling,
        "metadata": {"version": entry.suite.version, **entry.suite.config},
    }


def _model_config(
    facts: Sequence[VariantFacts], record: EvalRecord, departures: Sequence[str] | None
) -> dict[str, Value]:
    spec, engine = record.spec, record.spec.engine()
    return {
        "model": "dream",
        "model_args": {"pretrained": spec.model, "dtype": engine.dtype, "device": engine.device},
        "device": engine.device,
        "dtype": engine.dtype,
        "weights_sha256": facts[0].weights_sha256,
        "tokenizer_sha256": facts[0].tokenizer_sha256,
        "seed": spec.seed,
        "preset": spec.preset,
        "departures": None if departures is None else list(departures),
        "replicas": spec.replicas,
        "fingerprints": {fact.variant.name: fact.fingerprint for fact in facts},
    }


def _tokens_per_forward(row: Row) -> float | None:
    passes, steps = row["forward_passes"], row["commit_steps"]
    if not passes or steps is None:
        return None
    return sum(step is not None for step in steps) / passes


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


_MEANS: Mapping[str, Callable[[Row], float | None]] = {
    "steps": lambda row: row["steps"],
    "forward_passes": lambda row: row["forward_passes"],
    "token_forwards": lambda row: row["token_forwards"],
    "completion_tokens": lambda row: row["completion_tokens"],
    "tokens_per_forward": _tokens_per_forward,
    "mean_confidence": lambda row: row["mean_confidence"],
}
"""Means over the rows of an entry that were filled."""
