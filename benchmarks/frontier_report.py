"""Outcomes of the frontier: which are on it, and all of them as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Loss", "Outcome", "front", "page"]

HEAD = ["family", "setting", "right", "95 % interval", "token-forwards", "passes"]
HEAD += ["tokens/pass", "forced", "loss against exact"]
ALIGN = ["---", "---", "--:", "---", *["--:"] * 4, "---"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Share right of the exact twin less one's own, on the same questions: 95 % bootstrap."""

    exact: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a suite was answered at one setting; costs are means of a request.

    tokens_per_forward: masks of all requests over their forward passes (an early exit counts).
    forced_commits: None where the loop is not ours.
    approximation: what the engine says it ran, None for exact.
    """

    suite: str
    family: str
    setting: str
    params: Mapping[str, int | float | str | None]
    n: int
    quality: float
    wilson_low: float
    wilson_high: float
    token_forwards: float
    forward_passes: float
    tokens_per_forward: float
    forced_commits: float | None
    approximation: str | None
    loss: Loss | None


def front(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those that no other beats in quality at the same or a lower cost, cheapest first."""
    found: list[Outcome] = []
    for outcome in sorted(outcomes, key=lambda o: (o.token_forwards, -o.quality)):
        if not found or outcome.quality > found[-1].quality:
            found.append(outcome)
    return found


def page(about: Mapping[str, str], outcomes: Sequence[Outcome]) -> str:
    """A table for each suite; the front is in bold."""
    facts = "\n".join(f"- {key}: {value}" for key, value in about.items())
    parts = [
        "# Quality against token-forwards",
        facts,
        "Means of a request. Bold: no other setting is better at the same or a lower cost.",
    ]
    for suite in dict.fromkeys(outcome.suite for outcome in outcomes):
        of_suite = [outcome for outcome in outcomes if outcome.suite == suite]
        best = front(of_suite)
        rows = [_row(outcome, is_best=outcome in best) for outcome in of_suite]
        lines = [_line(HEAD), _line(ALIGN), *rows]
        parts += [f"## {suite}, {of_suite[0].n:,} questions", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _row(outcome: Outcome, *, is_best: bool) -> str:
    mark = "**" if is_best else ""
    forced, loss = outcome.forced_commits, outcome.loss
    return _line(
        [
            outcome.family,
            f"{mark}{outcome.setting}{mark}",
            f"{mark}{outcome.quality:.3f}{mark}",
            f"{outcome.wilson_low:.3f} to {outcome.wilson_high:.3f}",
            f"{outcome.token_forwards:,.1f}",
            f"{outcome.forward_passes:.2f}",
            f"{outcome.tokens_per_forward:.2f}",
            "" if forced is None else f"{forced:.2f}",
            "" if loss is None else f"{loss.mean:.3f} ({loss.low:.3f} to {loss.high:.3f})",
        ]
    )


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
