"""Through Serve: a replica over two ranks answers as one process does, and is replaced whole."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable

import httpx
import pytest
from ray import serve

from deployments.app import AppArgs, build_app
from dream.model.loader import resolve
from tests.cluster.processes import actors_here, eventually, gone, groups_here
from tests.random_model import save_random_model

pytestmark = [pytest.mark.ray, pytest.mark.faults]

REPLACED_S = 120
"""Most seconds from the death of a rank to the next answer, on a busy machine of two cores."""

PATH = "/sharded"
"""Beside the app that every test of the session shares."""

BODIES = [
    {"prompt": "Once upon a time", "max_tokens": 24, "temperature": 0},
    {"prompt": "The dog", "max_tokens": 16, "temperature": 0.8, "seed": 5, "n": 2},
]


def texts(url: str) -> list[str]:
    """The choices of every body; the app is asked until it answers."""
    found: list[str] = []
    for body in BODIES:
        answer = httpx.post(f"{url}/v1/completions", json=body | {"model": "embedded"}, timeout=60)
        answer.raise_for_status()
        found += [choice["text"] for choice in answer.json()["choices"]]
    return found


def answers(url: str) -> Callable[[], bool]:
    def has_answered() -> bool:
        try:
            return len(texts(url)) == 3
        except httpx.HTTPError:
            return False

    return has_answered


def rank_pids() -> list[int]:
    return actors_here("Rank")


def test_a_replica_over_two_ranks_answers_as_one_and_is_replaced_when_a_rank_dies(server):
    url = f"{server.url}{PATH}"
    before = groups_here()
    try:
        serve.run(build_app(AppArgs(model="embedded")), name="whole", route_prefix=PATH)
        expected = texts(url)
        serve.delete("whole")

        app = build_app(AppArgs(model="embedded", tensor_parallel=2))
        serve.run(app, name="sharded", route_prefix=PATH)
        assert texts(url) == expected
        first = rank_pids()
        assert len(first) == 2

        os.kill(first[0], signal.SIGKILL)
        began = time.monotonic()
        assert gone(first)
        assert eventually(lambda: len(rank_pids()) == 2, REPLACED_S)
        assert eventually(answers(url), REPLACED_S - (time.monotonic() - began))
        assert texts(url) == expected
        assert eventually(lambda: groups_here() == before + 1)

        second = rank_pids()
        assert not set(first) & set(second)
    finally:
        serve.delete("whole")
        serve.delete("sharded")
    assert gone(second)
    assert eventually(lambda: groups_here() == before)


def test_a_replica_over_four_ranks_answers_as_one(server, tmp_path):
    """A random model, because the embedded one has two key-value heads; its tokenizer is that."""
    folder = save_random_model(tmp_path / "four")
    for name in ("merges.txt", "tokenizer_config.json", "vocab.json"):
        shutil.copy(resolve("embedded") / name, folder / name)
    args = AppArgs(model=str(folder), model_id="embedded", max_model_len=200)
    sharded = args.model_copy(update={"tensor_parallel": 4})
    url = f"{server.url}/four"
    try:
        serve.run(build_app(args), name="four", route_prefix="/four")
        expected = texts(url)
        serve.delete("four")

        serve.run(build_app(sharded), name="four", route_prefix="/four")

        assert texts(url) == expected
        assert len(rank_pids()) == 4
    finally:
        serve.delete("four")
