"""One process of a sharded engine: a whole `Engine` that holds its part of the weights."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import NamedTuple

import ray
import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import Store

from dream.engine.canvases import Canvases
from dream.engine.config import EngineConfig
from dream.engine.engine import Engine
from dream.engine.limits import Limits
from dream.engine.startup import check_start, sampled_sha256
from dream.engine.stats import EngineStats
from dream.engine.warm import warm_engine
from dream.errors import EngineError
from dream.request import Completion, Request, StepEvent

__all__ = [
    "Abort",
    "Add",
    "Address",
    "Close",
    "Command",
    "Loaded",
    "Rank",
    "Replan",
    "Report",
    "Ticked",
]
__all__ += ["HEALTH", "checksum"]

HEALTH = "health"
"""Concurrency group of `Rank.ping`, which is answered while a step runs."""


class Add(NamedTuple):
    """Queue a request, or go on with one from its events."""

    request: Request
    so_far: tuple[StepEvent, ...] = ()


class Replan(NamedTuple):
    """Have the timetable of a request end after `steps` steps."""

    request_id: str
    steps: int


class Abort(NamedTuple):
    """Drop a request."""

    request_id: str


class Close(NamedTuple):
    """End a request with what it has."""

    request_id: str


Command = Add | Replan | Abort | Close


class Address(NamedTuple):
    """Where the processes of an engine meet."""

    host: str
    port: int


class Checked(NamedTuple):
    """The process of a rank, and a digest of the checkpoint that it is about to load."""

    pid: int
    checkpoint: str


class Loaded(NamedTuple):
    """What an engine takes, and how it goes on with a request from its events."""

    limits: Limits
    canvases: Canvases


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a step did, and the state of the engine after it."""

    events: Sequence[StepEvent]
    completions: Sequence[Completion]
    has_work: bool
    pending_token_forwards: int
    stats: EngineStats


class Ticked(NamedTuple):
    """Answer to one tick: a checksum of what was committed; of rank 0 the report, too."""

    checksum: int
    report: Report | None


def checksum(events: Sequence[StepEvent]) -> int:
    """One number for who committed which tokens where, and in which step."""
    found = 0
    for event in events:
        told = (event.request_id, event.step, *event.positions, *event.token_ids)
        found = zlib.crc32(repr(told).encode(), found)
    return found


class Rank:
    """An actor that runs the same steps as its peers, each on its part of the weights.

    Methods run one after another in one thread, in the order of the calls; `ping` beside them.
    """

    def __init__(self, rank: int, model: str, config: EngineConfig) -> None:
        self._rank = rank
        self._model = model
        self._config = config
        self._store: Store | None = None
        self._engine: Engine | None = None
        self._open: set[str] = set()
        self._closed: list[Completion] = []
        self._num_ticks = 0

    def check(self) -> Checked:
        """Who this is; CheckpointError or InvalidRequest where this rank could not load."""
        degree = self._config.tensor_parallel
        folder = check_start(self._model, self._config, num_sharing=degree)
        return Checked(os.getpid(), sampled_sha256(folder))

    def listen(self, timeout_s: float) -> Address:
        """Open the store at which all ranks meet, on a free port; asked of rank 0 alone."""
        host: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        timeout = timedelta(seconds=timeout_s)
        store = TCPStore(host, 0, is_master=True, timeout=timeout, wait_for_workers=False)
        self._store = store
        return Address(host, store.port)

    def join(self, address: Address, timeout_s: float) -> None:
        """Meet the others; `timeout_s` also bounds every later wait for them."""
        timeout = timedelta(seconds=timeout_s)
        store = self._store or TCPStore(*address, is_master=False, timeout=timeout)
        dist.init_process_group(
            "nccl" if self._config.device.startswith("cuda") else "gloo",
            store=store,
            rank=self._rank,
            world_size=self._config.tensor_parallel,
            timeout=timeout,
        )

    def load(self) -> Loaded:
        """Load this rank's part, and run a first request together."""
        engine = self._engine = warm_engine(self._model, self._config)
        canvases = Canvases(
            mask_id=engine.mask_token_id,
            eos_ids=engine.eos_token_ids,
            is_parity=self._config.parity,
            is_bit_exact=engine.is_bit_exact,
            approximation=self._config.approximation,
        )
        return Loaded(engine.limits, canvases)

    def tick(self, number: int, commands: Sequence[Command]) -> Ticked:
        """Take commands, then run one step."""
        engine = self._loaded()
        if number != self._num_ticks:
            raise EngineError(f"tick {number} came to a rank that expects {self._num_ticks}")
        self._num_ticks += 1
        for command in commands:
            self._take(engine, command)
        events = engine.step()
        completions = [*self._closed, *engine.collect()]
        self._closed = []
        self._open.difference_update(done.id for done in completions)
        if self._rank > 0:
            return Ticked(checksum(events), None)
        report = Report(
            events=events,
            completions=completions,
            has_work=engine.has_work,
            pending_token_forwards=engine.pending_token_forwards,
            stats=replace(engine.stats),
        )
        return Ticked(checksum(events), report)

    @ray.method(concurrency_group=HEALTH)
    def ping(self) -> None:
        """Answers as long as the process runs."""

    def leave(self) -> None:
        """Part from the others; nothing is called afterwards."""
        self._engine = None
        if dist.is_initialized():
            dist.destroy_process_group()

    def _loaded(self) -> Engine:
        assert self._engine is not None, "load() comes before tick()"
        return self._engine

    def _take(self, engine: Engine, command: Command) -> None:
        """A request may be over before a command for it arrives, which then has no effect."""
        match command:
            case Add(request, so_far):
                engine.add(request, so_far)
                self._open.add(request.id)
            case Replan(request_id, steps) if request_id in self._open:
                engine.replan(request_id, steps)
            case Abort(request_id) if request_id in self._open:
                engine.abort(request_id)
                self._open.discard(request_id)
            case Close(request_id) if request_id in self._open:
                self._closed.append(engine.close(request_id))
