"""Engines that are made and warmed up in a thread of their own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from dream.engine.config import EngineConfig
from dream.engine.engine import Engine
from dream.params import SamplingParams
from dream.request import Request
from dream.template import Hole, Template

__all__ = ["made_apart", "warm_engine"]

T = TypeVar("T")


def made_apart(make: Callable[[], T]) -> T:
    """What `make` returns, made in a thread that is gone afterwards.

    OpenMP keeps a team of threads for each thread that has computed. With two teams on the same
    cores neither spins for its next task, so that every small operation waits to be woken: an
    engine that loads and warms up in the main thread then runs slower in its own.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(make).result()


def warm_engine(model: str, config: EngineConfig) -> Engine:
    """An engine that has run a request, made apart."""
    return made_apart(lambda: _warmed(model, config))


def _warmed(model: str, config: EngineConfig) -> Engine:
    engine = Engine.from_pretrained(model, config)
    params = SamplingParams(steps=2, seed=0)
    engine.generate([Request(id="warm-up", template=Template([Hole(8)]), params=params)])
    return engine
