"""A scheduler with canvases whose steps commit without a model."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from dream.canvas import Canvas
from dream.engine.scheduler import Scheduler
from dream.engine.slots import SlotPool
from tests.models import golden_engine, request

STEP = 64
QUANTUM = 512


class Line:
    """Adds canvases and steps them, and counts what ran.

    clock: tokens computed so far. served: tokens of each canvas by its name. finished: when each
    was, in the order in which they were. lent: who got slots, in that order.
    """

    def __init__(self, *, quantum: int = QUANTUM, step: int = STEP, **settings) -> None:
        slots = SlotPool(settings.pop("slots", 0))
        self.scheduler = Scheduler(
            max_num_batched_tokens=step, quantum=quantum, slots=slots, **settings
        )
        self.make = golden_engine()._make.make
        self.canvases: dict[str, Canvas] = {}
        self.served: Counter[str] = Counter()
        self.finished: dict[str, int] = {}
        self.lent: list[str] = []
        self.clock = 0

    def add(self, name: str, size: int = 8, steps: int | None = None, **fields) -> Canvas:
        """Queue a canvas of so many tokens; fields: key, group, priority, deadline, params."""
        params = fields.pop("params", {})
        wanted = replace(request(name, [[1], size - 1], steps=steps, **params), **fields)
        self.canvases[name] = self.make(wanted)
        self.scheduler.add(self.canvases[name])
        self._see_slots()
        return self.canvases[name]

    def add_group(self, name: str, count: int, size: int = 8, **fields) -> None:
        """Queue so many canvases that came together."""
        for n in range(count):
            self.add(f"{name}-{n}", size, group=name, **fields)

    def step(self) -> list[str]:
        """Run one step; the names of its canvases."""
        chosen = self.scheduler.schedule()
        for canvas in chosen:
            self._run(canvas)
        names = [canvas.request.id for canvas in chosen]
        for name in names:
            if self.canvases[name].is_finished:
                self.scheduler.remove(self.canvases.pop(name))
                self.finished[name] = self.clock
            else:
                self.scheduler.update(self.canvases[name])
        self._see_slots()
        return names

    def served_by(self, prefix: str) -> int:
        """Tokens of all canvases whose names begin so."""
        return sum(count for name, count in self.served.items() if name.startswith(prefix))

    def _see_slots(self) -> None:
        have = [name for name, canvas in self.canvases.items() if canvas.slots is not None]
        self.lent += [name for name in have if name not in self.lent]

    def _run(self, canvas: Canvas) -> None:
        self.clock += canvas.num_step_tokens
        self.served[canvas.request.id] += canvas.num_step_tokens
        plan = canvas.step_plan
        positions = plan.candidates[: plan.demand]
        tokens = np.ones(len(positions), np.int64)
        canvas.commit(positions, tokens, np.ones(len(positions), np.float32))
