"""One call of a replica: its items as they come, and ReplicaLost where they stop coming."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from ray.exceptions import (
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    RayActorError,
    TaskCancelledError,
    WorkerCrashedError,
)
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
)
from ray.serve.handle import DeploymentResponse, DeploymentResponseGenerator

from deployments.errors import ApiError
from deployments.failover import ReplicaLost

__all__ = ["SILENT_S", "answer_of", "items_of"]

SILENT_S = 5.0
"""After so long without an item, not even a heartbeat, a replica counts as lost."""

T = TypeVar("T")

IsSilent = Callable[[], bool]
"""Asked when nothing came for `SILENT_S`: False where the call still waits for a replica."""

LOST = (
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    RayActorError,
    ReplicaUnavailableError,
    TaskCancelledError,
    WorkerCrashedError,
)
"""What Ray says of a call whose replica or node is gone; also where it took its caller for dead."""


async def items_of(
    response: DeploymentResponseGenerator[T],
    is_silent: IsSilent,
    *,
    silent_s: float = SILENT_S,
) -> AsyncGenerator[T]:
    """The items of a stream; closing it cancels the call on its replica."""
    items: asyncio.Queue[T | asyncio.Task[None]] = asyncio.Queue()
    task = asyncio.create_task(_pump(response, items))
    task.add_done_callback(items.put_nowait)
    is_over = False
    try:
        while True:
            try:
                async with asyncio.timeout(silent_s):
                    item = await items.get()
            except TimeoutError:
                if is_silent():
                    raise ReplicaLost from None
                continue
            if isinstance(item, asyncio.Task):
                is_over = True
                _check(item)
                return
            yield item
    finally:
        if not is_over:
            _cancel(response, task)


async def answer_of(
    response: DeploymentResponse[T], is_silent: IsSilent, *, silent_s: float = SILENT_S
) -> T:
    """The answer of a call; cancelled on its replica too when its caller is cancelled here."""
    answers: list[T] = []
    task = asyncio.create_task(_wait(response, answers))
    try:
        while not (await asyncio.wait({task}, timeout=silent_s))[0]:
            if is_silent():
                raise ReplicaLost
    finally:
        if not task.done():
            _cancel(response, task)
    _check(task)
    return answers[0]


async def _pump(
    response: DeploymentResponseGenerator[T], items: asyncio.Queue[T | asyncio.Task[None]]
) -> None:
    async for item in response:
        items.put_nowait(item)


async def _wait(response: DeploymentResponse[T], answers: Sequence[T]) -> None:
    assert isinstance(answers, list)
    answers.append(await response)


def _check(task: asyncio.Task[None]) -> None:
    """Raise what a finished call has failed with."""
    if task.cancelled():  # by Ray: nothing here cancels it
        raise ReplicaLost
    with _as_errors():
        task.result()


def _cancel(
    response: DeploymentResponse[T] | DeploymentResponseGenerator[T], task: asyncio.Task[None]
) -> None:
    """Cancel on the replica alone: the task then ends by itself, and Ray's futures are awaited."""
    response.cancel()  # type: ignore[no-untyped-call]  # Serve leaves it without types
    _ABANDONED.add(task)
    task.add_done_callback(_forget)


_ABANDONED: set[asyncio.Task[None]] = set()
"""Calls that nobody waits for any more, until Ray has ended them."""


def _forget(task: asyncio.Task[None]) -> None:
    _ABANDONED.discard(task)
    if not task.cancelled():
        task.exception()  # so that it counts as retrieved


@contextmanager
def _as_errors() -> Iterator[None]:
    try:
        yield
    except BackPressureError:
        raise ApiError("overloaded", "Too many requests are waiting.", retry_after_s=1) from None
    except DeploymentUnavailableError:
        raise ApiError("model_loading", "The model cannot be reached.", retry_after_s=5) from None
    except LOST as error:
        raise ReplicaLost from error
