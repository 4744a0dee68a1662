"""Who called a replica: what runs for a caller that has died is ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from ray.actor import ActorHandle
from ray.exceptions import RayError

__all__ = ["Callers", "answers"]

CHECK_EVERY_S = 2.0
UNREACHABLE_S = 15.0
"""After so long without an answer a caller counts as dead; until then it may come back."""

End = Callable[[], None]


async def answers(caller: ActorHandle[object]) -> bool:
    """Whether the actor lives and can be reached."""
    try:
        async with asyncio.timeout(UNREACHABLE_S):
            await caller.__ray_ready__.remote()
    except (RayError, TimeoutError):
        return False
    return True


class Callers:
    """Looks after every caller that has calls under way, each by one task."""

    def __init__(
        self,
        is_alive: Callable[[ActorHandle[object]], Awaitable[bool]] = answers,
        *,
        check_every_s: float = CHECK_EVERY_S,
    ) -> None:
        self._is_alive = is_alive
        self._check_every_s = check_every_s
        self._calls: dict[ActorHandle[object], list[End]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @contextmanager
    def watching(self, caller: ActorHandle[object] | None, end: End) -> Iterator[None]:
        """While a call runs: `end` is called if its caller dies. None: nobody is looked after."""
        if caller is None:
            yield
            return
        calls = self._calls.get(caller)
        if calls is None:
            calls = self._calls[caller] = []
            task = asyncio.create_task(self._watch(caller, calls))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        calls.append(end)
        try:
            yield
        finally:
            calls.remove(end)

    async def _watch(self, caller: ActorHandle[object], calls: list[End]) -> None:
        try:
            await asyncio.sleep(self._check_every_s)
            while calls:
                if not await self._is_alive(caller):
                    for end in list(calls):
                        end()
                    return
                await asyncio.sleep(self._check_every_s)
        finally:
            del self._calls[caller]
