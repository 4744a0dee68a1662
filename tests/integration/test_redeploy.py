"""A redeploy while streams run and requests come: nothing is lost, nothing is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest
from ray import serve

from deployments.app import AppArgs, build_app

pytestmark = [pytest.mark.ray, pytest.mark.slow]

STREAMED = {"model": "embedded", "prompt": "S:", "max_tokens": 300, "stream": True}
STREAMED |= {"diffusion": {"steps": 250, "early_exit": False}}
SMALL = {"model": "embedded", "prompt": "S:", "max_tokens": 4}
NUM_STREAMS = 3


def deploy(max_body_bytes: int) -> None:
    args = AppArgs(
        model="embedded", timeout_s=300, max_surge_percent=100, max_body_bytes=max_body_bytes
    )
    serve.run(build_app(args), name="surge", route_prefix="/surge")


@pytest.fixture
def url(server) -> Iterator[str]:
    deploy(100_000)
    yield f"{server.url}/surge"
    serve.delete("surge")


def streamed(url: str, seed: int, has_begun: threading.Barrier) -> str:
    """A whole stream."""
    body = {**STREAMED, "seed": seed}
    with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=300) as response:
        assert response.status_code == 200
        lines = response.iter_lines()
        first = next(lines)
        has_begun.wait(60)
        return "\n".join([first, *lines])


def asked_until(url: str, streams: list[Future[str]]) -> list[tuple[int, int]]:
    """While streams run: the status of small requests, and the limit that then held."""
    found = []
    with httpx.Client(base_url=url, timeout=300) as http:
        while not all(stream.done() for stream in streams):
            status = http.post("/v1/completions", json=SMALL).status_code
            shown = http.get("/v1/models").json()["data"][0]["limits"]["body_bytes"]
            if not all(stream.done() for stream in streams):
                found.append((status, shown))
    return found


def test_streams_end_whole_and_new_requests_are_answered_during_a_redeploy(url):
    has_begun = threading.Barrier(NUM_STREAMS + 1)
    with ThreadPoolExecutor(NUM_STREAMS + 1) as pool:
        streams = [pool.submit(streamed, url, seed, has_begun) for seed in range(NUM_STREAMS)]
        has_begun.wait(60)
        small = pool.submit(asked_until, url, streams)
        deploy(200_000)
        texts = [stream.result() for stream in streams]
        found = small.result()

    assert all("[DONE]" in text and "error" not in text for text in texts)
    assert {status for status, _ in found} == {200}
    limits = [limit for _, limit in found]
    assert limits == sorted(limits)
    assert set(limits) == {100_000, 200_000}
