"""How many deadlines are met at 1.5 times saturation, through HTTP, with `deadline_ms` and without.

One replica of the embedded model on this machine. A closed run gives the rate at saturation, and
requests one after the other give the time of each size alone. Then Poisson arrivals at 1.5 times
that rate are served twice: with deadlines, and as plain requests that the client measures against
the same times. A time counts from the moment a request is due to the last byte of its answer. All
steps that must be run are a quarter of those asked for, which is a load of .375 of saturation.

`python -m benchmarks.deadlines --record NAME` also writes results/deadlines_NAME_yyyymm.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from benchmarks.deadlines_report import Deadlined, Setting, record, text
from benchmarks.hardware import describe
from benchmarks.serving.processes import cpu_s, cpu_since, processes_of
from benchmarks.serving.server import served
from benchmarks.serving.timed_calls import Call, Reply, call_all, filling
from deployments.app import AppArgs
from deployments.replica import DreamReplica

__all__ = ["arrivals_of", "main", "measure"]

RESULTS = Path(__file__).parent / "results"
SIZES = (16, 32, 48, 64, 80, 96)
IN_FLIGHT = 16
OVERLOAD = 1.5
FLOOR = 4
"""The fewest steps are those asked for, divided by this."""


def arrivals_of(rate: float, seconds: float, seed: int) -> list[tuple[float, int]]:
    """Times of a Poisson process until then, and the size of the request at each."""
    random = np.random.default_rng(seed)
    found, now = [], float(random.exponential(1 / rate))
    while now < seconds:
        found.append((now, int(random.choice(SIZES))))
        now += float(random.exponential(1 / rate))
    return found


def measure(
    args: AppArgs, *, seconds: float, multiple: float, rounds: int, seed: int
) -> tuple[Setting, list[Deadlined]]:
    """What the two runs gave.

    multiple: a deadline is so many times the time of its size alone. rounds: of each size, alone
    and in the closed run.
    """
    with served(DreamReplica, args=args) as url:
        return asyncio.run(_measure(url, args, seconds, multiple, rounds, seed))


def main(words: Sequence[str] | None = None, results: Path = RESULTS) -> None:
    """Measure, print the page, and with --record write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="in which requests arrive")
    parser.add_argument("--multiple", type=float, default=5.0, help="deadline, of the time alone")
    parser.add_argument("--rounds", type=int, default=10, help="of each size, before")
    parser.add_argument("--max-num-batched-tokens", dest="tokens", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", metavar="NAME", help="write the results")
    given = parser.parse_args(words)
    values = {"model": "embedded", "max_num_batched_tokens": given.tokens}
    args = AppArgs.model_validate(values)
    setting, found = measure(
        args,
        seconds=given.seconds,
        multiple=given.multiple,
        rounds=given.rounds,
        seed=given.seed,
    )
    command = f"python -m benchmarks.deadlines --seconds {given.seconds:g}"
    command += f" --multiple {given.multiple:g} --rounds {given.rounds}"
    command += f" --max-num-batched-tokens {given.tokens} --seed {given.seed}"
    about = describe(command)
    print(text(about, setting, found))
    if given.record:
        print(record(given.record, about, setting, found, results))


async def _measure(
    url: str, args: AppArgs, seconds: float, multiple: float, rounds: int, seed: int
) -> tuple[Setting, list[Deadlined]]:
    alone_s = await _alone(url, rounds)
    rate = await _saturation(url, rounds)
    arrivals = arrivals_of(OVERLOAD * rate, seconds, seed)
    setting = Setting(
        max_num_batched_tokens=args.engine.max_num_batched_tokens,
        saturation_per_s=rate,
        saturation_after_per_s=0.0,
        offered=OVERLOAD,
        floor_load=OVERLOAD / FLOOR,
        seconds=seconds,
        multiple=multiple,
        alone_ms={str(size): 1000 * alone for size, alone in alone_s.items()},
        load_average=os.getloadavg()[0],
    )
    due_s = {size: multiple * alone for size, alone in alone_s.items()}
    found = []
    for has_deadlines in (True, False):
        calls = [
            Call(at_s=at, body=_body(size, due_s[size] if has_deadlines else None))
            for at, size in arrivals
        ]
        found.append(await _serve(url, calls, [due_s[size] for _, size in arrivals], has_deadlines))
    return replace(setting, saturation_after_per_s=await _saturation(url, rounds)), found


async def _alone(url: str, rounds: int) -> Mapping[int, float]:
    """Median seconds of each size, one request after the other; the first round warms up."""
    times: dict[int, list[float]] = {size: [] for size in SIZES}
    for size in SIZES * (rounds + 1):
        (reply,) = await call_all(url, [Call(body=_body(size, None))])
        assert reply.error is None, reply.error
        times[size].append(reply.seconds)
    return {size: statistics.median(found[1:]) for size, found in times.items()}


async def _saturation(url: str, rounds: int) -> float:
    """Requests a second, with as many in flight as are always there."""
    calls = [Call(body=_body(size, None)) for size in SIZES * rounds]
    start = time.perf_counter()
    replies = await call_all(url, calls, IN_FLIGHT)
    assert not any(reply.error for reply in replies), replies
    return len(calls) / (time.perf_counter() - start)


def _body(size: int, due_s: float | None) -> dict[str, object]:
    if due_s is None:
        return filling(size)
    return filling(size, deadline_ms=round(1000 * due_s), min_steps=size // FLOOR)


async def _serve(
    url: str, calls: Sequence[Call], due_s: Sequence[float], has_deadlines: bool
) -> Deadlined:
    processes = processes_of(urlsplit(url).port or 0)
    before, own_before, start = cpu_s(processes), time.process_time(), time.perf_counter()
    replies = await call_all(url, calls)
    used = cpu_since(before, processes)
    return Deadlined(
        has_deadlines=has_deadlines,
        requests=len(replies),
        in_time=sum(_is_in_time(*pair) for pair in zip(replies, due_s, strict=True)),
        in_time_by_server=sum(reply.deadline_met is True for reply in replies),
        refused=sum(reply.error == "deadline_infeasible" for reply in replies),
        lost=sum(reply.error not in (None, "deadline_infeasible") for reply in replies),
        steps=_steps(replies, calls),
        p50_ms=_quantile_ms(replies, 0.5),
        p99_ms=_quantile_ms(replies, 0.99),
        seconds=time.perf_counter() - start,
        replica_cpu_s=used["replica"],
        server_cpu_s=used["proxy"] + used["ingress"],
        client_cpu_s=time.process_time() - own_before,
    )


def _is_in_time(reply: Reply, due_s: float) -> bool:
    return reply.error is None and reply.seconds <= due_s


def _steps(replies: Sequence[Reply], calls: Sequence[Call]) -> float:
    """Steps of what was answered, as a share of those asked for."""
    answered = [pair for pair in zip(replies, calls, strict=True) if pair[0].error is None]
    asked = sum(int(call.body["max_tokens"]) for _, call in answered)
    return sum(reply.steps for reply, _ in answered) / max(1, asked)


def _quantile_ms(replies: Sequence[Reply], share: float) -> float:
    times = [reply.seconds for reply in replies if reply.error is None]
    return 1000 * float(np.quantile(times, share)) if times else 0.0


if __name__ == "__main__":
    main()
