"""How many replicas: as many as the queued work fills, counted in token-forwards."""

from __future__ import annotations

import math

from ray.serve.config import AutoscalingContext

__all__ = ["METRIC", "BacklogPolicy"]

METRIC = "token_forwards_queued"
"""What `DreamReplica.record_autoscaling_stats` reports: tokens x forward passes still to run."""


class BacklogPolicy:
    """Serve's autoscaling policy: one replica for every `target` queued token-forwards.

    Pure: Serve calls it in its controller and applies bounds, delays and factors around it.
    A running replica that reports nothing counts as one full target, so that silence neither
    adds a replica nor removes one. A request that still waits at a caller counts as much as the
    mean running one.
    """

    def __init__(self, target_token_forwards: float) -> None:
        if target_token_forwards <= 0:
            raise ValueError("target_token_forwards is a number > 0")
        self._target = target_token_forwards

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, float]]:
        """The number of replicas wanted, and the numbers behind it for the next call's state."""
        reported = (context.aggregated_metrics or {}).get(METRIC, {})
        silent = sum(1 for replica in context.running_replicas if replica not in reported)
        known = float(sum(reported.values()))
        backlog = known + silent * self._target + self._waiting(context, known)
        wanted = math.ceil(backlog / self._target)
        low, high = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
        return max(low, min(high, wanted)), {"backlog": backlog}

    def _waiting(self, context: AutoscalingContext, known: float) -> float:
        running = context.total_running_requests
        mean_cost = known / running if running > 0 and known > 0 else self._target
        return max(0.0, float(context.total_queued_requests or 0.0)) * mean_cost
