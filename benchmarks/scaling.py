"""How fast an app follows its load, from no node to all of them and back: logical GPUs.

`python -m benchmarks.scaling` prints when each thing happened; `--record NAME` also writes
results/scaling_NAME_yyyymm. The nodes are processes of this machine, and the model is the embedded
one, so the times are those of Ray and Serve and not of a cloud or of Dream 7B.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import httpx
import ray
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from benchmarks.hardware import describe
from benchmarks.markdown import table
from benchmarks.serving.fake_cluster import fake_cluster, free_port
from deployments.request_ids import PROXY_CALLBACK

__all__ = ["Event", "Reaction", "main", "react", "record", "text"]

ROOT = Path(__file__).parent.parent
NUM_NODES = 2
NUM_CLIENTS = 6
WAIT_S = 240.0
NODE = {"CPU": 2, "GPU": 1, "object_store_memory": 100 * 2**20}
ASKED = {"model": "embedded", "prompt": "S:", "max_tokens": 128}
ASKED |= {"diffusion": {"steps": 128, "early_exit": False}}
SCALING = {
    "min_replicas": 0,
    "max_replicas": NUM_NODES,
    "initial_replicas": 0,
    "upscale_delay_s": 1,
    "downscale_delay_s": 3,
    "look_back_period_s": 11,
    "policy": {
        "policy_function": "deployments.autoscaling:BacklogPolicy",
        "policy_kwargs": {"target_seconds": 2},
    },
}
_ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5",
    "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5",
    **PROXY_CALLBACK,
}


class State(NamedTuple):
    """How many nodes are alive beside the head, and how many replicas there are and run."""

    nodes: int
    replicas: int
    running: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What came to pass, how many seconds after the load began or ended."""

    what: str
    after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """What the load and its end brought about, and how its requests were answered."""

    up: Sequence[Event]
    down: Sequence[Event]
    answers: dict[str, int]
    slowest_s: float


class Clients:
    """Each asks again as soon as it is answered; `answers` has the code and seconds of each."""

    def __init__(self, url: str) -> None:
        self.answers: list[tuple[str, float]] = []
        self._url = url
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(NUM_CLIENTS)]

    def start(self) -> None:
        """Put the load on."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Take it off; the last requests are answered first."""
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=WAIT_S) as http:
            while not self._is_over.is_set():
                began = time.monotonic()
                try:
                    code = str(http.post("/v1/completions", json=ASKED).status_code)
                except httpx.HTTPError as error:
                    code = type(error).__name__
                self.answers.append((code, time.monotonic() - began))


def react() -> Reaction:
    """Deploys the app with no replica, puts load on, waits for all nodes, takes it off, waits."""
    os.environ.update(_ENVIRONMENT)
    with fake_cluster(NUM_NODES, NODE):
        port = _deploy()
        assert _state() == State(0, 0, 0)
        clients, began = Clients(f"http://127.0.0.1:{port}"), time.monotonic()
        clients.start()
        try:
            up = _watch(
                began,
                {
                    "the first node": lambda state: state.nodes >= 1,
                    "the first replica": lambda state: state.running >= 1,
                    "the first answer": lambda _: bool(clients.answers),
                    "all nodes": lambda state: state.nodes >= NUM_NODES,
                    "all replicas": lambda state: state.running >= NUM_NODES,
                },
            )
        finally:
            clients.stop()
        down = _watch(
            time.monotonic(),
            {
                "no replica": lambda state: state.replicas == 0,
                "no node": lambda state: state.nodes == 0,
            },
        )
        serve.shutdown()  # type: ignore[no-untyped-call]  # Serve leaves it without types
    answers = Counter(code for code, _ in clients.answers)
    slowest_s = max(seconds for _, seconds in clients.answers)
    return Reaction(up=up, down=down, answers=dict(answers), slowest_s=round(slowest_s, 1))


def text(about: dict[str, str], found: Reaction) -> str:
    """The events as a page."""
    facts = "\n".join(f"- {key}: {value}" for key, value in about.items())
    rows = [("load on", event.what, f"{event.after_s:.1f}") for event in found.up]
    rows += [("load off", event.what, f"{event.after_s:.1f}") for event in found.down]
    answers = ", ".join(f"{code}: {count}" for code, count in sorted(found.answers.items()))
    return (
        f"# Nodes and replicas that follow the load\n\n{facts}\n"
        f"- nodes: {NUM_NODES} at most, of one logical GPU each; clients: {NUM_CLIENTS}\n\n"
        f"{table(['after', 'there is', 's'], rows, num_numbers=1)}\n\n"
        f"Answers by status: {answers}; the slowest, which waited for the first node, took "
        f"{found.slowest_s:.1f} s.\n"
    )


def record(name: str, about: dict[str, str], found: Reaction, root: Path = ROOT) -> Path:
    """Write the page and the numbers; their path without ending."""
    stem = root / "benchmarks/results" / f"scaling_{name}_{about['date'][:7].replace('-', '')}"
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".md").write_text(text(about, found), encoding="utf-8")
    values = {"about": about, **asdict(found)}
    stem.with_suffix(".json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return stem


def main(words: Sequence[str] | None = None, root: Path = ROOT) -> None:
    """Run it, print the page, and with --record write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", metavar="NAME", help="write results")
    parser.add_argument("--json", metavar="FILE", help="write the numbers alone")
    args = parser.parse_args(words)
    about, found = describe("python -m benchmarks.scaling"), react()
    print(text(about, found))
    if args.json is not None:
        Path(args.json).write_text(json.dumps(asdict(found)), encoding="utf-8")
    if args.record is not None:
        print(record(args.record, about, found, root))


def _deploy() -> int:
    """The app with no replica, as `serve deploy` would; the port it listens at."""
    port = free_port()
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    application = {
        "name": "dream",
        "route_prefix": "/",
        "import_path": "deployments.app:build_app",
        "args": {"model": "embedded", "timeout_s": WAIT_S},
        "deployments": [
            {
                "name": "DreamReplica",
                "ray_actor_options": {"num_cpus": 1, "num_gpus": 1},
                "autoscaling_config": SCALING,
            },
        ],
    }
    schema = ServeDeploySchema.model_validate({"applications": [application]})
    client = _get_global_client()
    assert client is not None
    client.deploy_apps(schema, _blocking=True)
    return port


def _state() -> State:
    states = serve.status().applications["dream"].deployments["DreamReplica"].replica_states
    every: list[dict[str, bool]] = ray.nodes()  # type: ignore[no-untyped-call]  # as Ray has it
    nodes = sum(1 for node in every if node["Alive"]) - 1
    running = sum(n for state, n in states.items() if state == "RUNNING")
    return State(nodes, sum(states.values()), running)


def _watch(began: float, wanted: dict[str, Callable[[State], bool]]) -> list[Event]:
    """When each came to pass; RuntimeError for what does not."""
    found: list[Event] = []
    while wanted:
        if time.monotonic() - began > WAIT_S:
            raise RuntimeError(f"not within {WAIT_S:g} s: {', '.join(wanted)}; there is {_state()}")
        state = _state()
        for what in [what for what, is_so in wanted.items() if is_so(state)]:
            found.append(Event(what=what, after_s=round(time.monotonic() - began, 1)))
            del wanted[what]
        time.sleep(0.1)
    return found


if __name__ == "__main__":
    main()
