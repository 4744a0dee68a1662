"""A replica whose step does not end: it is unhealthy, and its callers are told at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from deployments.failover import ReplicaLost
from deployments.messages import CanvasRequest
from deployments.replica import DreamReplica, ReplicaConfig
from dream import EngineConfig, Hole, SamplingParams
from dream.engine.step_engine import StepEngine
from dream.errors import EngineError
from dream.text import TextTemplate

CONFIG = ReplicaConfig(
    model="embedded", engine=EngineConfig(threads=1), max_token_forwards=10**6, max_step_s=0.5
)
ASKED = CanvasRequest(
    id="a", template=TextTemplate(["S:", Hole(8)]), params=SamplingParams(steps=4, seed=1)
)


class Gate:
    """Holds every forward of a model while it is shut."""

    def __init__(self) -> None:
        self.is_open, self.has_arrived = threading.Event(), threading.Event()
        self.is_open.set()

    def __call__(self, module: torch.nn.Module, inputs: tuple[object, ...]) -> None:
        self.has_arrived.set()
        assert self.is_open.wait(60)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    hook = torch.nn.modules.module.register_module_forward_pre_hook(gate)
    yield gate
    gate.is_open.set()
    hook.remove()


async def until_unhealthy(replica: DreamReplica) -> str:
    """What the health check says once it fails; as Serve does, it is called again and again."""
    async with asyncio.timeout(60):
        while True:
            try:
                replica.check_health()
            except EngineError as error:
                return str(error)
            await asyncio.sleep(0.05)


def test_a_stalled_step_fails_the_health_check_and_every_call(gate):
    replica = DreamReplica(CONFIG)

    async def run() -> str:
        gate.has_arrived.clear()
        gate.is_open.clear()
        running = asyncio.create_task(replica.generate([ASKED]))
        await asyncio.to_thread(gate.has_arrived.wait, 60)
        told = await until_unhealthy(replica)
        with pytest.raises(EngineError, match="given up"):
            await running
        with pytest.raises(ReplicaLost, match="step takes"):
            await replica.generate([ASKED])
        return told

    assert "step takes" in asyncio.run(run())

    gate.is_open.set()
    replica.close()


class Ranked(DreamReplica):
    """Its engine may say that a rank is silent, as one over several processes does."""

    is_silent = False

    def load(self, config: ReplicaConfig) -> StepEngine:
        engine = super().load(config)

        def check_health() -> None:
            if self.is_silent:
                raise EngineError("no sign of life from rank 1")

        setattr(engine, "check_health", check_health)  # noqa: B010
        return engine


def test_a_silent_rank_fails_every_call_at_once(gate):
    replica = Ranked(replace(CONFIG, max_step_s=1000.0))

    async def run() -> str:
        gate.has_arrived.clear()
        gate.is_open.clear()
        running = asyncio.create_task(replica.generate([ASKED]))
        await asyncio.to_thread(gate.has_arrived.wait, 60)
        replica.is_silent = True
        told = await until_unhealthy(replica)
        with pytest.raises(EngineError, match="given up: no sign of life"):
            await running
        return told

    assert "rank 1" in asyncio.run(run())

    gate.is_open.set()
    replica.close()


def test_a_step_that_is_not_old_enough_is_waited_for(gate):
    replica = DreamReplica(CONFIG)
    replica.reconfigure({"max_step_s": 1000.0})

    async def run() -> int:
        gate.has_arrived.clear()
        gate.is_open.clear()
        running = asyncio.create_task(replica.generate([ASKED]))
        await asyncio.to_thread(gate.has_arrived.wait, 60)
        await asyncio.sleep(1)
        replica.check_health()
        gate.is_open.set()
        results = await running
        assert isinstance(results, list)
        return results[0].usage.steps

    assert asyncio.run(run()) == 4
    replica.close()
