"""A real Serve with the embedded model, started once for every test that speaks HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from openai import OpenAI
from ray import serve

from deployments.app import AppArgs, build_app
from tests.conftest import free_port


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where the app listens, and clients for it."""

    url: str
    http: httpx.Client
    openai: OpenAI

    def stats(self, app: str = "dream") -> dict[str, float]:
        """The engine's counters, asked of the replica past HTTP."""
        handle = serve.get_deployment_handle("DreamReplica", app)
        stats: dict[str, float] = handle.stats.remote().result(timeout_s=10)
        return stats


@pytest.fixture(scope="session")
def server(ray_local: None) -> Iterator[Server]:
    """The app at a free port with `model=embedded`."""
    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(build_app(AppArgs(model="embedded", timeout_s=60)), name="dream")
    url = f"http://127.0.0.1:{port}"
    with (
        httpx.Client(base_url=url, timeout=60) as http,
        OpenAI(base_url=f"{url}/v1", api_key="none", timeout=60, max_retries=0) as openai,
    ):
        yield Server(url=url, http=http, openai=openai)
    serve.shutdown()
