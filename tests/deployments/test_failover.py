"""A lost replica is not seen by callers: real replicas in this process, which die at any item."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployments import canvas_stream
from deployments.failover import Item, ReplicaLost, unbroken
from deployments.messages import CanvasRequest, CanvasUpdate, Refusal, View
from deployments.replica import DreamReplica, ReplicaConfig
from dream import EngineConfig
from tests.deployments.test_stream import messages

CONFIG = ReplicaConfig(
    model="embedded",
    engine=EngineConfig(threads=1, max_cache_tokens=4096),
    max_token_forwards=10**6,
)
VIEWS = [None, View(), View(mode="steps"), View(mode="snapshots", every=2)]
AT_ONCE: Callable[[int], float] = lambda number: 0.0  # noqa: E731


@pytest.fixture(scope="module")
def replicas() -> Iterator[list[DreamReplica]]:
    both = [DreamReplica(CONFIG), DreamReplica(CONFIG)]
    yield both
    for replica in both:
        replica.close()


@pytest.fixture(scope="module", autouse=True)
def every_step_is_told() -> Iterator[None]:
    """An item for each step, so that a replica may die after any of them."""
    usual, canvas_stream.EVENTS_S = canvas_stream.EVENTS_S, 0.0
    yield
    canvas_stream.EVENTS_S = usual


class Dying:
    """Replicas in turn; attempt n is lost after `deaths[n]` items, later ones never."""

    def __init__(
        self,
        replicas: Sequence[DreamReplica],
        deaths: Sequence[int],
        error: Exception | None = None,
    ) -> None:
        self.attempts: list[list[CanvasRequest]] = []
        self._replicas = replicas
        self._deaths = deaths
        self._error = error or ReplicaLost()

    async def __call__(
        self, messages: Sequence[CanvasRequest], view: View | None
    ) -> AsyncGenerator[Item]:
        number = len(self.attempts)
        self.attempts.append(list(messages))
        num_left = self._deaths[number] if number < len(self._deaths) else None
        replica = self._replicas[number % len(self._replicas)]
        async with aclosing(replica.stream(messages, view)) as items:
            async for item in items:
                if num_left == 0:
                    raise self._error
                yield item
                num_left = None if num_left is None else num_left - 1


def told(attempt, asked: Sequence[CanvasRequest], view: View | None) -> list[CanvasUpdate]:
    async def run() -> list[CanvasUpdate]:
        stream = unbroken(attempt, asked, view, wait_s=AT_ONCE)
        async with aclosing(stream) as items:
            found = [item async for item in items]
        assert not any(isinstance(item, Refusal) for item in found)
        return [update for item in found for update in item]

    return asyncio.run(run())


def plain(updates: Sequence[CanvasUpdate]) -> list[CanvasUpdate]:
    """What a caller can see, however it was put into updates: texts joined, no times."""
    seen: list[CanvasUpdate] = []
    for index in sorted({update.index for update in updates}):
        mine = [update for update in updates if update.index == index]
        text = "".join(update.text for update in mine)
        for update in mine:
            if update.canvas or update.set or update.snapshot or update.result:
                result = update.result and replace(update.result, queue_s=0, denoise_s=0)
                seen.append(replace(update, text="", events=(), result=result))
        seen[-1] = replace(seen[-1], text=text)
    return seen


@st.composite
def kinds(draw: st.DrawFn) -> CanvasRequest:
    """Requests of all kinds, also of those that keep state."""
    message = draw(messages())
    modes = [{}, {"history": 3}, {"window": "dual", "block_length": 4}]
    mode = draw(st.sampled_from(modes)) if message.params.grow_to is None else {}
    if "window" in mode and message.params.order != "confidence":
        mode = {}
    logprobs = draw(st.sampled_from([None, 2]))
    return replace(message, params=replace(message.params, **mode), logprobs=logprobs)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    asked=st.lists(kinds(), min_size=1, max_size=3),
    view=st.sampled_from(VIEWS),
    deaths=st.lists(st.integers(0, 12), min_size=1, max_size=4),
)
def test_a_lost_replica_changes_nothing_that_a_caller_sees(replicas, asked, view, deaths):
    asked = [replace(message, id=f"r-{n}") for n, message in enumerate(asked)]
    undisturbed = told(Dying(replicas, []), asked, view)

    dying = Dying(replicas, deaths)
    seen = told(dying, asked, view)

    assert plain(seen) == plain(undisturbed)
    ids = [message.id for attempt in dying.attempts for message in attempt]
    assert len(set(ids)) == len(ids), "an attempt may not meet the rest of another"
