"""Log-probabilities of committed tokens in OpenAI's two shapes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from deployments.messages import FilledHole, TokenReport

__all__ = ["ChatLogprobs", "CompletionLogprobs", "chat_logprobs", "completion_logprobs"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TopLogprob(_Part):
    """One of the most probable tokens of a position."""

    token: str
    bytes: list[int]
    logprob: float


class TokenLogprob(TopLogprob):
    """The token that was committed, at the step that committed it."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(_Part):
    """Of each token of the answer; natural logarithms, before temperature and filters."""

    content: list[TokenLogprob]
    refusal: None = None


class CompletionLogprobs(_Part):
    """The same as columns; a token that an early exit filled has none."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


def chat_logprobs(hole: FilledHole) -> ChatLogprobs | None:
    """What a chat shows; None where nobody asked."""
    if hole.logprobs is None:
        return None
    return ChatLogprobs(content=[_token(report) for report in hole.logprobs])


def completion_logprobs(hole: FilledHole) -> CompletionLogprobs | None:
    """What a completion shows; None where nobody asked."""
    if hole.logprobs is None:
        return None
    reports = hole.logprobs
    texts = [_text(report.data) for report in reports]
    joined = [b"".join(report.data for report in reports[:n]) for n in range(len(reports))]
    offsets = [len(data.decode("utf-8", "ignore")) for data in joined]
    tops = [{_text(data): value for data, value in report.top} for report in reports]
    return CompletionLogprobs(
        tokens=texts,
        token_logprobs=[report.logprob for report in reports],
        top_logprobs=tops if any(tops) else None,
        text_offset=offsets,
    )


def _token(report: TokenReport) -> TokenLogprob:
    tops = [
        TopLogprob(token=_text(data), bytes=list(data), logprob=value) for data, value in report.top
    ]
    return TokenLogprob(
        token=_text(report.data),
        bytes=list(report.data),
        logprob=report.logprob,
        top_logprobs=tops,
    )


def _text(data: bytes) -> str:
    """The text of a token; OpenAI's notation of its bytes where they are no whole characters."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
