"""One JSON line for each request: who called what, how it ended and what it cost.

A line has no text of the caller: no prompt, no key, no path, none of `user` and `metadata`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, cast

from starlette.requests import HTTPConnection

from dream.request import Priority

if TYPE_CHECKING:
    from deployments.messages import CanvasRequest, CanvasResult
    from deployments.responses import ResponseUsage

__all__ = ["ACCESS_LOG", "RequestRecord", "log_request", "record_of", "write_access_log"]

ACCESS_LOG = "dream.access"
"""The name of the logger, which writes to standard output unless it was given handlers."""


@dataclass(slots=True, kw_only=True)
class RequestRecord:
    """What is known of one request. The gate makes and logs it; endpoints fill in the figures.

    Figures from `prompt_tokens` to `denoise_ms` are None where nothing ran. `queue_ms` and
    `denoise_ms` stand in the response's head if they are known before its first byte.
    `token_forwards` is charged to the key: once when the head is sent, and what it has grown by
    when the request ends. key: the key's name; priority: of its requests. route: the template of
    the path, None where none matched or the caller was refused before. status: 499 where the caller
    hung up before it had one. error: the code of what it was told instead of an answer,
    also at the end of a stream. has_text: whether a stream has sent text; first_text_ms: when.
    cut_by: why it had fewer steps than it asked for.
    """

    id: str
    method: str
    key: str | None = None
    priority: Priority = "interactive"
    route: str | None = None
    status: int | None = None
    error: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    steps: int | None = None
    forward_passes: int | None = None
    token_forwards: int | None = None
    queue_ms: float | None = None
    denoise_ms: float | None = None
    first_text_ms: float | None = None
    total_ms: float | None = None
    deadline_met: bool | None = None
    cut_by: Literal["deadline", "elastic"] | None = None
    is_stream: bool = False
    has_disconnected: bool = False
    has_text: bool = False

    def count(self, usage: ResponseUsage) -> None:
        """Take the figures of an answer, which count towards the limits of the key."""
        self.prompt_tokens = usage.prompt_tokens
        self.completion_tokens = usage.completion_tokens
        self.steps = usage.diffusion.steps
        self.forward_passes = usage.diffusion.forward_passes
        self.token_forwards = usage.diffusion.token_forwards

    def time(self, messages: Sequence[CanvasRequest], results: Sequence[CanvasResult]) -> None:
        """Take the times of an answer, and whether they were short."""
        self.queue_ms = 1000 * max(result.queue_s for result in results)
        self.denoise_ms = 1000 * max(result.denoise_s for result in results)
        in_time = [result.is_in_time for result in results if result.is_in_time is not None]
        self.deadline_met = all(in_time) if in_time else None
        if any(map(_is_cut, messages, results)):
            self.cut_by = "elastic" if messages[0].due_at is None else "deadline"


def record_of(request: HTTPConnection) -> RequestRecord:
    """The record of the request that an endpoint or a handler of errors has in its hands."""
    return cast(RequestRecord, request.state.record)


def _is_cut(message: CanvasRequest, result: CanvasResult) -> bool:
    """Whether a canvas had fewer steps than were asked for."""
    asked = message.params.steps or message.template.num_masked
    if message.timetable:
        asked = message.timetable[-1][1]
    is_elastic = message.is_elastic or message.due_at is not None
    return is_elastic and result.usage.steps < asked


def log_request(record: RequestRecord) -> None:
    """Write the line of a request that has ended."""
    logging.getLogger(ACCESS_LOG).info("request", extra={"request": asdict(record)})


def write_access_log() -> None:
    """Have lines written to standard output, unless the logger has handlers already."""
    logger = logging.getLogger(ACCESS_LOG)
    if not logger.handlers:
        handler = _StandardOutput()
        handler.setFormatter(JsonLines())
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False


class JsonLines(logging.Formatter):
    """A request as one line of JSON; `time` is when it ended, in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return json.dumps({"time": time} | getattr(record, "request", {}))


class _StandardOutput(logging.Handler):
    """Prints to what standard output is at that moment, which Serve and tests replace."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), flush=True)
