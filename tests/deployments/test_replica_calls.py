"""One call of a replica, over responses that behave as Serve's do."""

from __future__ import annotations

import asyncio
import gc
from contextlib import aclosing

import pytest
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    ObjectLostError,
    TaskCancelledError,
)
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments.errors import ApiError
from deployments.failover import ReplicaLost
from deployments.replica_calls import answer_of, items_of
from dream.errors import EngineError


class Response:
    """Items, then an error, or silence until it is cancelled; awaited it is the first item."""

    def __init__(self, *items: object, error: BaseException | None = None, hangs: bool = False):
        self._items = items
        self._error = error
        self._hangs = hangs
        self._ended = asyncio.Event()
        self.is_cancelled = False

    async def __aiter__(self):
        for item in self._items:
            yield item
        await self._end()

    def __await__(self):
        return self._answer().__await__()

    async def _answer(self):
        await self._end()
        return self._items[0]

    async def _end(self) -> None:
        if self._hangs:
            await self._ended.wait()
            raise TaskCancelledError
        if self._error is not None:
            raise self._error

    def cancel(self) -> None:
        self.is_cancelled = True
        self._ended.set()


async def all_of(response: Response, *, is_silent: bool = True) -> list[object]:
    async with aclosing(items_of(response, lambda: is_silent, silent_s=0.01)) as items:
        return [item async for item in items]


def test_items_and_answers_come_as_they_are():
    async def run() -> None:
        assert await all_of(Response(1, 2, 3)) == [1, 2, 3]
        assert await answer_of(Response(1), lambda: True) == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (ActorDiedError(), ReplicaLost),
        (ActorUnavailableError("gone", None), ReplicaLost),
        (ObjectLostError("00" * 28, "", ""), ReplicaLost),
        (TaskCancelledError(), ReplicaLost),
        (asyncio.CancelledError(), ReplicaLost),
        (BackPressureError(num_queued_requests=1, max_queued_requests=1), ApiError),
        (EngineError("dead"), EngineError),
        (ValueError("a bug"), ValueError),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failure_is_a_lost_replica_or_what_it_is(error, raised):
    async def run() -> None:
        with pytest.raises(raised):
            await all_of(Response(1, error=error))
        with pytest.raises(raised):
            await answer_of(Response(1, error=error), lambda: True)

    asyncio.run(run())


def test_silence_is_a_lost_replica_and_its_call_is_cancelled():
    async def run() -> None:
        stream, call = Response(1, hangs=True), Response(1, hangs=True)
        with pytest.raises(ReplicaLost):
            await all_of(stream)
        with pytest.raises(ReplicaLost):
            await answer_of(call, lambda: True, silent_s=0.01)
        assert stream.is_cancelled
        assert call.is_cancelled

    asyncio.run(run())


def test_a_call_that_waits_for_a_replica_is_not_silent():
    async def run() -> None:
        stream = Response(hangs=True)
        waiting = asyncio.create_task(all_of(stream, is_silent=False))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert stream.is_cancelled

    asyncio.run(run())


def test_nothing_is_left_when_callers_leave_at_any_moment():
    """No task, and no exception that asyncio would write to the log."""
    logged: list[dict[str, object]] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
        for num_turns in range(12):
            for make in (lambda r: all_of(r), lambda r: answer_of(r, lambda: True)):
                task = asyncio.create_task(make(Response(1, 2, hangs=num_turns % 2 == 0)))
                for _ in range(num_turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                del task
        async with asyncio.timeout(10):
            while len(asyncio.all_tasks()) > 1:
                await asyncio.sleep(0.001)
        gc.collect()

    asyncio.run(run())
    assert logged == []


def test_an_unavailable_deployment_is_still_loading():
    error = DeploymentUnavailableError("DreamReplica")

    with pytest.raises(ApiError) as refused:
        asyncio.run(all_of(Response(error=error)))

    assert refused.value.code == "model_loading"
