"""Whether a replica of a deployment answers, asked past the work that it has."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.util import list_named_actors

__all__ = ["any_answers", "replica_actors"]

NAMESPACE = "serve"


def replica_actors(app: str, deployment: str) -> list[ActorHandle[object]]:
    """The actors of a deployment, by the names that Serve gives them; blocks for a moment."""
    prefix = f"SERVE_REPLICA::{app}#{deployment}#"
    found: list[ActorHandle[object]] = []
    for actor in list_named_actors(all_namespaces=True):
        assert isinstance(actor, dict)
        if actor["namespace"] == NAMESPACE and actor["name"].startswith(prefix):
            try:
                found.append(ray.get_actor(actor["name"], namespace=NAMESPACE))
            except ValueError:  # it has died meanwhile
                continue
    return found


async def any_answers(actors: Collection[ActorHandle[object]], within_s: float) -> bool:
    """Whether one of them is healthy and says so in time; nobody waits for the others."""
    waiting = {asyncio.create_task(_answers(actor)) for actor in actors}
    try:
        async with asyncio.timeout(within_s):
            for answer in asyncio.as_completed(waiting):
                if await answer:
                    return True
    except TimeoutError:
        pass
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    return False


async def _answers(actor: ActorHandle[object]) -> bool:
    try:
        await actor.check_health.remote()
    except RayError:
        return False
    return True
