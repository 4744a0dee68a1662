"""One request as its client saw it: when what came, read from a stream or from a whole answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Answer", "Outcome"]

_DENOISE = re.compile(r"\bdenoise;dur=([0-9.]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Seconds since the request was sent; None where there is no such thing.

    error: why it failed. denoise_s: from the end of its first step to the answer. num_events:
    steps or snapshots that the stream showed.
    """

    error: str | None = None
    e2el_s: float
    ttfe_s: float | None = None
    ttft_s: float | None = None
    denoise_s: float | None = None
    num_events: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    token_forwards: int = 0

    @property
    def tpot_s(self) -> float | None:
        """Denoise time for each token."""
        if self.denoise_s is None or not self.completion_tokens:
            return None
        return self.denoise_s / self.completion_tokens


@dataclass(slots=True)
class Answer:
    """Collects what arrives, in seconds since the request was sent."""

    _first_event_s: float | None = None
    _first_text_s: float | None = None
    _first_news_s: float | None = None
    _denoise_s: float | None = None
    _num_events: int = 0
    _usage: Mapping[str, Any] = field(default_factory=dict)
    _error: str | None = None
    _is_over: bool = False

    def line(self, line: bytes, now_s: float) -> None:
        """Take a line of a stream; comments and empty lines tell nothing."""
        if not line.startswith(b"data: "):
            return
        data = line[6:].strip()
        if data == b"[DONE]":
            self._is_over = True
            return
        self._first_event_s = now_s if self._first_event_s is None else self._first_event_s
        self._event(json.loads(data), now_s)

    def body(self, body: bytes, timing: str) -> None:
        """Take a whole answer and its `server-timing`."""
        self._usage = json.loads(body)["usage"]
        self._is_over = True
        if found := _DENOISE.search(timing):
            self._denoise_s = float(found[1]) / 1000

    def fail(self, why: str) -> None:
        """Note that it failed."""
        self._error = why

    def outcome(self, now_s: float) -> Outcome:
        """What came of it, now that nothing comes any more."""
        error = self._error or (None if self._is_over else "the stream ended early")
        denoise_s = self._denoise_s
        if denoise_s is None and self._first_news_s is not None:
            denoise_s = now_s - self._first_news_s
        return Outcome(
            error=error,
            e2el_s=now_s,
            ttfe_s=self._first_event_s,
            ttft_s=self._first_text_s,
            denoise_s=denoise_s,
            num_events=self._num_events,
            prompt_tokens=self._usage.get("prompt_tokens", 0),
            completion_tokens=self._usage.get("completion_tokens", 0),
            token_forwards=self._usage.get("diffusion", {}).get("token_forwards", 0),
        )

    def _event(self, chunk: Mapping[str, Any], now_s: float) -> None:
        if "error" in chunk:
            self._error = str(chunk["error"].get("code"))
            return
        told = (chunk.get("diffusion") or {}).get("event")
        has_text = any(_text(choice) for choice in chunk["choices"])
        if told in ("step", "snapshot"):
            self._num_events += 1
        if has_text and self._first_text_s is None:
            self._first_text_s = now_s
        if self._first_news_s is None and (has_text or told in ("step", "snapshot")):
            self._first_news_s = now_s
        self._usage = chunk.get("usage") or self._usage


def _text(choice: Mapping[str, Any]) -> str:
    return choice.get("text") or (choice.get("delta") or {}).get("content") or ""
