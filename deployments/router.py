"""Serve's request router: a call goes to the replica with the fewest outstanding token-forwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from ray.serve.request_router import (
    FIFOMixin,
    PendingRequest,
    ReplicaID,
    RequestRouter,
    RunningReplica,
)

from deployments import ledger
from deployments.autoscaling import METRIC
from deployments.cost import estimated_token_forwards, messages_of
from deployments.messages import CanvasRequest

__all__ = ["ROUTER", "LeastWorkRouter"]

ROUTER = "deployments.router:LeastWorkRouter"
"""Where Serve finds the class."""


class LeastWorkRouter(FIFOMixin, RequestRouter):
    """Calls choose one after the other, in the order they came, so that each sees the last one.

    Serve ships this class by value: what is to be one for the process must be in another module.
    Needs Serve to ask replicas for their work often: `request_routing_stats_period_s`.
    """

    def initialize_state(self, **kwargs: object) -> None:
        """Called once by Serve; there is nothing to set."""
        self._choosing = asyncio.Lock()

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Every replica in a rank of its own: within a rank Serve would compare queue lengths."""
        by_id = {one.replica_id.unique_id: one for one in candidate_replicas}
        return [[by_id[name]] for name in ledger.LEDGER.ranked(list(by_id))]

    async def _choose_replica_for_request(
        self, pending_request: PendingRequest, *, is_retry: bool = False
    ) -> RunningReplica:
        """Serve's choice, charged before the next call may choose."""
        async with self._choosing:
            replica = await super()._choose_replica_for_request(pending_request, is_retry=is_retry)
            request = pending_request.metadata.internal_request_id
            messages = messages_of(pending_request.args, pending_request.kwargs)
            _count_down(pending_request.args)
            cost = sum(map(estimated_token_forwards, messages))
            ids = [message.id for message in messages]
            ledger.LEDGER.charge(replica.replica_id.unique_id, request, cost, ids)
        return replica

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """Called by Serve when a call has ended in any way, or was not taken."""
        ledger.LEDGER.release(replica_id.unique_id, internal_request_id)

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        """Called by Serve when a call found a replica dead."""
        super().on_replica_actor_died(replica_id)
        ledger.LEDGER.forget([replica_id.unique_id])

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """The replicas that run, with what each last reported."""
        ledger.LEDGER.forget(
            one.unique_id for one in set(self.curr_replicas) - {r.replica_id for r in replicas}
        )
        for replica in replicas:
            if METRIC in replica.routing_stats:
                ledger.LEDGER.report(replica.replica_id.unique_id, replica.routing_stats[METRIC])
        super().update_replicas(replicas)


def _count_down(args: Sequence[object]) -> None:
    """Deadlines went on while the call waited for a replica."""
    now = time.monotonic()
    for value in args:
        if isinstance(value, list):
            value[:] = [one.sent(now) if isinstance(one, CanvasRequest) else one for one in value]
