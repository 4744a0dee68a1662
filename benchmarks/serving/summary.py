"""The numbers of a run, and the table that shows them as `vllm bench serve` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.serving.alone import Alone
from benchmarks.serving.client import Run
from benchmarks.serving.outcome import Outcome
from benchmarks.serving.settings import METRICS, Settings

__all__ = ["Spread", "Summary", "spread", "summarize", "table"]

WIDTH = 58


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Milliseconds of one metric; percentiles by their number, such as "99"."""

    mean: float
    median: float
    percentiles: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Of the requests that succeeded; rates count a second of the whole run.

    cpu_ms: processor milliseconds a request of proxy, ingress and replica, where they run here.
    cpu_us_per_token: of all of them, for each mask there was, as tokens behind an EOS are not among
    `completion_tokens`. alone_us_per_token: of the engine without HTTP.
    """

    successful: int
    failed: int
    errors: Mapping[str, int]
    duration_s: float
    prompt_tokens: int
    completion_tokens: int
    token_forwards: int
    events: int
    request_rate: float
    output_rate: float
    token_forward_rate: float
    event_rate: float
    metrics: Mapping[str, Spread | None]
    cpu_ms: Mapping[str, float] = field(default_factory=dict)
    cpu_us_per_token: float | None = None
    alone_us_per_token: float | None = None


def spread(seconds: Sequence[float], percentiles: Sequence[float]) -> Spread | None:
    """None where nothing was measured."""
    if not seconds:
        return None
    ms = 1000 * np.array(seconds)
    return Spread(
        mean=float(ms.mean()),
        median=float(np.median(ms)),
        percentiles={f"{p:g}": float(np.percentile(ms, p)) for p in percentiles},
    )


def summarize(
    run: Run, settings: Settings, cpu: Mapping[str, float], alone: Alone | None = None
) -> Summary:
    """cpu: processor seconds of each role during the run, without its warm-up."""
    good = [one for one in run.outcomes if one.error is None]
    errors = [one.error for one in run.outcomes if one.error is not None]
    tokens = sum(one.completion_tokens for one in good)
    forwards = sum(one.token_forwards for one in good)
    events = sum(one.num_events for one in good)
    masks = len(good) * settings.output_len
    is_counted = bool(cpu) and not errors
    return Summary(
        successful=len(good),
        failed=len(errors),
        errors={error: errors.count(error) for error in sorted(set(errors))},
        duration_s=run.seconds,
        prompt_tokens=sum(one.prompt_tokens for one in good),
        completion_tokens=tokens,
        token_forwards=forwards,
        events=events,
        request_rate=len(good) / run.seconds,
        output_rate=tokens / run.seconds,
        token_forward_rate=forwards / run.seconds,
        event_rate=events / run.seconds,
        metrics={name: spread(_values(good, name), settings.percentiles) for name in METRICS},
        cpu_ms={role: 1000 * s / len(good) for role, s in cpu.items()} if is_counted else {},
        cpu_us_per_token=1e6 * sum(cpu.values()) / masks if is_counted else None,
        alone_us_per_token=None if alone is None else 1e6 * alone.cpu_s / alone.masks,
    )


def table(summary: Summary, settings: Settings) -> str:
    """Lines as `vllm bench serve` prints them."""
    lines = [_title("Serving Benchmark Result", "=")]
    lines += [_line("Successful requests:", summary.successful)]
    lines += [_line("Failed requests:", summary.failed)]
    lines += [_line(f"  {error}:", number) for error, number in summary.errors.items()]
    if settings.max_concurrency is not None:
        lines += [_line("Maximum request concurrency:", settings.max_concurrency)]
    if settings.request_rate != float("inf"):
        lines += [_line("Request rate configured (req/s):", settings.request_rate)]
    lines += [
        _line("Benchmark duration (s):", summary.duration_s),
        _line("Total input tokens:", summary.prompt_tokens),
        _line("Total generated tokens:", summary.completion_tokens),
        _line("Total token-forwards:", summary.token_forwards),
        _line("Request throughput (req/s):", summary.request_rate),
        _line("Output token throughput (tok/s):", summary.output_rate),
        _line("Token-forward throughput (/s):", summary.token_forward_rate),
    ]
    if summary.events:
        lines += [_line("Stream events (/s):", summary.event_rate)]
    for name in settings.metrics:
        lines += _metric(name, summary.metrics[name])
    lines += _cpu(summary)
    return "\n".join([*lines, "=" * WIDTH])


def _values(outcomes: Sequence[Outcome], name: str) -> list[float]:
    found = (getattr(one, f"{name}_s") for one in outcomes)
    return [value for value in found if value is not None]


def _metric(name: str, found: Spread | None) -> list[str]:
    lines = [_title(METRICS[name], "-")]
    if found is None:
        return [*lines, _line("not measured in this run", "-")]
    short = name.upper()
    lines += [
        _line(f"Mean {short} (ms):", found.mean),
        _line(f"Median {short} (ms):", found.median),
    ]
    return [*lines, *(_line(f"P{p} {short} (ms):", ms) for p, ms in found.percentiles.items())]


def _cpu(summary: Summary) -> list[str]:
    if not summary.cpu_ms:
        return []
    lines = [_title("Processor Time of the Server", "-")]
    lines += [_line(f"{role} (ms a request):", ms) for role, ms in sorted(summary.cpu_ms.items())]
    if summary.cpu_us_per_token is not None:
        lines += [_line("All of it (us a token):", summary.cpu_us_per_token)]
    if summary.alone_us_per_token is not None:
        lines += [_line("Engine without HTTP (us a token):", summary.alone_us_per_token)]
    return lines


def _title(text: str, fill: str) -> str:
    return f" {text} ".center(WIDTH, fill)


def _line(name: str, value: float | str) -> str:
    return f"{name:<40} {f'{value:.2f}' if isinstance(value, float) else value:<10}".rstrip()
