"""The request router under a real Serve: small calls go where the large one is not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import pytest
import ray
from ray import serve
from ray.serve.config import RequestRouterConfig
from ray.serve.handle import DeploymentHandle

from deployments.app import ROUTING
from deployments.ledger import LEDGER, replica_of
from deployments.messages import CanvasRequest
from deployments.replica import DreamReplica, ReplicaConfig
from dream import EngineConfig, Hole, SamplingParams
from dream.text import TextTemplate

pytestmark = pytest.mark.ray

CONFIG = ReplicaConfig(model="embedded", engine=EngineConfig(threads=1), max_token_forwards=10**9)


class NamedReplica(DreamReplica):
    """Says which one it is."""

    async def where(self, messages: Sequence[CanvasRequest]) -> str:
        await self.generate(messages)
        return serve.get_replica_context().replica_id.unique_id


@pytest.fixture(scope="module")
def handle(ray_local) -> Iterator[DeploymentHandle[NamedReplica]]:
    deployment = serve.deployment(
        name="DreamReplica",
        num_replicas=2,
        ray_actor_options={"num_cpus": 1},
        max_ongoing_requests=64,
        request_router_config=RequestRouterConfig.model_validate(ROUTING),
    )(NamedReplica)
    yield serve.run(deployment.bind(CONFIG), name="routed", route_prefix=None)
    serve.delete("routed")


def large(id: str) -> list[CanvasRequest]:
    params = SamplingParams(steps=None, early_exit=False, seed=0)
    return [CanvasRequest(id=id, template=TextTemplate([Hole(500)]), params=params)]


def small(id: str) -> list[CanvasRequest]:
    params = SamplingParams(steps=4, seed=0)
    return [CanvasRequest(id=id, template=TextTemplate(["S:", Hole(8)]), params=params)]


def outstanding(names: list[str]) -> list[float]:
    """What this process takes each replica to have to do."""
    return [LEDGER.outstanding(name) for name in names]


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def names(handle) -> list[str]:
    """The ids of the two replicas."""
    handle.where.remote(small("s")).result(timeout_s=60)
    controller = serve.context._get_global_client()
    details = controller.get_serve_details()["applications"]["routed"]["deployments"]
    return sorted(one["replica_id"] for one in details["DreamReplica"]["replicas"])


def places(handle: DeploymentHandle[NamedReplica]) -> set[str]:
    """Where ten small calls at a time, and one after the other, are run."""
    together = [handle.where.remote(small(f"s{i}")) for i in range(10)]
    found = {response.result(timeout_s=60) for response in together}
    return found | {handle.where.remote(small("s")).result(timeout_s=60) for _ in range(5)}


def test_small_calls_go_where_the_large_one_is_not(handle):
    work = handle.where.remote(large("large"))
    until(lambda: replica_of("large") is not None)
    busy = replica_of("large")

    assert busy not in places(handle)
    assert replica_of("large") == busy

    work.cancel()
    until(lambda: replica_of("large") is None)


def test_calls_that_cost_the_same_spread_over_the_replicas(handle, names):
    until(lambda: outstanding(names) == [0, 0])
    work = [handle.where.remote(large(f"large{i}")) for i in range(4)]
    until(lambda: all(replica_of(f"large{i}") for i in range(4)))

    names = [replica_of(f"large{i}") for i in range(4)]

    assert sorted(names.count(name) for name in set(names)) == [2, 2]
    for response in work:
        response.cancel()
    until(lambda: not any(replica_of(f"large{i}") for i in range(4)))


def test_the_work_of_another_caller_is_seen(handle, names):
    @ray.remote(num_cpus=0)
    class Other:
        """A caller in a process of its own."""

        def start(self, handle: DeploymentHandle[NamedReplica]) -> None:
            self.work = handle.where.remote(large("other"))

        def stop(self) -> None:
            self.work.cancel()

    until(lambda: outstanding(names) == [0, 0])
    other = Other.remote()
    ray.get(other.start.remote(handle))
    until(lambda: max(outstanding(names)) > 10_000)
    (busy,) = [name for name in names if LEDGER.outstanding(name) > 10_000]

    assert busy not in places(handle)

    ray.get(other.stop.remote())
    until(lambda: outstanding(names) == [0, 0])


def test_a_replica_to_be_avoided_gets_no_calls_for_a_while(handle, names):
    first, second = names
    LEDGER.avoid(first, for_s=1000)
    assert places(handle) == {second}

    LEDGER.avoid(second, for_s=1000)
    assert places(handle) <= {first, second}

    LEDGER.avoid(first, for_s=0)
    LEDGER.avoid(second, for_s=0)
