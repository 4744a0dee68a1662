"""Phases that fail in every way there is, between two that do not."""

from __future__ import annotations

import os
import signal
import time

from benchmarks.gpu.record import Finding
from benchmarks.gpu.registry import Phase


def succeed(bench, budget):
    yield Finding(what="speed", value=2.0, unit="tokens/s")


def fail(bench, budget):
    yield Finding(what="found before the error", value=1.0)
    raise KeyError("no such kernel")


def hang(bench, budget):
    yield Finding(what="found before the hang", value=1.0)
    time.sleep(600)


def die(bench, budget):
    yield Finding(what="found before the end", value=1.0)
    os.kill(os.getpid(), signal.SIGSEGV)


def _phase(run, seconds: float = 60) -> Phase:
    return Phase(run=run, seconds=seconds, process="one", doc="a phase of a test")


PHASES = {
    "first": _phase(succeed),
    "fails": _phase(fail),
    "hangs": _phase(hang, 0.5),
    "dies": _phase(die),
    "waits": _phase(hang),
    "last": _phase(succeed),
}
