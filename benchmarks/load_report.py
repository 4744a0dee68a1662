"""What a load gave: a line of the table for each, and one sentence on the goal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Load", "row", "spread", "table", "verdict"]

GOAL = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one load gave. offered: share of the rate at saturation; None in the closed run.

    cost_us, cpu_us: busy and processor microseconds for each token-forward. On a host the first
    exceeds the second over the number of threads where other programs took the processor.
    """

    offered: float | None
    requests: int
    seconds: float
    tokens_per_s: float
    token_forwards_per_s: float
    p50_s: float
    p99_s: float
    rows_per_step: float
    busy_share: float
    cost_us: float
    cpu_us: float


def spread(found: Sequence[Load]) -> float:
    """How much dearer a token-forward is at its dearest than at its cheapest, up to saturation."""
    costs = [load.cost_us for load in found if load.offered is not None and load.offered <= 1]
    return max(costs) / min(costs) - 1


def table(found: Sequence[Load]) -> str:
    """The loads as Markdown."""
    names = ["offered", "requests", "s", "tokens/s", "token-forwards/s", "p50 s", "p99 s"]
    names += ["rows a step", "busy", "us a token-forward", "cpu us"]
    lines = ["| " + " | ".join(names) + " |", "|" + "--:|" * len(names)]
    return "\n".join([*lines, *map(row, found)])


def verdict(found: Sequence[Load]) -> str:
    """One sentence on the goal."""
    found_spread = spread(found)
    met = "met" if found_spread <= GOAL else "not met"
    return (
        f"Cost of a token-forward from the lightest load to saturation: within "
        f"{found_spread:.1%} (goal {GOAL:.0%}: {met})."
    )


def row(load: Load) -> str:
    """A line of the table."""
    offered = "all at once" if load.offered is None else f"{load.offered:g}"
    cells = [offered, f"{load.requests}", f"{load.seconds:.1f}", f"{load.tokens_per_s:,.1f}"]
    cells += [f"{load.token_forwards_per_s:,.0f}", f"{load.p50_s:.3f}", f"{load.p99_s:.3f}"]
    cells += [f"{load.rows_per_step:.0f}", f"{load.busy_share:.0%}", f"{load.cost_us:.1f}"]
    cells += [f"{load.cpu_us:.1f}"]
    return "| " + " | ".join(cells) + " |"
