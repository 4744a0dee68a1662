"""Forwards of small steps as CUDA graphs: hundreds of launches become one.

A graph's shapes and pointers are fixed. Rows, keys and wanted rows are padded to a bucket by one
more sequence of real rows (never an empty one), whose result nobody reads and whose keys and values
go to a slot of the cache that no canvas has.
Letters: T packed rows, U keys, N wanted rows, B sequences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dream.model.attention import LengthGroup, PackedLayout, Segments, Wanted
from dream.model.cache import CachedRows
from dream.model.modeling import DreamModel

__all__ = ["Capture", "CaptureCuda", "ForwardGraphs"]

ROWS = tuple(range(32, 320, 32))
"""Buckets of packed rows; a step of more rows keeps the device busy while the host launches."""

WANTED, KEYS = 32, 512
"""Wanted rows and kept keys are padded to multiples of these."""

MOST_GRAPHS = 64
"""Graphs kept; one captured beyond that takes the place of the one longest unused."""

Replay = Callable[[], Tensor]
Capture = Callable[[Replay], Replay]
"""From a call to something that repeats it on what is then in the same tensors."""


class _Shape(NamedTuple):
    """What a graph is captured for; with length groups where the attention loops over them."""

    num_rows: int
    num_keys: int
    num_wanted: int
    num_sequences: int
    is_cached: bool
    length_groups: tuple[tuple[LengthGroup, ...], tuple[LengthGroup, ...]] | None


@dataclass(frozen=True, slots=True)
class _Graph:
    """The tensors a graph reads, and the graph."""

    token_ids_T: Tensor
    layout: PackedLayout
    replay: Replay


class ForwardGraphs:
    """Runs a model's forward by graphs where a step is small, and as it is where not."""

    def __init__(self, model: DreamModel, capture: Capture) -> None:
        self._model = model
        self._capture = capture
        self._graphs: dict[_Shape, _Graph] = {}
        self.num_replayed = 0

    @property
    def num_captured(self) -> int:
        """Graphs there are."""
        return len(self._graphs)

    def forward(self, token_ids_T: Tensor, layout: PackedLayout) -> Tensor:
        """As `DreamModel.forward`; the result lasts until the next call."""
        shape = self._shape(layout)
        if shape is None:
            whole: Tensor = self._model(token_ids_T, layout)
            return whole
        assert layout.wanted is not None
        graph = self._graphs.pop(shape, None) or self._new(shape, token_ids_T, layout)
        self._graphs[shape] = graph
        if len(self._graphs) > MOST_GRAPHS:
            del self._graphs[next(iter(self._graphs))]
        _fill(graph, token_ids_T, layout)
        self.num_replayed += 1
        return graph.replay()[: len(layout.wanted.rows_N)]

    def _shape(self, layout: PackedLayout) -> _Shape | None:
        """None where a graph does not serve: large steps, and kept rows beside exact ones."""
        num_rows = next((rows for rows in ROWS if rows > len(layout.positions_T)), None)
        mixed = layout.cached is not None and layout.cached.num_exact > 0
        if num_rows is None or layout.wanted is None or mixed:
            return None
        keys = num_rows if layout.cached is None else _above(len(layout.cached.read), KEYS)
        segments, wanted = layout.segments, layout.wanted.segments
        return _Shape(
            num_rows,
            keys,
            _above(len(layout.wanted.rows_N), WANTED),
            len(segments.cu_queries) - 1,
            layout.cached is not None,
            (segments.length_groups, wanted.length_groups)
            if self._model.backend == "sdpa"
            else None,
        )

    def _new(self, shape: _Shape, token_ids_T: Tensor, layout: PackedLayout) -> _Graph:
        assert layout.wanted is not None
        rows, keys, count = shape.num_rows, shape.num_keys, shape.num_wanted
        static = PackedLayout(
            _room(layout.positions_T, rows),
            _segments(layout.segments, rows, keys),
            Wanted(
                _room(layout.wanted.rows_N, count), _segments(layout.wanted.segments, count, keys)
            ),
            _cached(layout.cached, rows, keys),
        )
        ids_T, model = _room(token_ids_T, rows), self._model

        def call() -> Tensor:
            hidden_NE: Tensor = model(ids_T, static)
            return hidden_NE

        _fill(_Graph(ids_T, static, call), token_ids_T, layout)
        return _Graph(ids_T, static, self._capture(call))


class CaptureCuda:
    """CUDA graphs that share their memory: a result is read before the next one runs."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, call: Replay) -> Replay:
        """A graph of the call, after the warm-up on another stream that capture asks for."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                call()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            result = call()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay


def _fill(graph: _Graph, token_ids_T: Tensor, layout: PackedLayout) -> None:
    """Copy a step into a graph's tensors; what it does not fill belongs to the padding."""
    static = graph.layout
    assert static.wanted is not None
    assert layout.wanted is not None
    pairs = [
        (graph.token_ids_T, token_ids_T),
        (static.positions_T, layout.positions_T),
        (static.segments.cu_queries, layout.segments.cu_queries),
        (static.segments.cu_keys, layout.segments.cu_keys),
        (static.wanted.segments.cu_queries, layout.wanted.segments.cu_queries),
        (static.wanted.segments.cu_keys, layout.wanted.segments.cu_keys),
    ]
    static.wanted.rows_N.fill_(len(graph.token_ids_T) - 1)
    pairs.append((static.wanted.rows_N, layout.wanted.rows_N))
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


def _above(size: int, step: int) -> int:
    """The next multiple of a step, which leaves room for the padding."""
    return (size // step + 1) * step


def _room(like: Tensor, size: int) -> Tensor:
    return like.new_zeros(size)


def _segments(given: Segments, num_queries: int, num_keys: int) -> Segments:
    """With one more sequence, which takes what is left of the bucket."""
    sizes = [
        (group.num_sequences, group.num_queries, group.num_keys) for group in given.length_groups
    ]
    queries_left = num_queries - sum(count * queries for count, queries, _ in sizes)
    keys_left = num_keys - sum(count * keys for count, _, keys in sizes)
    num_ends = len(given.cu_queries) + 1
    cu_queries, cu_keys = _room(given.cu_queries, num_ends), _room(given.cu_keys, num_ends)
    cu_queries[-1:].fill_(num_queries)
    cu_keys[-1:].fill_(num_keys)
    groups = (*given.length_groups, LengthGroup(1, queries_left, keys_left))
    return Segments(cu_queries, cu_keys, num_queries, num_keys, groups)


def _cached(given: CachedRows | None, num_rows: int, num_keys: int) -> CachedRows | None:
    if given is None:
        return None
    return CachedRows(given.cache, 0, _room(given.written, num_rows), _room(given.read, num_keys))
