"""Requests of one token and one step, one by one, alone and beside long ones, stage by stage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
from ray import serve

from benchmarks.serving.report import Stage, stages_of
from benchmarks.serving.server import APP, served
from benchmarks.serving.stages import PROBE, StagedIngress, StagedReplica

__all__ = ["probe_stages"]

LONG = {"max_tokens": 96, "steps": 96}
SHORT = {"max_tokens": 1, "steps": 1}
WARM_UPS = 30


def probe_stages(beside: Sequence[int], num_probes: int) -> list[Stage]:
    """Every stage, and `all of them`, for each number of long requests."""
    with served(StagedReplica, StagedIngress) as url:
        found = []
        for number in beside:
            times = asyncio.run(_probed(url, number, num_probes))
            found += stages_of(times, number)
        return found


async def _probed(url: str, beside: int, num_probes: int) -> dict[str, list[float]]:
    async with aiohttp.ClientSession(url) as session:
        for _ in range(WARM_UPS):
            await _send(session, SHORT)
        is_over = asyncio.Event()
        busy = [asyncio.create_task(_keep_busy(session, is_over)) for _ in range(beside)]
        await asyncio.sleep(1)
        await asyncio.to_thread(_take_times)
        own: dict[str, list[float]] = {"sent": [], "received": []}
        for number in range(num_probes):
            own["sent"].append(time.monotonic())
            await _send(session, SHORT, {"x-request-id": f"{PROBE}-{number}"})
            own["received"].append(time.monotonic())
        noted = await asyncio.to_thread(_take_times)
        is_over.set()
        await asyncio.gather(*busy)
    return own | noted


async def _keep_busy(session: aiohttp.ClientSession, is_over: asyncio.Event) -> None:
    while not is_over.is_set():
        await _send(session, LONG)


def _take_times() -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {}
    for name in ("Ingress", "DreamReplica"):
        handle = serve.get_deployment_handle(name, APP)
        taken |= handle.take_times.remote().result(timeout_s=30)
    return taken


async def _send(
    session: aiohttp.ClientSession,
    size: Mapping[str, int],
    headers: Mapping[str, str] | None = None,
) -> None:
    body: dict[str, Any] = {
        "model": "embedded",
        "prompt": "Once upon a time",
        "max_tokens": size["max_tokens"],
        "diffusion": {"steps": size["steps"], "early_exit": False},
    }
    async with session.post("/v1/completions", json=body, headers=headers) as response:
        response.raise_for_status()
        await response.read()
