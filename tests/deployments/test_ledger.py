"""Who has the least work: the laws of the ledger, and the estimate that it is charged with."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.cost import estimated_token_forwards, messages_of
from deployments.ledger import Ledger
from deployments.messages import CanvasRequest, View
from dream import Fixed, Hole, SamplingParams
from dream.text import Special, TextTemplate

REPLICAS = ["a", "b", "c"]

calls = st.lists(
    st.tuples(st.sampled_from(REPLICAS), st.sampled_from("123"), st.integers(0, 1000)), max_size=30
)


def ledger(now: list[float] | None = None) -> Ledger:
    clock = [0.0] if now is None else now
    return Ledger(clock=lambda: clock[0])


@settings(max_examples=100, derandomize=True, deadline=None)
@given(calls)
def test_a_replica_has_what_it_was_charged_with_until_the_requests_end(charged):
    books = ledger()
    for replica, request, cost in charged:
        books.charge(replica, request, cost)

    totals: Counter[str] = Counter()
    for replica, _, cost in charged:
        totals[replica] += cost
    assert {name: books.outstanding(name) for name in REPLICAS} == {n: totals[n] for n in REPLICAS}

    for replica, request, _ in reversed(charged):
        books.release(replica, request)
        books.release(replica, "unknown")
    assert [books.outstanding(name) for name in REPLICAS] == [0, 0, 0]


@settings(max_examples=100, derandomize=True, deadline=None)
@given(calls, st.floats(0, 10_000))
def test_own_requests_are_not_counted_again_in_a_report(charged, reported):
    books = ledger()
    for replica, request, cost in charged:
        books.charge(replica, request, cost)
    own = books.outstanding("a")

    books.report("a", reported)

    assert books.outstanding("a") == pytest.approx(max(own, reported))
    books.charge("a", "later", 70)
    books.report("a", reported)
    assert books.outstanding("a") == pytest.approx(max(own, reported) + 70)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=40))
def test_choosing_the_first_keeps_the_loads_within_one_request_of_each_other(costs):
    books = ledger()

    for number, cost in enumerate(costs):
        books.charge(books.ranked(REPLICAS)[0], str(number), cost)

    loads = [books.outstanding(name) for name in REPLICAS]
    assert max(loads) - min(loads) <= max(costs)


def test_equal_replicas_keep_their_order():
    assert ledger().ranked(["b", "a", "c"]) == ["b", "a", "c"]


def test_work_of_other_callers_counts_until_the_next_report():
    books = ledger()
    books.report("a", 100.0)
    assert books.ranked(REPLICAS) == ["b", "c", "a"]

    books.report("a", 0.0)

    assert books.ranked(REPLICAS) == REPLICAS


def test_a_silent_replica_comes_last_for_a_while_however_little_it_has_to_do():
    now = [0.0]
    books = ledger(now)
    books.charge("b", "1", 10)
    books.charge("c", "2", 20)
    books.avoid("a", for_s=5)

    assert books.ranked(REPLICAS) == ["b", "c", "a"]
    assert books.ranked(["a"]) == ["a"]
    now[0] = 5.0
    assert books.ranked(REPLICAS) == ["a", "b", "c"]


def test_a_replica_that_is_gone_is_forgotten_and_its_requests_still_end():
    books = ledger()
    books.charge("a", "1", 10)
    books.report("a", 500.0)
    books.avoid("a", for_s=5)

    books.forget(["a", "never seen"])

    assert books.outstanding("a") == 10
    books.release("a", "1")
    assert books.ranked(REPLICAS) == REPLICAS


def test_a_message_is_found_where_it_runs():
    books = ledger()
    books.charge("a", "1", 10, ["x"])
    books.charge("b", "2", 10, ["y", "z"])

    assert [books.replica_of(name) for name in "xyz"] == ["a", "b", "b"]
    books.release("b", "2")
    assert books.replica_of("z") is None


@pytest.mark.parametrize(
    ("pieces", "steps", "cost"),
    [
        (["x" * 40, Hole(8)], None, 18 * 8),
        (["x" * 41, Hole(8), "y"], 4, 20 * 4),
        ([Fixed([1, 2, 3]), Special("<|im_end|>"), Hole(2), Hole(3)], 5, 9 * 5),
        (["x" * 40], None, 0),
    ],
)
def test_a_canvas_costs_its_tokens_times_its_steps(pieces, steps, cost):
    params = SamplingParams(steps=steps)
    message = CanvasRequest(id="a", template=TextTemplate(pieces), params=params)

    assert estimated_token_forwards(message) == cost


def test_the_context_of_a_canvas_costs_too():
    message = CanvasRequest(
        id="a",
        template=TextTemplate([Hole(2)]),
        params=SamplingParams(steps=2),
        context=("x" * 40,),
    )

    assert estimated_token_forwards(message) == 24


def test_the_canvases_of_a_call_are_found_among_its_arguments():
    message = CanvasRequest(
        id="a", template=TextTemplate([Hole(2)]), params=SamplingParams(steps=1)
    )

    assert messages_of([[message, message], View()], {}) == [message, message]
    assert messages_of([], {"messages": (message,), "one": message}) == [message, message]
    assert messages_of([TextTemplate(["x"]), [1, 2], "x"], {"n": 3}) == []
