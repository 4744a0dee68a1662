"""Who called a replica: what runs for a caller that has died is ended."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from ray.actor import ActorHandle
from ray.exceptions import RayActorError

__all__ = ["Callers", "answers"]

CHECK_EVERY_S = 2.0
UNREACHABLE_S = 15.0
"""After so long without an answer a caller counts as dead; until then it may come back."""

End = Callable[[], None]


async def answers(caller: ActorHandle) -> bool:
    """Whether the actor lives and can be reached."""
    try:
        async with asyncio.timeout(UNREACHABLE_S):
            await caller.__ray_ready__.remote()
    except (RayActorError, TimeoutError):
        return False
    return True


class Callers:
    """Looks after every caller that has calls under way, each by one task."""

    def __init__(
        self,
        is_alive: Callable[[ActorHandle], Awaitable[bool]] = answers,
        *,
        check_every_s: float = CHECK_EVERY_S,
    ) -> None:
        self._is_alive = is_alive
        self._check_every_s = check_every_s
        self._calls: defaultdict[ActorHandle, list[End]] = defaultdict(list)
        self._tasks: dict[ActorHandle, asyncio.Task[None]] = {}

    @contextmanager
    def watching(self, caller: ActorHandle | None, end: End) -> Iterator[None]:
        """While a call runs: `end` is called if its caller dies. None: nobody is looked after."""
        if caller is None:
            yield
            return
        self._calls[caller].append(end)
        if caller not in self._tasks:
            self._tasks[caller] = asyncio.create_task(self._watch(caller))
        try:
            yield
        finally:
            self._calls[caller].remove(end)

    async def _watch(self, caller: ActorHandle) -> None:
        while self._calls[caller]:
            await asyncio.sleep(self._check_every_s)
            if self._calls[caller] and not await self._is_alive(caller):
                for end in list(self._calls[caller]):
                    end()
                break
        del self._tasks[caller]
        if not self._calls[caller]:
            del self._calls[caller]
