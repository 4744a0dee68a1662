"""One run against a server: warm up, send, and read the server's processor time around it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from benchmarks.serving.alone import run_alone
from benchmarks.serving.client import prompts, run
from benchmarks.serving.processes import cpu_s, cpu_since, processes_of
from benchmarks.serving.settings import Settings
from benchmarks.serving.summary import Summary, summarize

__all__ = ["measure"]

LOCAL = ("127.0.0.1", "localhost", "::1")


def measure(settings: Settings) -> Summary:
    """What `settings.base_url` does with the requests."""
    given = asyncio.run(prompts(settings))
    warm = replace(settings, request_rate=float("inf"), max_concurrency=1)
    asyncio.run(run(warm, given[: settings.num_warmups]))
    processes = _processes(settings.base_url)
    before = cpu_s(processes)
    done = asyncio.run(run(settings, given))
    used = cpu_since(before, processes)
    alone = run_alone(settings, given) if settings.engine_alone else None
    return summarize(done, settings, used, alone)


def _processes(base_url: str) -> Mapping[int, str]:
    """Those of a server on this machine, else none."""
    parts = urlsplit(base_url)
    if parts.hostname not in LOCAL or parts.port is None:
        return {}
    return processes_of(parts.port)
