"""A server of its own whose processes are killed and stopped, load on it, and what became of it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import ray
from ray import serve
from ray.actor import ActorHandle

from deployments.app import AppArgs, build_app
from deployments.probes import replica_actors

APP = "faulty"

RECORD = "DREAM_FAULTS_RECORD"
"""Folder for what was counted, from which `python -m benchmarks.pages` makes a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one test has done and seen; lost: neither answered right nor by an allowed error."""

    fault: str
    faults: int
    requests: int
    served: int
    lost: int
    slowest_s: float

    def record(self) -> None:
        """Append it to the folder, if one is named."""
        if folder := os.environ.get(RECORD):
            Path(folder).mkdir(parents=True, exist_ok=True)
            with (Path(folder) / "faults.jsonl").open("a") as file:
                file.write(json.dumps(asdict(self)) + "\n")


def until(is_so: Callable[[], bool], timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.05)


def deploy(num_replicas: int, num_ingresses: int = 1, timeout_s: float = 300.0) -> None:
    """The app with so many of each, at its own path."""
    app = build_app(AppArgs(model="embedded", timeout_s=timeout_s, num_cpus=0.5))
    ingress = app._bound_deployment
    ingress.init_args[0]._bound_deployment._deployment_config.num_replicas = num_replicas
    ingress._deployment_config.num_replicas = num_ingresses
    serve.run(app, name=APP, route_prefix=f"/{APP}")


@contextmanager
def deployed(num_replicas: int, num_ingresses: int = 1) -> Iterator[None]:
    deploy(num_replicas, num_ingresses)
    try:
        yield
    finally:
        serve.delete(APP)


def processes(deployment: str) -> dict[int, ActorHandle[object]]:
    """The actors of a deployment by the ids of their processes."""
    found = {}
    for actor in replica_actors(APP, deployment):
        try:
            found[ray.get(actor.__ray_call__.remote(lambda _: os.getpid()), timeout=30)] = actor
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
            continue
    return found


def body(number: int, *, num_tokens: int, is_stream: bool) -> dict[str, object]:
    return {
        "model": "embedded",
        "prompt": f"Once {number}",
        "max_tokens": num_tokens,
        "temperature": 1.0,
        "seed": number,
        "stream": is_stream,
        "diffusion": {"early_exit": False},
    }


def text_of(response: httpx.Response, *, is_stream: bool) -> str:
    """The text of an answer or a stream; an error has none and fails."""
    assert response.status_code == 200, response.text
    if not is_stream:
        return response.json()["choices"][0]["text"]
    lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]", lines[-1]
    choices = [choice for line in lines[:-1] for choice in json.loads(line)["choices"]]
    return "".join(choice["text"] for choice in choices)


class Load:
    """Requests of which every second is a stream, sent together; their texts are known before."""

    def __init__(self, url: str, num_requests: int, num_tokens: int) -> None:
        self._client = httpx.Client(base_url=url, timeout=300)
        self._pool = ThreadPoolExecutor(num_requests)
        self._num_tokens = num_tokens
        self.numbers = range(num_requests)
        self.expected = {number: self.ask(number)[0] for number in self.numbers}

    def ask(self, number: int) -> tuple[str, float]:
        """The text of a request, and how long it took."""
        began, is_stream = time.monotonic(), number % 2 == 1
        asked = body(number, num_tokens=self._num_tokens, is_stream=is_stream)
        response = self._client.post(f"/{APP}/v1/completions", json=asked)
        return text_of(response, is_stream=is_stream), time.monotonic() - began

    def start(self) -> dict[int, Future[tuple[str, float]]]:
        """All of them at once."""
        return {number: self._pool.submit(self.ask, number) for number in self.numbers}

    def finish(
        self, fault: str, faults: int, asked: Mapping[int, Future[tuple[str, float]]]
    ) -> Outcome:
        """Wait for all; an answer counts if it is the one that was given without a fault."""
        slowest, served = 0.0, 0
        for number, future in asked.items():
            if future.exception() is None and future.result()[0] == self.expected[number]:
                served += 1
                slowest = max(slowest, future.result()[1])
        lost = len(asked) - served
        outcome = Outcome(
            fault=fault,
            faults=faults,
            requests=len(asked),
            served=served,
            lost=lost,
            slowest_s=round(slowest, 1),
        )
        outcome.record()
        return outcome

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._client.close()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
