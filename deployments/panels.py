"""The panels of the Grafana dashboard: what each shows, and the queries behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["ROWS", "Panel"]

Unit = Literal["bytes", "none", "percentunit", "reqps", "s", "short"]

WHERE = '{application=~"$application"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One graph. queries: PromQL by what the legend says, or `{{label}}`s of it."""

    title: str
    unit: Unit
    queries: Mapping[str, str]
    about: str = ""


def _rate(name: str, by: str = "") -> str:
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate(ray_{name}{WHERE}[$__rate_interval]))"


def _share(part: str, whole: str) -> str:
    return f"{_rate(part)} / {_rate(whole)}"


def _gauge(name: str, how: str = "sum", by: str = "") -> str:
    grouped = f" by ({by})" if by else ""
    return f"{how}{grouped} (ray_{name}{WHERE})"


def _quantiles(name: str, by: str = "") -> Mapping[str, str]:
    label = f" {{{{{by}}}}}" if by else ""
    grouped = f"le, {by}" if by else "le"
    buckets = _rate(f"{name}_bucket", grouped)
    return {
        f"p{100 * share:g}{label}": f"histogram_quantile({share}, {buckets})"
        for share in (0.5, 0.99)
    }


ROWS: Mapping[str, tuple[Panel, ...]] = {
    "Requests": (
        Panel(
            title="Requests",
            unit="reqps",
            queries={
                "{{endpoint}} {{outcome}}": _rate("dream_requests_total", "endpoint, outcome")
            },
        ),
        Panel(
            title="Whole request", unit="s", queries=_quantiles("dream_request_seconds", "endpoint")
        ),
        Panel(title="Until the first step", unit="s", queries=_quantiles("dream_queue_seconds")),
        Panel(
            title="Until the first text of a stream",
            unit="s",
            queries=_quantiles("dream_time_to_first_text_seconds"),
        ),
        Panel(
            title="Time per output token",
            unit="s",
            queries=_quantiles("dream_time_per_output_token_seconds"),
        ),
    ),
    "Load": (
        Panel(
            title="Canvases",
            unit="short",
            queries={
                "running": _gauge("dream_requests_running"),
                "waiting": _gauge("dream_requests_waiting"),
            },
        ),
        Panel(
            title="Seconds of work queued",
            unit="s",
            about="Queued token-forwards over what all replicas do in a busy second.",
            queries={
                "queued": f"{_gauge('dream_token_forwards_queued')} / ("
                f"{_gauge('dream_requests_running', 'count')} * "
                f"{_share('dream_token_forwards_total', 'dream_busy_seconds_total')})"
            },
        ),
        Panel(
            title="Token-forwards queued",
            unit="short",
            queries={"{{replica}}": _gauge("dream_token_forwards_queued", by="replica")},
        ),
        Panel(
            title="Replicas",
            unit="none",
            queries={"replicas": _gauge("dream_requests_running", "count")},
        ),
    ),
    "Engine": (
        Panel(
            title="Token-forwards a second",
            unit="short",
            queries={"{{replica}}": _rate("dream_token_forwards_total", "replica")},
        ),
        Panel(
            title="Committed tokens a second",
            unit="short",
            queries={"{{replica}}": _rate("dream_committed_tokens_total", "replica")},
        ),
        Panel(
            title="Share of time inside steps",
            unit="percentunit",
            queries={"{{replica}}": _rate("dream_busy_seconds_total", "replica")},
        ),
        Panel(
            title="Step, by its tokens",
            unit="s",
            queries=_quantiles("dream_step_seconds", "tokens_bucket"),
        ),
        Panel(
            title="Canvases in a step",
            unit="short",
            queries={"mean": _share("dream_denoising_steps_total", "dream_forward_passes_total")},
        ),
        Panel(
            title="Tokens committed by a canvas's step",
            unit="short",
            queries={"mean": _share("dream_committed_tokens_total", "dream_denoising_steps_total")},
        ),
    ),
    "Waste": (
        Panel(
            title="Step budget in use",
            unit="percentunit",
            queries={"{{replica}}": _gauge("dream_canvas_occupancy_ratio", "avg", "replica")},
        ),
        Panel(
            title="Computed tokens",
            unit="percentunit",
            queries={
                "logits needed": _gauge("dream_masked_fraction", "avg"),
                "positions in holes": _share(
                    "dream_canvas_positions_total", "dream_token_forwards_total"
                ),
            },
        ),
        Panel(
            title="Steps saved",
            unit="short",
            queries={"a second": _rate("dream_early_exit_steps_saved_total")},
        ),
    ),
    "Budget": (
        Panel(
            title="Forward passes of a request",
            unit="short",
            queries=_quantiles("dream_steps_used"),
        ),
        Panel(
            title="Served with fewer steps",
            unit="reqps",
            queries={"{{reason}}": _rate("dream_step_budget_cut_total", "reason")},
        ),
        Panel(
            title="Deadlines missed",
            unit="reqps",
            queries={"missed": _rate("dream_deadline_missed_total")},
        ),
    ),
    "Safety": (
        Panel(
            title="Rejections",
            unit="reqps",
            queries={"{{reason}}": _rate("dream_rejections_total", "reason")},
        ),
        Panel(
            title="Callers without a key, callers that hung up",
            unit="reqps",
            queries={
                "no key": _rate("dream_auth_failures_total"),
                "hung up {{phase}}": _rate("dream_client_disconnects_total", "phase"),
            },
        ),
        Panel(
            title="Canvases that nobody waits for",
            unit="none",
            about="Must be 0.",
            queries={"{{replica}}": _gauge("dream_canvas_leaks", by="replica")},
        ),
    ),
    "Start and memory": (
        Panel(
            title="Loading",
            unit="s",
            queries={"{{replica}}": _gauge("dream_load_seconds", "max", "replica")},
        ),
        Panel(
            title="Memory",
            unit="bytes",
            queries={
                "{{replica}} {{kind}}": _gauge("dream_device_memory_bytes", "max", "replica, kind")
            },
        ),
    ),
}
"""The panels of each row of the dashboard."""
