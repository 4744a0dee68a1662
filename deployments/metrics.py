"""What the server tells Prometheus: every metric, declared once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from dream.engine.step_times import SECONDS, TOKENS

__all__ = ["LEFT_OUT", "METRICS", "SERVE_LABELS", "Group", "Metric", "tokens_bucket"]

Group = Literal["requests", "load", "engine", "waste", "budget", "safety", "start"]

REQUEST_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
TOKEN_SECONDS = (0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)
STEPS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0)

SERVE_LABELS = ("application", "deployment", "replica")
"""Ray Serve adds these to every metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric. labels: beside Serve's own. buckets: upper bounds of a histogram, inclusive.

    source: which deployment exports it.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    group: Group
    source: Literal["Ingress", "DreamReplica"]
    about: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def scraped(self) -> tuple[str, ...]:
        """Its names in what Prometheus reads."""
        endings = ("_bucket", "_sum", "_count") if self.kind == "histogram" else ("",)
        return tuple(f"ray_{self.name}{ending}" for ending in endings)


def tokens_bucket(index: int) -> str:
    """The label of the `index`-th bucket of a step's packed tokens."""
    return str(TOKENS[index]) if index < len(TOKENS) else f"more than {TOKENS[-1]}"


def _of_requests(name: str, about: str, *labels: str) -> Metric:
    return Metric(
        name=name, kind="counter", group="requests", source="Ingress", about=about, labels=labels
    )


def _seconds(name: str, about: str, buckets: tuple[float, ...], *labels: str) -> Metric:
    return Metric(
        name=name,
        kind="histogram",
        group="requests",
        source="Ingress",
        about=about,
        labels=labels,
        buckets=buckets,
    )


def _counter(group: Group, name: str, about: str) -> Metric:
    return Metric(name=name, kind="counter", group=group, source="DreamReplica", about=about)


def _gauge(group: Group, name: str, about: str, *labels: str) -> Metric:
    return Metric(
        name=name, kind="gauge", group=group, source="DreamReplica", about=about, labels=labels
    )


def _at_the_door(group: Group, name: str, about: str, *labels: str) -> Metric:
    return Metric(
        name=name, kind="counter", group=group, source="Ingress", about=about, labels=labels
    )


_ALL = (
    _of_requests(
        "dream_requests_total",
        "Requests that have ended; outcome: ok, refused, timeout, error or disconnected",
        "endpoint",
        "outcome",
    ),
    _seconds(
        "dream_request_seconds",
        "From the head of a request to the end of its answer",
        REQUEST_SECONDS,
        "endpoint",
        "outcome",
    ),
    _seconds(
        "dream_queue_seconds",
        "From a replica's receipt of a request until its first step is done",
        REQUEST_SECONDS,
        "endpoint",
    ),
    _seconds(
        "dream_time_to_first_text_seconds",
        "Of a stream: from the head of the request to the first text",
        REQUEST_SECONDS,
        "endpoint",
    ),
    _seconds(
        "dream_time_per_output_token_seconds",
        "Time of denoising over completion tokens",
        TOKEN_SECONDS,
        "endpoint",
    ),
    _gauge("load", "dream_requests_running", "Canvases that have had a step and are not filled"),
    _gauge("load", "dream_requests_waiting", "Canvases that wait for their first step"),
    _gauge(
        "load",
        "dream_token_forwards_queued",
        "Canvas tokens x forward passes still to run, at most: what autoscaling goes by",
    ),
    Metric(
        name="dream_step_seconds",
        kind="histogram",
        group="engine",
        source="DreamReplica",
        about="One packed forward, by the upper bound of its tokens",
        labels=("tokens_bucket",),
        buckets=SECONDS,
    ),
    _counter("engine", "dream_busy_seconds_total", "Seconds inside steps"),
    _counter("engine", "dream_forward_passes_total", "Packed forwards, each of many canvases"),
    _counter("engine", "dream_denoising_steps_total", "Forwards, counted once for each canvas"),
    _counter("engine", "dream_token_forwards_total", "Canvas tokens computed: the unit of cost"),
    _counter(
        "engine", "dream_canvas_positions_total", "Positions in holes, counted at each forward"
    ),
    _counter("engine", "dream_committed_tokens_total", "Masks filled by a step"),
    _gauge(
        "waste",
        "dream_canvas_occupancy_ratio",
        "Tokens of a step over max_num_batched_tokens, mean since the last export with steps",
    ),
    _gauge(
        "waste",
        "dream_masked_fraction",
        "Computed tokens whose logits were needed, as a share, since the last export with steps",
    ),
    _at_the_door(
        "waste",
        "dream_early_exit_steps_saved_total",
        "Steps of timetables that took no forward: after an end token, by a commit rule, or empty",
    ),
    Metric(
        name="dream_steps_used",
        kind="histogram",
        group="budget",
        source="Ingress",
        about="Forward passes of a request, over all its canvases",
        labels=("endpoint",),
        buckets=STEPS,
    ),
    _at_the_door(
        "budget",
        "dream_step_budget_cut_total",
        "Requests served with fewer steps than asked; reason: deadline or elastic",
        "reason",
    ),
    _at_the_door(
        "budget", "dream_deadline_missed_total", "Requests answered after their deadline_ms"
    ),
    _at_the_door(
        "safety", "dream_rejections_total", "Requests refused; reason: code of the error", "reason"
    ),
    _at_the_door("safety", "dream_auth_failures_total", "Requests without a key of this server"),
    _at_the_door(
        "safety",
        "dream_client_disconnects_total",
        "Callers that hung up; phase: waiting, or streaming once text was sent",
        "phase",
    ),
    _gauge(
        "safety",
        "dream_canvas_leaks",
        "Canvases in the engine that nobody waits for, at two exports in a row: must be 0",
    ),
    _gauge("start", "dream_load_seconds", "How long the engine took to load and warm up"),
    _gauge(
        "start",
        "dream_device_memory_bytes",
        "Memory of the engine's process; kind: resident on a CPU, allocated and reserved on a GPU",
        "kind",
    ),
)

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _ALL}

LEFT_OUT: Mapping[str, str] = {
    "inter-token latency": "A diffusion model fills tokens in any order and several at once.",
    "dream_time_to_first_step_seconds": "`dream_queue_seconds` ends with the first step.",
    "dream_tokens_per_forward": "A ratio of two counters: "
    "`dream_committed_tokens_total / dream_denoising_steps_total`.",
    "dream_compile_seconds": "Nothing is compiled; capturing CUDA graphs is part of the first "
    "steps of each size.",
    "batch_bucket, len_bucket": "Canvases are packed without padding, so a step's time follows "
    "its tokens: `tokens_bucket`.",
    "model, quality": "An application serves one model, so `application` tells it; a quality is "
    "steps, and `dream_steps_used` has these.",
}
"""Metrics and labels that other servers have and this one does not, and why."""
