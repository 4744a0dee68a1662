"""DreamReplica over the embedded model, without Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from deployments.messages import Draft, Filling, Refusal
from deployments.replica import DreamReplica, ReplicaConfig
from dream import EngineConfig, Fixed, Hole, SamplingParams
from dream.errors import EngineError

CONFIG = ReplicaConfig(
    model="embedded", engine=EngineConfig(), torch_threads=1, max_token_forwards=100_000
)


@pytest.fixture(scope="module")
def replica() -> Iterator[DreamReplica]:
    replica = DreamReplica(CONFIG)
    yield replica
    replica.close()


def draft(id: str, *segments: str | Fixed | Hole, steps: int | None = None, **fields) -> Draft:
    params = SamplingParams(steps=steps, seed=1, temperature=1.0)
    return Draft(id=id, segments=segments or ("Once", Hole(8)), params=params, **fields)


def fill(replica: DreamReplica, *drafts: Draft) -> list[Filling] | Refusal:
    return asyncio.run(replica.fill(drafts))


def test_drafts_come_back_filled_in_order(replica):
    fillings = fill(replica, draft("a", "x", Hole(3, "h"), "y", Hole(5)), draft("b", Hole(2)))

    assert isinstance(fillings, list)
    assert [[hole.id for hole in filling.holes] for filling in fillings] == [["h", "1"], ["0"]]
    assert [filling.num_canvas_tokens for filling in fillings] == [10, 2]
    assert fillings[0].usage.prompt_tokens == 2


def test_a_draft_gives_the_same_text_alone_and_among_others(replica):
    (alone,) = fill(replica, draft("a"))

    among = fill(replica, draft("b", "Two", Hole(20)), draft("a"), draft("c", Hole(4)))

    assert among[1].holes == alone.holes


def test_special_tokens_in_text_are_plain_characters(replica):
    text = "<|mask|><|im_start|><|endoftext|>"

    (filling,) = fill(replica, draft("a", text, Hole(2)))

    assert filling.num_canvas_tokens == len(text) + 2


@pytest.mark.parametrize(
    ("bad", "code", "field"),
    [
        (draft("b", "x" * 5000, Hole(1)), "context_length_exceeded", "template"),
        (draft("b", Fixed([10**6]), Hole(1)), "invalid_value", "token_ids"),
        (draft("b", "x" * 100, Hole(8), steps=2048), "compute_budget_exceeded", None),
    ],
)
def test_what_cannot_run_is_refused_whole_and_leaves_nothing_behind(replica, bad, code, field):
    refusal = fill(replica, draft("a", "x", Hole(200)), bad)

    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.field) == (code, field)
    assert "xxx" not in refusal.message
    asyncio.run(_until(lambda: replica.stats()["requests"] == 0))


def growing(grow_to: int, *segments: str | Hole, steps: int | None = None) -> Draft:
    params = SamplingParams(steps=steps, grow_to=grow_to)
    return Draft(id="a", segments=segments, params=params)


def test_a_canvas_grows_no_further_than_the_context(replica):
    limit = replica.card().max_model_len

    refusal = fill(replica, growing(limit, "ab", Hole(3), "c", Hole(4), "d"))

    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.field) == ("context_length_exceeded", "grow_to")
    assert refusal.message.startswith(f"Allowed: at most {limit - 7},")


@pytest.mark.parametrize(
    ("asked", "cost"),
    [
        (growing(3, "a", Hole(5)), 6 * 5),
        (growing(20, "a", Hole(5)), 6 * 5 + 11 * 10 + 21 * 20),
        (growing(12, "a", Hole(2), Hole(5)), 8 * 7 + 13 * 12 + 15 * 14),
        (growing(12, "a", Hole(5), steps=4), 4 * (6 + 11 + 13)),
    ],
)
def test_every_run_of_a_growing_canvas_counts_in_the_budget(replica, monkeypatch, asked, cost):
    monkeypatch.setattr(replica, "_max_token_forwards", cost - 1)

    refusal = fill(replica, asked)

    assert isinstance(refusal, Refusal)
    assert refusal.code == "compute_budget_exceeded"
    assert f"asks for {cost} token-forwards" in refusal.message


def test_cancelling_a_call_frees_its_canvases(replica):
    async def run() -> None:
        call = asyncio.create_task(replica.fill([draft(str(i), Hole(150)) for i in range(3)]))
        await _until(lambda: replica.stats()["requests"] == 3)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    aborted = replica.stats()["requests_aborted"]
    asyncio.run(run())

    asyncio.run(_until(lambda: replica.stats()["requests"] == 0))
    assert replica.stats()["requests_aborted"] - aborted == 3


def test_calls_made_together_share_forwards(replica):
    async def run() -> None:
        await asyncio.gather(*(replica.fill([draft(str(i), f"{i}: ", Hole(16))]) for i in range(8)))

    before = replica.stats()
    asyncio.run(run())
    after = replica.stats()

    steps = after["steps"] - before["steps"]
    assert after["forward_passes"] - before["forward_passes"] > 2 * steps


def test_the_backlog_is_told_to_the_autoscaler_in_token_forwards(replica):
    assert replica.record_autoscaling_stats() == {"token_forwards_queued": 0.0}

    async def run() -> float:
        call = asyncio.create_task(replica.fill([draft("a", Hole(200))]))
        await _until(lambda: replica.stats()["requests"] == 1)
        backlog = replica.record_autoscaling_stats()["token_forwards_queued"]
        call.cancel()
        return backlog

    assert asyncio.run(run()) > 0


def test_a_dead_engine_fails_the_health_check_and_every_call():
    replica = DreamReplica(CONFIG)
    replica.check_health()

    replica.close()

    with pytest.raises(EngineError):
        replica.check_health()
    with pytest.raises(EngineError):
        fill(replica, draft("a"))


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.001)
