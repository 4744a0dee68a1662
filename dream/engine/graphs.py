"""Small steps as CUDA graphs, the head and the sampler in them: hundreds of launches become one.

A graph's shapes and pointers are fixed. Sequences are padded to a power of two, and rows, keys and
wanted rows to a bucket: by sequences of real rows (never empty ones), whose result nobody reads and
whose keys and values go to a slot of the cache that no canvas has. A shape is captured when it
comes for the third time, and gives way only when it has not been used for a long time, so that
shapes never take turns in being captured.
Letters: T packed rows, U keys, N wanted rows, B sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dream.engine.capture import Capture, Replay
from dream.model.attention import LengthGroup, PackedLayout, Segments, Wanted
from dream.model.cache import CachedRows
from dream.model.modeling import DreamModel

__all__ = ["Result", "StepGraphs", "Tail"]

ROWS = 64
MOST_ROWS = 512
"""Packed rows are padded to multiples of this, up to so many; more keep the device busy alone."""

WANTED, KEYS = 64, 512
"""Wanted rows and kept keys are padded to multiples of these."""

SIGHTS = 3
"""A shape is captured when it comes for this time: a capture takes as long as many steps."""

MOST_GRAPHS = 64
LONG_UNUSED = 1000
"""Graphs kept; one more takes the place of one that no step of the last so many has used."""

MOST_COUNTED = 4096
"""Shapes that are counted before the counts begin anew."""


class Tail(NamedTuple):
    """What follows the forward in the same graph: the sampling of the wanted rows.

    key: equal where `call` does the same. params: [N] each. call: from hidden rows and parameters
    to tensors [N] each.
    """

    key: Hashable
    params: tuple[Tensor, ...]
    call: Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]


class Result(NamedTuple):
    """Hidden states, and what the tail gave; None where it did not run."""

    hidden_NE: Tensor
    tail: tuple[Tensor, ...] | None


class _Shape(NamedTuple):
    """What a graph is captured for; with length groups where the attention loops over them."""

    num_rows: int
    num_keys: int
    num_wanted: int
    num_sequences: int
    is_cached: bool
    tail: Hashable
    length_groups: tuple[tuple[LengthGroup, ...], tuple[LengthGroup, ...]] | None


@dataclass(slots=True)
class _Graph:
    """The tensors a graph reads, the graph, and the step it was last used at."""

    token_ids_T: Tensor
    layout: PackedLayout
    params: tuple[Tensor, ...]
    replay: Replay
    used_at: int = 0


class StepGraphs:
    """Runs a model's forward by graphs where a step is small, and as it is where not."""

    def __init__(self, model: DreamModel, capture: Capture, max_logit_rows: int) -> None:
        self._model = model
        self._capture = capture
        self._max_logit_rows = max_logit_rows
        self._graphs: dict[_Shape, _Graph] = {}
        self._sights: dict[_Shape, int] = {}
        self._num_steps = 0
        self.num_replayed = 0

    @property
    def num_captured(self) -> int:
        """Graphs there are."""
        return len(self._graphs)

    def run(self, token_ids_T: Tensor, layout: PackedLayout, tail: Tail | None) -> Result:
        """The forward, and the tail where a graph holds it; results last until the next call."""
        self._num_steps += 1
        shape = self._shape(layout, tail)
        graph = None if shape is None else self._graph(shape, token_ids_T, layout, tail)
        if graph is None:
            return Result(self._model(token_ids_T, layout), None)
        assert layout.wanted is not None
        assert shape is not None
        _fill(graph, token_ids_T, layout, () if tail is None else tail.params)
        graph.used_at = self._num_steps
        self.num_replayed += 1
        num_wanted = len(layout.wanted.rows_N)
        hidden_NE, *sampled = (values[:num_wanted] for values in graph.replay())
        return Result(hidden_NE, None if shape.tail is None else tuple(sampled))

    def _graph(
        self, shape: _Shape, token_ids_T: Tensor, layout: PackedLayout, tail: Tail | None
    ) -> _Graph | None:
        """The graph of this shape, captured now if it is time to; None where it is not."""
        graph = self._graphs.get(shape)
        if graph is not None:
            return graph
        if len(self._sights) >= MOST_COUNTED:
            self._sights.clear()
        self._sights[shape] = self._sights.get(shape, 0) + 1
        if self._sights[shape] < SIGHTS or not self._has_room():
            return None
        del self._sights[shape]
        graph = self._graphs[shape] = self._new(shape, token_ids_T, layout, tail)
        return graph

    def _has_room(self) -> bool:
        """Whether one more graph may be kept; drops one that is long unused."""
        if len(self._graphs) < MOST_GRAPHS:
            return True
        oldest = min(self._graphs, key=lambda shape: self._graphs[shape].used_at)
        if self._num_steps - self._graphs[oldest].used_at < LONG_UNUSED:
            return False
        del self._graphs[oldest]
        return True

    def _shape(self, layout: PackedLayout, tail: Tail | None) -> _Shape | None:
        """None where a graph does not serve: large steps, and kept rows beside exact ones."""
        mixed = layout.cached is not None and layout.cached.num_exact > 0
        if layout.wanted is None or mixed:
            return None
        segments, wanted = layout.segments, layout.wanted.segments
        num_sequences = len(segments.cu_queries) - 1
        total = 1 << num_sequences.bit_length()
        padding = total - num_sequences
        num_rows = _above(len(layout.positions_T) + padding, ROWS)
        num_wanted = _above(len(layout.wanted.rows_N) + padding, WANTED)
        if num_rows > MOST_ROWS:
            return None
        cached = layout.cached
        return _Shape(
            num_rows,
            num_rows if cached is None else _above(len(cached.read) + padding, KEYS),
            num_wanted,
            total,
            cached is not None,
            None if tail is None or num_wanted > self._max_logit_rows else tail.key,
            (segments.length_groups, wanted.length_groups)
            if self._model.backend == "sdpa"
            else None,
        )

    def _new(
        self, shape: _Shape, token_ids_T: Tensor, layout: PackedLayout, tail: Tail | None
    ) -> _Graph:
        assert layout.wanted is not None
        rows, keys, count = shape.num_rows, shape.num_keys, shape.num_wanted
        static = PackedLayout(
            _room(layout.positions_T, rows),
            _segments(layout.segments, shape.num_sequences, rows, keys),
            Wanted(
                _room(layout.wanted.rows_N, count),
                _segments(layout.wanted.segments, shape.num_sequences, count, keys),
            ),
            _cached(layout.cached, rows, keys),
        )
        ids_T, model = _room(token_ids_T, rows), self._model
        given = () if tail is None else tail.params
        params = tuple(values_N.new_ones(count) for values_N in given)
        follow = None if shape.tail is None or tail is None else tail.call

        def call() -> tuple[Tensor, ...]:
            hidden_NE: Tensor = model(ids_T, static)
            return (hidden_NE,) if follow is None else (hidden_NE, *follow(hidden_NE, params))

        graph = _Graph(ids_T, static, params, call)
        _fill(graph, token_ids_T, layout, given)
        graph.replay = self._capture(call)
        return graph


def _fill(
    graph: _Graph, token_ids_T: Tensor, layout: PackedLayout, params: tuple[Tensor, ...]
) -> None:
    """Copy a step into a graph's tensors; what it does not fill belongs to the padding."""
    static = graph.layout
    assert static.wanted is not None
    assert layout.wanted is not None
    static.wanted.rows_N.fill_(len(graph.token_ids_T) - 1)
    pairs = [
        (graph.token_ids_T, token_ids_T),
        (static.positions_T, layout.positions_T),
        (static.wanted.rows_N, layout.wanted.rows_N),
        *zip(graph.params, params, strict=True),
    ]
    if static.cached is not None and layout.cached is not None:
        scratch = static.cached.cache.scratch_slot
        for to, given in (
            (static.cached.written, layout.cached.written),
            (static.cached.read, layout.cached.read),
        ):
            to.fill_(scratch)
            pairs.append((to, given))
    for to, given in pairs:
        to[: len(given)].copy_(given)
    num_keys = len(token_ids_T if layout.cached is None else layout.cached.read)
    for ends, given, total in (
        (static.segments.cu_queries, layout.segments.cu_queries, len(token_ids_T)),
        (static.segments.cu_keys, layout.segments.cu_keys, num_keys),
        (
            static.wanted.segments.cu_queries,
            layout.wanted.segments.cu_queries,
            len(layout.wanted.rows_N),
        ),
        (static.wanted.segments.cu_keys, layout.wanted.segments.cu_keys, num_keys),
    ):
        _fill_ends(ends, given, total)


def _fill_ends(ends: Tensor, given: Tensor, total: int) -> None:
    """Where sequences end: those given, then padding of one row each; the last stays as it is."""
    known, last = len(given), len(ends) - 1
    ends[:known].copy_(given)
    if known < last:
        torch.arange(total + 1, total + 1 + last - known, out=ends[known:last])


def _above(size: int, step: int) -> int:
    """The multiple of a step that holds so many."""
    return -(-size // step) * step


def _room(like: Tensor, size: int) -> Tensor:
    return like.new_zeros(size)


def _segments(given: Segments, num_sequences: int, num_queries: int, num_keys: int) -> Segments:
    """With more sequences, of one row each but the last, which takes what is left of the bucket."""
    sizes = [
        (group.num_sequences, group.num_queries, group.num_keys) for group in given.length_groups
    ]
    single = num_sequences - len(given.cu_queries)
    queries_left = num_queries - sum(count * queries for count, queries, _ in sizes) - single
    keys_left = num_keys - sum(count * keys for count, _, keys in sizes) - single
    num_ends = num_sequences + 1
    cu_queries, cu_keys = _room(given.cu_queries, num_ends), _room(given.cu_keys, num_ends)
    cu_queries[-1:].fill_(num_queries)
    cu_keys[-1:].fill_(num_keys)
    ones = (LengthGroup(single, 1, 1),) if single else ()
    groups = (*given.length_groups, *ones, LengthGroup(1, queries_left, keys_left))
    return Segments(cu_queries, cu_keys, num_queries, num_keys, groups)


def _cached(given: CachedRows | None, num_rows: int, num_keys: int) -> CachedRows | None:
    if given is None:
        return None
    return CachedRows(given.cache, 0, _room(given.written, num_rows), _room(given.read, num_keys))
