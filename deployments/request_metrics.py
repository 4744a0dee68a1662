"""What a request that has ended adds to the metrics."""

from __future__ import annotations

from typing import Literal

from deployments.access_log import RequestRecord
from deployments.metric_sinks import MetricSink

__all__ = ["Outcome", "count_request", "outcome_of"]

Outcome = Literal["ok", "refused", "timeout", "error", "disconnected"]

NO_ROUTE = "none"
"""The endpoint of a request whose path is no route, or that was refused before it was looked up."""

FAILURES = frozenset({"internal_error", "replica_lost"})
"""Errors that are the server's own, also after the status of a stream was sent."""

NOT_REFUSED = FAILURES | {"invalid_api_key", "timeout"}
"""Errors that are no rejections: failures, and what `dream_auth_failures_total` counts."""


def outcome_of(record: RequestRecord) -> Outcome:
    """How a request ended; a stream can fail after its status was sent."""
    if record.has_disconnected:
        return "disconnected"
    if record.error == "timeout":
        return "timeout"
    status = record.status or 500
    if record.error in FAILURES or (record.error is None and status >= 500):
        return "error"
    return "refused" if record.error is not None or status >= 400 else "ok"


def count_request(sink: MetricSink, record: RequestRecord) -> None:
    """Count a request that has ended; its figures where it ran."""
    endpoint, outcome = record.route or NO_ROUTE, outcome_of(record)
    sink.add("dream_requests_total", 1, endpoint=endpoint, outcome=outcome)
    if record.total_ms is not None:
        seconds = record.total_ms / 1000
        sink.observe("dream_request_seconds", seconds, endpoint=endpoint, outcome=outcome)
    if record.first_text_ms is not None:
        seconds = record.first_text_ms / 1000
        sink.observe("dream_time_to_first_text_seconds", seconds, endpoint=endpoint)
    _count_run(sink, record, endpoint)
    _count_safety(sink, record)


def _count_run(sink: MetricSink, record: RequestRecord, endpoint: str) -> None:
    if record.queue_ms is not None and record.denoise_ms is not None:
        sink.observe("dream_queue_seconds", record.queue_ms / 1000, endpoint=endpoint)
        if record.completion_tokens:
            pace = record.denoise_ms / 1000 / record.completion_tokens
            sink.observe("dream_time_per_output_token_seconds", pace, endpoint=endpoint)
    if record.steps is not None and record.forward_passes is not None:
        sink.observe("dream_steps_used", record.forward_passes, endpoint=endpoint)
        saved = max(0, record.steps - record.forward_passes)
        sink.add("dream_early_exit_steps_saved_total", saved)
    if record.cut_by is not None:
        sink.add("dream_step_budget_cut_total", 1, reason=record.cut_by)
    if record.deadline_met is False:
        sink.add("dream_deadline_missed_total", 1)


def _count_safety(sink: MetricSink, record: RequestRecord) -> None:
    if record.has_disconnected:
        phase = "waiting" if record.first_text_ms is None else "streaming"
        sink.add("dream_client_disconnects_total", 1, phase=phase)
    if record.error == "invalid_api_key":
        sink.add("dream_auth_failures_total", 1)
    elif record.error is not None and record.error not in NOT_REFUSED:
        sink.add("dream_rejections_total", 1, reason=record.error)
