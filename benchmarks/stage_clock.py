"""Seconds of each stage of `Engine.step`; nothing waits for the device but what always does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import pairwise

import torch

from dream import Engine
from dream.engine.runner import Stage

__all__ = ["Mark", "StageClock", "Stages", "reached"]


@dataclass(slots=True)
class Stages:
    """Seconds of one step, or their sums over many; the head's are part of commit's.

    collate: until the forward is called, scheduling included. forward, commit (drawing and
    choosing): on the device.
    to_host: what is left until the tokens are on the host. apply: from there to the end.
    """

    step: float = 0.0
    collate: float = 0.0
    forward: float = 0.0
    commit: float = 0.0
    head: float = 0.0
    to_host: float = 0.0
    apply: float = 0.0

    @property
    def overhead(self) -> float:
        """Share of a step that is neither the body nor the head: sampler, scheduling, copies."""
        return 1 - (self.forward + self.head) / self.step

    def __add__(self, other: Stages) -> Stages:
        names = [field.name for field in fields(self)]
        return Stages(*(getattr(self, name) + getattr(other, name) for name in names))


class Mark:
    """A moment on the host, and on a CUDA device the moment its work so far is done."""

    def __init__(self, device: str) -> None:
        self._event: torch.cuda.Event | None = None
        if torch.device(device).type == "cuda":
            self._event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            self._event.record()
        self.host_s = time.perf_counter()

    def until(self, end: Mark) -> float:
        """Seconds to a later mark, on the device; both must be past there."""
        if self._event is None or end._event is None:
            return end.host_s - self.host_s
        return float(self._event.elapsed_time(end._event)) / 1000


def reached(device: str) -> Mark:
    """A mark that everything asked of the device before has reached."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return Mark(device)


class StageClock:
    """Notes when the stages of an engine's steps begin."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._marks: list[tuple[Stage, Mark]] = []
        engine.trace(lambda stage: self._marks.append((stage, Mark(engine.config.device))))

    def step(self) -> Stages:
        """Run one step of the engine."""
        self._marks.clear()
        start = time.perf_counter()
        self._engine.step()
        end = time.perf_counter()
        first = dict(reversed(self._marks))
        last = dict(self._marks)
        forward = first["forward"].until(first["sample"])
        commit = first["sample"].until(last["read"])
        called, arrived = first["forward"].host_s, last["done"].host_s
        return Stages(
            step=end - start,
            collate=called - start,
            forward=forward,
            commit=commit,
            head=sum(self._heads()),
            to_host=max(0.0, arrived - called - forward - commit),
            apply=end - arrived,
        )

    def _heads(self) -> Iterator[float]:
        for (stage, mark), (_, after) in pairwise(self._marks):
            if stage == "head":
                yield mark.until(after)
