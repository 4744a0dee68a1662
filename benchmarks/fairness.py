"""How long little work waits beside much, through HTTP, on one replica of the embedded model.

Two keys: the polite key sends small requests at Poisson times, at a stated share of what it gets
alone at saturation. The greedy key has large requests in flight all the time. The polite key's
latency is measured alone, and then with the same arrivals beside the greedy one. Then one key sends
large requests, the largest that the server takes, and behind them one request of one token.

`python -m benchmarks.fairness --record NAME` also writes results/fairness_NAME_yyyymm.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.fairness_report import Behind, Beside, Fairness, record, text
from benchmarks.hardware import describe
from benchmarks.serving.client import arrivals
from benchmarks.serving.server import served
from benchmarks.serving.timed_calls import Call, call_all, filling
from deployments.app import AppArgs
from deployments.key_file import Key, editing, new_key
from deployments.replica import DreamReplica

__all__ = ["Load", "main", "measure"]

RESULTS = Path(__file__).parent / "results"
SMALL = 64
LARGE = 200
STEPS_BEHIND = 75
PATIENCE_S = 3600.0
"""So long that no work is refused because it would wait."""

SHARE = 0.35
"""Of the rate at which the engine fills small requests: what the polite key asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much is sent. requests: of the polite key in each run. greedy: large ones in flight.

    choices: of each. behind, prompts: large requests that one small one is sent behind.
    """

    requests: int = 100
    greedy: int = 3
    choices: int = 8
    behind: int = 5
    prompts: int = 16
    seed: int = 0


DEFAULTS = Load()


def measure(max_num_batched_tokens: int, load: Load) -> Fairness:
    """What came of it at steps of so many tokens."""
    with tempfile.TemporaryDirectory() as folder, _keys(Path(folder) / "keys.json") as secrets:
        args = AppArgs.model_validate(
            {
                "model": "embedded",
                "max_num_batched_tokens": max_num_batched_tokens,
                "keys": str(Path(folder) / "keys.json"),
                "timeout_s": PATIENCE_S,
            }
        )
        with served(DreamReplica, args=args) as url:
            return asyncio.run(_measure(url, *secrets, max_num_batched_tokens, load))


def main(words: Sequence[str] | None = None, results: Path = RESULTS) -> None:
    """Measure at each size of a step, print the page, and with --record write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "-n", type=int, default=DEFAULTS.requests, help="polite requests of each run"
    )
    parser.add_argument("--greedy", type=int, default=DEFAULTS.greedy, help="large ones in flight")
    parser.add_argument("--prompts", type=int, default=DEFAULTS.prompts, help="of what is behind")
    parser.add_argument(
        "--max-num-batched-tokens", dest="tokens", type=int, nargs="+", default=[256, 4096]
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", metavar="NAME", help="write the results")
    given = parser.parse_args(words)
    load = Load(requests=given.n, greedy=given.greedy, prompts=given.prompts, seed=given.seed)
    found = [measure(tokens, load) for tokens in given.tokens]
    command = f"python -m benchmarks.fairness -n {given.n} --greedy {given.greedy}"
    command += f" --prompts {given.prompts} --seed {given.seed} --max-num-batched-tokens "
    about = describe(command + " ".join(map(str, given.tokens)))
    print(text(about, found))
    if given.record:
        print(record(given.record, about, found, results))


@contextmanager
def _keys(path: Path) -> Iterator[tuple[str, str]]:
    """A key file with two keys, and what their callers send."""
    made = {name: new_key() for name in ("polite", "greedy")}
    with editing(path) as keys:
        keys.extend(Key(name=name, sha256=digest) for name, (_, digest) in made.items())
    yield made["polite"][0], made["greedy"][0]


async def _measure(
    url: str, polite: str, greedy: str, max_num_batched_tokens: int, load: Load
) -> Fairness:
    load_average = os.getloadavg()[0]
    rate = SHARE * await _saturation(url, polite, load.requests)
    alone = await _polite(url, polite, rate, load)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_endless(url, greedy, load)) for _ in range(load.greedy)]
        await asyncio.sleep(1)
        beside = await _polite(url, polite, rate, load)
        for task in tasks:
            task.cancel()
    behind = await _behind(url, polite, load)
    return Fairness(
        max_num_batched_tokens=max_num_batched_tokens,
        load_average=load_average,
        load_average_after=os.getloadavg()[0],
        requests_per_s=rate,
        alone=alone,
        beside=beside,
        behind=behind,
    )


async def _saturation(url: str, key: str, number: int) -> float:
    """Small requests a second, with eight in flight."""
    calls = [Call(body=filling(SMALL), key=key)] * max(8, number // 4)
    await call_all(url, calls[:2])
    start = time.perf_counter()
    replies = await call_all(url, calls, 8)
    assert not any(reply.error for reply in replies), replies
    return len(calls) / (time.perf_counter() - start)


async def _polite(url: str, key: str, rate: float, load: Load) -> Beside:
    body = filling(SMALL)
    times = arrivals(load.requests, rate, load.seed)
    replies = await call_all(url, [Call(body=body, at_s=at, key=key) for at in times])
    ms = [1000 * reply.seconds for reply in replies if reply.error is None]
    return Beside(
        requests=len(replies),
        lost=len(replies) - len(ms),
        p50_ms=float(np.quantile(ms, 0.5)),
        p99_ms=float(np.quantile(ms, 0.99)),
    )


async def _endless(url: str, key: str, load: Load) -> None:
    """One large request after the other, until cancelled."""
    while True:
        await call_all(url, [Call(body=filling(LARGE, n=load.choices), key=key)])


async def _behind(url: str, key: str, load: Load) -> Behind:
    """Seconds until one token is there, alone and behind large requests of the same key."""
    one = Call(body=filling(1, steps=1), key=key)
    alone = (await call_all(url, [one]))[0]
    body = filling(LARGE, n=load.choices, prompts=load.prompts, steps=STEPS_BEHIND)
    large = asyncio.create_task(call_all(url, [Call(body=body, key=key)] * load.behind))
    await asyncio.sleep(2)
    reply = (await call_all(url, [one]))[0]
    assert not large.done(), "the large requests still run"
    large.cancel()
    with suppress(asyncio.CancelledError):
        await large
    assert alone.error is None, alone
    assert reply.error is None, reply
    return Behind(requests=load.behind, alone_s=alone.seconds, behind_s=reply.seconds)


if __name__ == "__main__":
    main()
