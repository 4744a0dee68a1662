"""A lost replica is not seen by callers: real replicas in this process, which die at any item."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployments import canvas_stream, replica
from deployments.errors import ApiError
from deployments.failover import Item, ReplicaLost, results_of, unbroken, wait_s
from deployments.messages import CanvasRequest, CanvasUpdate, Refusal, View
from deployments.replica import DreamReplica, ReplicaConfig
from dream import EngineConfig, Hole, SamplingParams
from dream.errors import EngineError
from dream.text import TextTemplate
from tests.deployments.test_stream import messages

CONFIG = ReplicaConfig(
    model="embedded",
    engine=EngineConfig(threads=1, max_cache_tokens=4096),
    max_token_forwards=10**6,
)
VIEWS = [None, View(), View(mode="steps"), View(mode="snapshots", every=2)]
AT_ONCE: Callable[[int], float] = lambda number: 0.0  # noqa: E731


@pytest.fixture(scope="module")
def replicas() -> Iterator[list[DreamReplica]]:
    both = [DreamReplica(CONFIG), DreamReplica(CONFIG)]
    yield both
    for one in both:
        one.close()


@pytest.fixture(scope="module", autouse=True)
def every_step_is_told() -> Iterator[None]:
    """An item for each step, so that a replica may die after any of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canvas_stream, "EVENTS_S", 0.0)
        patch.setattr(replica, "EVENTS_S", 0.0)
        patch.setattr(replica, "COALESCE_S", 0.0)
        yield


class Dying:
    """Replicas in turn; attempt n is lost after `deaths[n]` items, later ones never."""

    def __init__(
        self,
        replicas: Sequence[DreamReplica],
        deaths: Sequence[int],
        error: Exception | None = None,
    ) -> None:
        self.attempts: list[list[CanvasRequest]] = []
        self._replicas = replicas
        self._deaths = deaths
        self._error = error or ReplicaLost()

    async def __call__(
        self, messages: Sequence[CanvasRequest], view: View | None
    ) -> AsyncGenerator[Item]:
        number = len(self.attempts)
        self.attempts.append(list(messages))
        num_left = self._deaths[number] if number < len(self._deaths) else None
        chosen = self._replicas[number % len(self._replicas)]
        async with aclosing(chosen.stream(messages, view)) as items:
            async for item in items:
                if num_left == 0:
                    raise self._error
                yield item
                num_left = None if num_left is None else num_left - 1


def told(attempt, asked: Sequence[CanvasRequest], view: View | None) -> list[CanvasUpdate]:
    async def run() -> list[CanvasUpdate]:
        stream = unbroken(attempt, asked, view, wait_s=AT_ONCE)
        async with aclosing(stream) as items:
            found = [item async for item in items]
        assert not any(isinstance(item, Refusal) for item in found)
        return [update for item in found for update in item]

    return asyncio.run(run())


def plain(updates: Sequence[CanvasUpdate]) -> list[CanvasUpdate]:
    """What a caller can see, however it was put into updates: texts joined, no times."""
    seen: list[CanvasUpdate] = []
    for index in sorted({update.index for update in updates}):
        mine = [update for update in updates if update.index == index]
        text = "".join(update.text for update in mine)
        for update in mine:
            if update.canvas or update.set or update.snapshot or update.result:
                result = update.result and replace(update.result, queue_s=0, denoise_s=0)
                seen.append(replace(update, text="", events=(), result=result))
        seen[-1] = replace(seen[-1], text=text)
    return seen


@st.composite
def kinds(draw: st.DrawFn) -> CanvasRequest:
    """Requests of all kinds, also of those that keep state."""
    message = draw(messages())
    modes = [{}, {}, {"history": 3, "temperature": 0.0}, {"window": "dual", "block_length": 4}]
    mode = draw(st.sampled_from(modes))
    if mode:
        mode = {"order": "confidence", "grow_to": None} | mode
    logprobs = draw(st.sampled_from([None, 2]))
    return replace(message, params=replace(message.params, **mode), logprobs=logprobs)


cases = given(
    asked=st.lists(kinds(), min_size=1, max_size=3),
    view=st.sampled_from(VIEWS),
    deaths=st.lists(st.integers(0, 12), min_size=1, max_size=4),
)
few, many = (
    settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    for examples in (10, 300)
)


@few
@cases
def test_a_lost_replica_changes_nothing_that_a_caller_sees(replicas, asked, view, deaths):
    check_unbroken(replicas, asked, view, deaths)


@pytest.mark.slow
@many
@cases
def test_many_lost_replicas_change_nothing_that_callers_see(replicas, asked, view, deaths):
    check_unbroken(replicas, asked, view, deaths)


def check_unbroken(replicas, asked, view, deaths):
    asked = [replace(message, id=f"r-{n}") for n, message in enumerate(asked)]
    undisturbed = told(Dying(replicas, []), asked, view)

    dying = Dying(replicas, deaths)
    seen = told(dying, asked, view)

    assert plain(seen) == plain(undisturbed)
    ids = [message.id for attempt in dying.attempts for message in attempt]
    assert len(set(ids)) == len(ids), "an attempt may not meet the rest of another"


SUDOKU = "S:1034/0402/2100/4021="


def asked_for(id: str, num_tokens: int, **params: object) -> CanvasRequest:
    given = {"steps": None, "order": "left_to_right", "early_exit": False} | params
    template = TextTemplate([SUDOKU, Hole(num_tokens)])
    return CanvasRequest(id=id, template=template, params=SamplingParams(**given))


@pytest.mark.parametrize("view", [None, View(), View(mode="steps")])
def test_a_canvas_that_a_stop_string_has_ended_stays_so(replicas, view):
    (whole,) = asyncio.run(replicas[0].generate([asked_for("a", 24)]))
    stop = whole.holes[0].text[10:13]
    asked = replace(asked_for("a", 24), stop=(stop,))
    (stopped,) = asyncio.run(replicas[0].generate([asked]))
    num_items = len(told(Dying(replicas, []), [asked], view))

    for death in range(num_items + 2):
        seen = told(Dying(replicas, [death]), [asked], view)
        assert seen[-1].result is not None
        assert seen[-1].result.usage == stopped.usage
        assert seen[-1].result.holes == stopped.holes


def test_what_is_finished_is_not_run_again(replicas):
    asked = [asked_for("short", 2), asked_for("long", 40)]
    dying = Dying(replicas, [8])

    seen = told(dying, asked, View(mode="steps"))

    assert [update.index for update in seen if update.result] == [0, 1]
    assert [[message.id for message in attempt] for attempt in dying.attempts] == [
        ["short", "long"],
        ["long.1"],
    ]
    assert dying.attempts[1][0].so_far
    assert replicas[0].stats()["requests"] == 0


def test_a_mode_that_keeps_state_begins_again(replicas):
    dying = Dying(replicas, [5])

    told(dying, [asked_for("a", 24, order="confidence", history=3)], View(mode="steps"))

    assert [attempt[0].so_far for attempt in dying.attempts] == [None, None]


def scripted(*attempts: Sequence[Item | Exception]):
    """Attempts that send these items, or fail with these errors."""
    left = iter(attempts)

    async def attempt(messages: object, view: object) -> AsyncGenerator[Item]:
        for item in next(left):
            if isinstance(item, Exception):
                raise item
            yield item

    return attempt


def test_text_that_does_not_repeat_ends_the_stream_with_an_error_that_says_so():
    asked = asked_for("a", 12, order="confidence", history=3)
    first = [CanvasUpdate(index=0, text="1234")], ReplicaLost()
    other = [CanvasUpdate(index=0, text="12")], [CanvasUpdate(index=0, text="99")]

    with pytest.raises(ApiError) as failed:
        told(scripted(first, other), [asked], View())

    assert failed.value.code == "replica_lost"


def test_engines_that_die_one_after_the_other_under_one_request_are_not_all_of_them(replicas):
    dying = Dying(replicas, [2, 2, 2, 2], EngineError("dead"))

    with pytest.raises(EngineError):
        told(dying, [asked_for("a", 40)], View(mode="steps"))

    assert len(dying.attempts) == 3


@pytest.mark.parametrize("code", ["overloaded", "model_loading"])
def test_what_was_accepted_is_not_refused_for_lack_of_room(replicas, code):
    real, refused = Dying(replicas, [3]), iter([False, True, True, False])

    def attempt(messages, view):
        if next(refused):
            return scripted([ApiError(code, "later")])(messages, view)
        return real(messages, view)

    seen = told(attempt, [asked_for("a", 24)], View(mode="steps"))

    assert seen[-1].result is not None


@pytest.mark.parametrize("code", ["overloaded", "model_loading", "invalid_value"])
def test_what_was_never_accepted_is_refused_as_it_always_was(code):
    with pytest.raises(ApiError) as refused:
        told(scripted([ApiError(code, "no")]), [asked_for("a", 12)], None)

    assert refused.value.code == code


def test_a_refusal_is_the_only_item():
    refusal = Refusal(code="invalid_value", message="no")

    async def run() -> object:
        return await results_of(unbroken(scripted([refusal]), [asked_for("a", 2)], None))

    assert asyncio.run(run()) == refusal


def test_attempts_wait_longer_and_longer_but_never_long():
    waits = [wait_s(number) for number in range(100)]

    assert waits == sorted(waits)
    assert (waits[0], waits[1] > 0, waits[-1]) == (0.0, True, 2.0)
