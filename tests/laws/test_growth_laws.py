"""Laws of growing canvases: the answer is that of the size at which it stops."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from dream import Engine, Hole, Request, Template
from tests.laws.reference import run
from tests.models import ending_engine, golden_engine, request

laws = settings(max_examples=25, deadline=None, derandomize=True)


def with_room(wanted: Request, size: int) -> Request:
    """The request with a last hole of this size, which does not grow."""
    segments = list(wanted.template.segments)
    place = max(n for n, segment in enumerate(segments) if isinstance(segment, Hole))
    segments[place] = replace(segments[place], num_tokens=size)
    own = replace(wanted.params, grow_to=None)
    return replace(wanted, template=Template(segments), params=own)


def runs_of(wanted: Request) -> list:
    """Events and completion of a plain request of each size up to the one that is kept."""
    found, hole = [], wanted.template.holes[-1]
    size = hole.end - hole.start
    while True:
        events, done = run(engine_for(wanted), with_room(wanted, size))
        found.append((events["a"], done["a"]))
        span = done["a"].spans[-1]
        if len(span.token_ids) < span.end - span.start or size >= wanted.params.grow_to:
            return found
        size = min(2 * size, wanted.params.grow_to)


def engine_for(wanted: Request) -> Engine:
    """With an odd seed every third id ends a text; otherwise hardly any does."""
    return ending_engine() if (wanted.params.seed or 0) % 2 else golden_engine()


growing = st.builds(
    lambda shape, grow_to, **params: request("a", shape, grow_to=grow_to, **params),
    st.sampled_from([[[1, 2], 1], [[1, 2], 3, [9]], [2, [5], 2]]),
    st.sampled_from([1, 2, 5, 13, 24]),
    temperature=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 30),
    steps=st.sampled_from([None, 2, 6]),
    early_exit=st.booleans(),
    threshold=st.sampled_from([None, 0.3]),
)


@laws
@given(growing)
def test_growth_gives_what_plain_requests_of_each_size_give_and_keeps_the_last(wanted):
    events, done = run(engine_for(wanted), wanted)

    runs = runs_of(wanted)
    usages = [plain.usage for _, plain in runs]
    last = runs[-1][1]
    assert events["a"] == [replace(e, attempt=n) for n, (told, _) in enumerate(runs) for e in told]
    sums = {
        name: sum(getattr(usage, name) for usage in usages)
        for name in ("steps", "forward_passes", "token_forwards", "forced_commits")
    }
    assert done["a"] == replace(last, usage=replace(last.usage, **sums))


@laws
@given(growing)
def test_growing_again_from_the_size_it_came_to_changes_no_token(wanted):
    done = run(engine_for(wanted), wanted)[1]["a"]
    size = done.spans[-1].end - done.spans[-1].start
    larger = with_room(wanted, size)
    again = replace(larger, params=wanted.params)

    second = run(engine_for(wanted), again)[1]["a"]

    assert second.spans[: len(done.spans)] == done.spans
    assert second.token_ids == done.token_ids


def test_growth_takes_more_than_one_run_where_nothing_ends():
    events, done = run(golden_engine(), request("a", [[1, 2], 3], grow_to=10))

    assert [event.attempt for event in events["a"]] == [0] * 2 + [1] * 5 + [2] * 9
    assert (done["a"].spans[0].start, done["a"].spans[0].end) == (2, 12)
    assert done["a"].usage.token_forwards == 2 * 5 + 5 * 8 + 9 * 12
