"""Laws of streams over the embedded model: a stream and an answer are the same, step by step."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployments.assembly import HoleText, cut_at_stop
from deployments.messages import CanvasRequest, CanvasUpdate, Refusal, View
from deployments.replica import DreamReplica, ReplicaConfig
from dream import EngineConfig, Hole, SamplingParams
from dream.text import TextTemplate

CONFIG = ReplicaConfig(model="embedded", engine=EngineConfig(threads=1), max_token_forwards=10**6)
VIEWS = [View(), View(mode="steps"), View(mode="snapshots", every=2)]
TEXTS = ["Once", " and ", "S:10", "\u00e9\u4f60", "<|mask|>", "\n"]
STOPS = ["e", "er", "s ", "\n", "1", "/", "the"]


@pytest.fixture(scope="module")
def replica() -> Iterator[DreamReplica]:
    replica = DreamReplica(CONFIG)
    yield replica
    replica.close()


def told(replica: DreamReplica, message: CanvasRequest, view: View) -> list[CanvasUpdate]:
    async def run() -> list[CanvasUpdate]:
        items = [item async for item in replica.stream([message], view)]
        assert not any(isinstance(item, Refusal) for item in items)
        return [replace(update, events=()) for item in items for update in item]

    return asyncio.run(run())


@st.composite
def messages(draw: st.DrawFn) -> CanvasRequest:
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))
    pieces: list[str | Hole] = [draw(st.sampled_from(TEXTS))]
    for size in sizes:
        pieces += [Hole(size), draw(st.sampled_from(TEXTS))]
    order = draw(st.sampled_from(["confidence", "left_to_right", "random"]))
    params = SamplingParams(
        steps=draw(st.one_of(st.none(), st.integers(1, 20))),
        temperature=draw(st.sampled_from([0.0, 1.0])),
        order=order,
        block_length=draw(st.sampled_from([None, 4])),
        threshold=draw(st.sampled_from([None, 0.6])) if order == "confidence" else None,
        seed=draw(st.integers(0, 2**20)),
        early_exit=draw(st.booleans()),
        grow_to=draw(st.sampled_from([None, None, 20])),
    )
    return CanvasRequest(
        id="a",
        template=TextTemplate(pieces),
        params=params,
        stop=tuple(draw(st.lists(st.sampled_from(STOPS), max_size=2, unique=True))),
        is_whole=draw(st.booleans()),
        has_trace=True,
    )


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(message=messages(), view=st.sampled_from(VIEWS))
def test_a_stream_adds_up_to_the_answer(replica, message, view):
    updates = told(replica, message, view)
    (answer,) = asyncio.run(replica.generate([message]))  # type: ignore[misc]

    result = updates[-1].result
    assert result is not None
    assert sum(update.result is not None for update in updates) == 1
    assert same(result) == same(answer)
    texts = [hole.text for hole in answer.holes]
    whole = message.template.join(texts) if message.is_whole else texts[0]
    assert "".join(update.text for update in updates) == whole
    steps = [update.step for update in updates[:-1]]
    if message.params.grow_to is None:
        assert steps == sorted(steps)


def same(result):
    """What repeats: all but times, and confidences that a view leaves out."""
    return replace(result, queue_s=0, denoise_s=0)


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(message=messages())
def test_the_steps_of_a_stream_replay_to_the_canvas(replica, message):
    updates = told(replica, message, View(mode="steps"))
    result = updates[-1].result
    assert result is not None
    assert result.trace is not None

    canvas: dict[int, int] = {}
    length = 0
    fixed: set[int] = set()
    for update in updates:
        if update.canvas is not None:
            canvas.clear()
            length = update.canvas.length
            fixed = {token.position for token in update.canvas.fixed}
        if update.set is not None:
            for token in update.set.set:
                assert token.position not in canvas, "an open position is set once"
                assert token.position not in fixed, "given tokens never change"
                assert token.confidence is not None
                canvas[token.position] = token.token_id
    for token in updates[-1].tail:
        assert token.position not in canvas
        canvas[token.position] = token.token_id

    assert result.trace.tail == updates[-1].tail
    assert result.num_canvas_tokens == length
    if not message.stop:
        assert len(canvas) + len(fixed) == length


def test_a_stop_string_ends_the_work_at_the_step_that_completes_it(replica):
    params = SamplingParams(steps=None, order="left_to_right", early_exit=False)
    puzzle = "S:1034/0402/2100/4021="
    asked = CanvasRequest(id="a", template=TextTemplate([puzzle, Hole(24)]), params=params)
    (whole,) = asyncio.run(replica.generate([asked]))  # type: ignore[misc]
    stop = whole.holes[0].text[10:13]
    before = replica.stats()["requests"]

    (stopped,) = asyncio.run(replica.generate([replace(asked, stop=(stop,))]))  # type: ignore[misc]

    first = whole.holes[0].text.index(stop)
    assert stopped.holes[0].text == whole.holes[0].text[:first]
    assert stopped.finish_reason == "stop"
    assert stopped.usage.forward_passes == first + len(stop)
    assert stopped.usage.token_forwards == 46 * stopped.usage.forward_passes
    assert whole.usage.forward_passes > 20
    assert replica.stats()["requests"] == before


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    text=st.text(alphabet="ab\u00e9\U0001f600", max_size=30),
    stop=st.lists(st.text(alphabet="ab\u00e9", min_size=1, max_size=4), max_size=4),
    cuts=st.lists(st.integers(0, 120), max_size=10),
)
def test_text_that_was_shown_never_changes_however_it_arrives(text, stop, cuts):
    """Bytes as tokens, so that characters arrive in parts."""
    tokens = list(text.encode())
    hole = HoleText(lambda ids: bytes(ids).decode("utf-8", "replace"), stop)
    places = [0, *sorted({cut for cut in cuts if cut < len(tokens)}), len(tokens)]
    shown = ""
    for begin, end in pairwise(places):
        if hole.is_over:
            break
        hole.extend(tokens[begin:end], is_last=end == len(tokens))
        assert hole.settled.startswith(shown)
        shown = hole.settled

    assert shown == cut_at_stop(text, stop)
    assert hole.is_over


@pytest.mark.parametrize("stop", [(), ("zzz",)])
def test_a_broken_character_at_the_end_is_shown_at_last(stop):
    hole = HoleText(lambda ids: bytes(ids).decode("utf-8", "replace"), stop)

    hole.extend([97, 0xC3], is_last=False)
    held = hole.settled
    hole.extend([], is_last=True)

    assert (held, hole.settled) == ("", "a\ufffd")


def test_closing_a_stream_frees_its_canvases(replica):
    params = SamplingParams(steps=None, early_exit=False)
    asked = CanvasRequest(id="a", template=TextTemplate(["Once", Hole(200)]), params=params)

    async def run() -> None:
        stream = replica.stream([asked, replace(asked, id="b")], View())
        await anext(stream)
        await anext(stream)
        await stream.aclose()
        async with asyncio.timeout(10):
            while replica.stats()["requests"]:
                await asyncio.sleep(0.001)

    asyncio.run(run())


def test_a_refusal_is_the_only_item_of_a_stream(replica):
    params = SamplingParams(steps=None)
    asked = CanvasRequest(id="a", template=TextTemplate(["x" * 9999, Hole(2)]), params=params)

    async def run() -> list[object]:
        return [item async for item in replica.stream([asked], View())]

    (item,) = asyncio.run(run())
    assert isinstance(item, Refusal)


def test_log_probabilities_are_those_of_the_text_that_a_stop_string_cuts(replica):
    params = SamplingParams(steps=None, order="left_to_right", temperature=2.0, seed=1)
    cut = CanvasRequest(
        id="a",
        template=TextTemplate(["The", Hole(40)]),
        params=params,
        stop=("a", "e", "1"),
        logprobs=2,
    )

    for seed in range(6):
        asked = replace(cut, params=replace(params, seed=seed))
        (result,) = asyncio.run(replica.generate([asked]))  # type: ignore[misc]
        hole = result.holes[0]
        shown = b"".join(report.data for report in hole.logprobs).decode("utf-8", "replace")
        assert shown == hole.text


def test_snapshots_come_at_the_first_step_of_each_interval_that_runs(replica):
    params = SamplingParams(steps=100)
    asked = CanvasRequest(id="a", template=TextTemplate(["S:10", Hole(10)]), params=params)

    updates = told(replica, asked, View(mode="snapshots", every=10))

    steps = [update.step for update in updates if update.snapshot is not None]
    assert len(steps) >= 1
    assert len({step // 10 for step in steps}) == len(steps)


def test_an_answer_has_stopped_only_where_every_hole_has(replica):
    params = SamplingParams(steps=None)
    pieces = ["S:1034/0402/2100/4021=", Hole(4), "/3412/", Hole(4), "/4", Hole(1)]
    asked = CanvasRequest(
        id="a", template=TextTemplate(pieces), params=params, stop=("12",), is_whole=True
    )

    (result,) = asyncio.run(replica.generate([asked]))  # type: ignore[misc]

    cut = [len(hole.text) < hole.num_tokens for hole in result.holes]
    assert any(cut)
    assert not all(cut)
    assert result.finish_reason == "length"
