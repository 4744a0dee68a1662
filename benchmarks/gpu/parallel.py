"""One exact request whose weights several GPUs share, one process for each."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.gpu.bench import ALONE, Bench, Budget
from benchmarks.gpu.record import Finding, skipped

__all__ = ["parallel"]


def parallel(bench: Bench, budget: Budget) -> Iterator[Finding]:
    """Tokens/s of all processes together, and against one; the whole weights are given up."""
    if bench.degree == 1:
        yield skipped("exact, one request, several processes", "needs several devices")
        return
    bench.give_up()
    tokens_per_s = _run(bench, budget)
    what = f"{ALONE}, {bench.degree} processes"
    yield Finding(what=what, value=tokens_per_s, unit="tokens/s", mode="eager")
    if alone := bench.record.value(ALONE, "eager"):
        ratio = tokens_per_s / alone
        yield Finding(what=f"{what}, against one", value=ratio, unit="times", mode="eager")


def _run(bench: Bench, budget: Budget) -> float:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    name = "7b" if bench.size.has_goals else "tiny"
    words = [sys.executable, "-m", "benchmarks.gpu.rank", bench.device, name]
    words += [str(bench.degree), str(port)]
    processes = [
        subprocess.Popen([*words, str(rank)], stdout=subprocess.PIPE, text=True)
        for rank in range(bench.degree)
    ]
    try:
        told = [process.communicate(timeout=budget.left_s + 1)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    if any(process.returncode for process in processes):
        raise RuntimeError("a process of several failed; its error is in the log")
    return float(told[0].splitlines()[-1])
