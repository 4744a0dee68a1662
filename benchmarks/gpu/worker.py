"""A process of `benchmarks.gpu`: runs some phases, and writes each finding when it is known.

A phase that fails ends the process; so nothing here catches anything.
"""

from __future__ import annotations

import faulthandler
import gc
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import torch

from benchmarks.gpu.bench import Bench, Budget
from benchmarks.gpu.log import Log
from benchmarks.gpu.model import SIZES
from benchmarks.gpu.page import row
from benchmarks.gpu.registry import Phase
from benchmarks.gpu.timing import is_cuda

__all__ = ["main"]

OWN_SHARE = 0.9
"""A phase stops itself after this share of the time after which it is stopped."""


def main() -> None:
    """Arguments: module of the phases, file, device, size, degree, and PHASE=SECONDS each."""
    registry, path, device, size, degree, *words = sys.argv[1:]
    phases: Mapping[str, Phase] = import_module(registry).PHASES
    log = Log(Path(path))
    bench = Bench(size=SIZES[size], device=device, log=log.path, degree=int(degree))
    gc.freeze()  # what the imports made is not looked at again
    for word in words:
        name, _, seconds = word.partition("=")
        print(f"{name}: {phases[name].doc}", flush=True)
        log.begin(name, phases[name].doc)
        _run(name, phases[name], float(seconds), bench, log)


def _run(name: str, phase: Phase, seconds: float, bench: Bench, log: Log) -> None:
    """One phase; when its time is over, the stack is told and the process ends."""
    faulthandler.dump_traceback_later(seconds, exit=True)
    start = time.perf_counter()
    for finding in phase.run(bench, Budget(OWN_SHARE * seconds)):
        log.add(name, finding)
        print(f"  {row(finding)}", flush=True)
    gc.collect()
    if is_cuda(bench.device):
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    faulthandler.cancel_dump_traceback_later()
    log.end(name, time.perf_counter() - start)


if __name__ == "__main__":
    main()
