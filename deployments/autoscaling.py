"""How many replicas: as many as the queued work needs, counted in seconds of a replica's pace."""

from __future__ import annotations

import math

from ray.serve.config import AutoscalingContext

__all__ = ["METRIC", "PACE", "BacklogPolicy"]

METRIC = "token_forwards_queued"
"""What `DreamReplica.record_autoscaling_stats` reports: tokens x forward passes still to run."""

PACE = "token_forwards_per_s"
"""What it reports beside that once it has worked: how much of it is run in a busy second."""


class BacklogPolicy:
    """Serve's autoscaling policy: each replica has at most `target_seconds` of work queued.

    A replica goes only when the others would then have at most `scale_down_fraction` of the target.
    Pure: Serve calls it in its controller and applies bounds, delays and factors around it.

    A running replica that reports nothing counts as one full target, so that silence neither adds a
    replica nor removes one; so does one with work while no replica has measured its pace. A request
    that still waits at a caller counts as much as the mean running one.
    """

    def __init__(self, target_seconds: float = 5.0, scale_down_fraction: float = 0.5) -> None:
        if not target_seconds > 0:
            raise ValueError(f"target_seconds={target_seconds!r}: a number > 0")
        if not 0 < scale_down_fraction <= 1:
            raise ValueError(f"scale_down_fraction={scale_down_fraction!r}: above 0, at most 1")
        self._target_s = target_seconds
        self._fraction = scale_down_fraction

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, float]]:
        """The number of replicas wanted, and the numbers behind it for the next call's state."""
        metrics = context.aggregated_metrics or {}
        queued = metrics.get(METRIC, {})
        paces = [pace for pace in metrics.get(PACE, {}).values() if pace > 0]
        pace = sum(paces) / len(paces) if paces else 0.0
        silent = sum(1 for replica in context.running_replicas if replica not in queued)
        targets = self._targets(list(queued.values()), pace)
        targets += self._waiting(context, targets)
        wanted = self._wanted(targets, silent, context.target_num_replicas)
        low, high = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
        return max(low, min(high, wanted)), {
            "work_s": (targets + silent) * self._target_s,
            "token_forwards_per_s": pace,
        }

    def _targets(self, queued: list[float], pace: float) -> float:
        """How many replicas the reported work fills to the target."""
        if pace > 0:
            return float(sum(queued)) / (pace * self._target_s)
        return float(sum(1 for work in queued if work > 0))

    def _waiting(self, context: AutoscalingContext, targets: float) -> float:
        running = context.total_running_requests
        mean = targets / running if running > 0 and targets > 0 else 1.0
        return max(0.0, float(context.total_queued_requests or 0.0)) * mean

    def _wanted(self, targets: float, silent: int, now: int) -> int:
        up = math.ceil(targets) + silent
        if up > now:
            return up
        return min(now, math.ceil(targets / self._fraction) + silent)
