"""Seconds of each stage of `Engine.step`; nothing waits for the device but what always does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dream import Engine
from dream.engine.batch import Batch
from dream.engine.runner import HostCommit, ModelRunner, Sampled
from dream.model.modeling import DreamModel
from dream.remasking import Commit

__all__ = ["Mark", "StageClock", "Stages", "reached"]


@dataclass(slots=True)
class Stages:
    """Seconds of one step, or their sums over many; the head's are part of commit's.

    collate: until the forward is called, scheduling included. forward, commit (drawing and
    choosing): on the device.
    to_host: what is left until the tokens are on the host. settle: from there to the end.
    """

    step: float = 0.0
    collate: float = 0.0
    forward: float = 0.0
    commit: float = 0.0
    head: float = 0.0
    to_host: float = 0.0
    settle: float = 0.0

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
    """Stands in for an engine's runner and notes when each of its calls begins and ends."""

    def __init__(self, runner: ModelRunner, model: DreamModel, device: str) -> None:
        self._runner = runner
        self._device = device
        self._marks: dict[str, Mark] = {}
        self._head: list[Mark] = []
        self._logits = model.logits

    @classmethod
    @contextmanager
    def on(cls, engine: Engine, model: DreamModel) -> Iterator[StageClock]:
        """A clock on an engine over this model."""
        runner = engine._runner
        clock = cls(runner, model, engine.config.device)
        engine._runner = clock  # type: ignore[assignment]
        model.logits = clock.logits  # type: ignore[method-assign]
        try:
            yield clock
        finally:
            engine._runner = runner
            del model.logits

    def step(self, engine: Engine) -> Stages:
        """Run one step of the engine."""
        self._head.clear()
        start = time.perf_counter()
        engine.step()
        end = time.perf_counter()
        marks = self._marks
        forward = marks["forward"].until(marks["sample"])
        commit = marks["sample"].until(marks["to_host"])
        called, arrived = marks["forward"].host_s, marks["arrived"].host_s
        return Stages(
            step=end - start,
            collate=called - start,
            forward=forward,
            commit=commit,
            head=sum(a.until(b) for a, b in zip(self._head[::2], self._head[1::2], strict=True)),
            to_host=max(0.0, arrived - called - forward - commit),
            settle=end - arrived,
        )

    def forward(self, batch: Batch) -> Tensor:
        """As `ModelRunner.forward`."""
        self._mark("forward")
        return self._runner.forward(batch)

    def sample(self, hidden_NE: Tensor, batch: Batch) -> Sampled:
        """As `ModelRunner.sample`."""
        self._mark("sample")
        return self._runner.sample(hidden_NE, batch)

    def sample_whole(
        self, sampled: Sampled, open_N: NDArray[np.int64], hidden_NE: Tensor, batch: Batch
    ) -> Sampled:
        """As `ModelRunner.sample_whole`."""
        return self._runner.sample_whole(sampled, open_N, hidden_NE, batch)

    def commit(self, sampled: Sampled, batch: Batch) -> Commit:
        """As `ModelRunner.commit`."""
        return self._runner.commit(sampled, batch)

    def to_host(self, commit: Commit, sampled: Sampled) -> HostCommit:
        """As `ModelRunner.to_host`."""
        self._mark("to_host")
        found = self._runner.to_host(commit, sampled)
        self._mark("arrived")
        return found

    def forget(self, slots: NDArray[np.int64]) -> None:
        """As `ModelRunner.forget`."""
        self._runner.forget(slots)

    def logits(self, hidden_NE: Tensor, out_NV: Tensor | None = None) -> Tensor:
        """As `DreamModel.logits`."""
        self._head.append(Mark(self._device))
        logits_NV = self._logits(hidden_NE, out_NV)
        self._head.append(Mark(self._device))
        return logits_NV

    def _mark(self, name: str) -> None:
        self._marks[name] = Mark(self._device)
