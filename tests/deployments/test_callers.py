"""Calls of an actor that has died are ended, and only those."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

from deployments.callers import Callers


def test_what_runs_for_a_dead_caller_is_ended_once():
    alive = {"a": True, "b": True}
    ended: list[str] = []

    async def is_alive(caller) -> bool:
        return alive[caller]

    async def run() -> None:
        callers = Callers(is_alive, check_every_s=0.001)
        with ExitStack() as calls:
            for name, call in [("a", "a1"), ("a", "a2"), ("b", "b1")]:
                calls.enter_context(callers.watching(name, lambda call=call: ended.append(call)))
            calls.enter_context(callers.watching(None, lambda: ended.append("nobody")))
            await asyncio.sleep(0.02)
            assert ended == []
            alive["a"] = False
            async with asyncio.timeout(10):
                while len(ended) < 2:
                    await asyncio.sleep(0.001)
            await asyncio.sleep(0.02)
        assert ended == ["a1", "a2"]
        async with asyncio.timeout(10):
            while len(asyncio.all_tasks()) > 1:
                await asyncio.sleep(0.001)

    asyncio.run(run())
