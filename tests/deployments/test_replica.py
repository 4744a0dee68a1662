"""DreamReplica over the embedded model, without Ray."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from deployments import encoding
from deployments.failover import ReplicaLost
from deployments.messages import CanvasRequest, CanvasResult, Refusal
from deployments.replica import DreamReplica, ReplicaConfig
from dream import EngineConfig, Fixed, Hole, SamplingParams
from dream.errors import EngineError
from dream.text import Piece, TextTemplate

CONFIG = ReplicaConfig(model="embedded", engine=EngineConfig(threads=1), max_token_forwards=100_000)


@pytest.fixture(scope="module")
def replica() -> Iterator[DreamReplica]:
    replica = DreamReplica(CONFIG)
    yield replica
    replica.close()


def canvas(id: str, *pieces: Piece, steps: int | None = None) -> CanvasRequest:
    params = SamplingParams(steps=steps, seed=1, temperature=1.0)
    return CanvasRequest(id=id, template=TextTemplate(pieces or ("Once", Hole(8))), params=params)


def generate(replica: DreamReplica, *messages: CanvasRequest) -> list[CanvasResult] | Refusal:
    return asyncio.run(replica.generate(messages))


def test_canvases_come_back_filled_in_order(replica):
    results = generate(replica, canvas("a", "x", Hole(3, "h"), "y", Hole(5)), canvas("b", Hole(2)))

    assert isinstance(results, list)
    assert [[hole.id for hole in result.holes] for result in results] == [["h", "1"], ["0"]]
    assert [result.num_canvas_tokens for result in results] == [10, 2]
    assert results[0].usage.prompt_tokens == 2


def test_a_canvas_gives_the_same_text_alone_and_among_others(replica):
    (alone,) = generate(replica, canvas("a"))

    among = generate(replica, canvas("b", "Two", Hole(20)), canvas("a"), canvas("c", Hole(4)))

    assert among[1].holes == alone.holes


def test_special_tokens_in_text_are_plain_characters(replica):
    text = "<|mask|><|im_start|><|endoftext|>"

    (result,) = generate(replica, canvas("a", text, Hole(2)))

    assert result.num_canvas_tokens == len(text) + 2


@pytest.mark.parametrize(
    ("bad", "code", "field"),
    [
        (canvas("b", "x" * 5000, Hole(1)), "context_length_exceeded", "template"),
        (canvas("b", "x" * 800, Hole(300)), "context_length_exceeded", "template"),
        (canvas("b", "x" * 500, Hole(13)), "context_length_exceeded", "num_tokens"),
        (canvas("b", "x", Hole(513)), "context_length_exceeded", "num_tokens"),
        (canvas("b", Fixed([10**6]), Hole(1)), "invalid_value", "token_ids"),
        (canvas("b", "x" * 100, Hole(8), steps=2048), "compute_budget_exceeded", None),
    ],
)
def test_what_cannot_run_is_refused_whole_and_leaves_nothing_behind(replica, bad, code, field):
    refusal = generate(replica, canvas("a", "x", Hole(200)), bad)

    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.field) == (code, field)
    assert "xxx" not in refusal.message
    asyncio.run(_until(lambda: replica.stats()["requests"] == 0))


def growing(grow_to: int, *pieces: Piece, steps: int | None = None) -> CanvasRequest:
    params = SamplingParams(steps=steps, grow_to=grow_to)
    return CanvasRequest(id="a", template=TextTemplate(pieces), params=params)


def test_a_canvas_grows_no_further_than_the_context(replica):
    limit = asyncio.run(replica.card()).max_model_len

    refusal = generate(replica, growing(limit, "ab", Hole(3), "c", Hole(4), "d"))

    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.field) == ("context_length_exceeded", "grow_to")
    assert refusal.message.startswith(f"at most {limit - 7},")


@pytest.mark.parametrize(
    ("asked", "cost"),
    [
        (growing(3, "a", Hole(5)), 6 * 5),
        (growing(20, "a", Hole(5)), 6 * 5 + 11 * 10 + 21 * 20),
        (growing(12, "a", Hole(2), Hole(5)), 8 * 7 + 13 * 12 + 15 * 14),
        (growing(12, "a", Hole(5), steps=4), 4 * (6 + 11 + 13)),
    ],
)
def test_every_size_of_a_growing_canvas_counts_in_the_budget(replica, asked, cost):
    replica.reconfigure({"max_token_forwards": cost - 1})

    refusal = generate(replica, asked)

    replica.reconfigure(None)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "compute_budget_exceeded"
    assert f"asks for {cost} token-forwards" in refusal.message


def test_cancelling_a_call_frees_its_canvases(replica):
    async def run() -> None:
        call = asyncio.create_task(replica.generate([canvas(str(i), Hole(150)) for i in range(3)]))
        await _until(lambda: replica.stats()["forward_passes"] >= forward_passes + 3)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    aborted = replica.stats()["requests_aborted"]
    forward_passes = replica.stats()["forward_passes"]
    asyncio.run(run())

    asyncio.run(_until(lambda: replica.stats()["requests"] == 0))
    assert replica.stats()["requests_aborted"] - aborted == 3


def test_calls_made_together_share_forwards(replica):
    async def run() -> None:
        await asyncio.gather(
            *(replica.generate([canvas(str(i), f"{i}: ", Hole(16))]) for i in range(8))
        )

    before = replica.stats()
    asyncio.run(run())
    after = replica.stats()

    steps = after["steps"] - before["steps"]
    assert after["forward_passes"] - before["forward_passes"] > 2 * steps


def test_the_backlog_is_told_to_the_autoscaler_in_token_forwards(replica):
    assert replica.record_routing_stats() == {"token_forwards_queued": 0.0}
    assert replica.record_autoscaling_stats()["token_forwards_queued"] == 0

    async def run() -> float:
        call = asyncio.create_task(replica.generate([canvas("a", Hole(200))]))
        await _until(lambda: replica.stats()["requests"] == 1)
        backlog = replica.record_autoscaling_stats()["token_forwards_queued"]
        call.cancel()
        return backlog

    assert asyncio.run(run()) > 0
    assert replica.record_autoscaling_stats()["token_forwards_per_s"] > 0


def test_a_replica_that_has_not_worked_reports_no_pace():
    replica = DreamReplica(CONFIG)

    assert "token_forwards_per_s" not in replica.record_autoscaling_stats()
    replica.close()


def test_a_dead_engine_fails_the_health_check_and_every_call():
    replica = DreamReplica(CONFIG)
    replica.check_health()

    replica.close()

    with pytest.raises(EngineError):
        replica.check_health()
    with pytest.raises(ReplicaLost):
        generate(replica, canvas("a"))


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.001)


@pytest.fixture
def held(replica, monkeypatch) -> Iterator[threading.Event]:
    """Encoding waits until this event is set."""
    release = threading.Event()
    encode = replica._tokenizer.encode_within

    def encode_later(text: str, max_tokens: int) -> list[int]:
        assert release.wait(timeout=30)
        return encode(text, max_tokens)

    monkeypatch.setattr(replica._tokenizer, "encode_within", encode_later)
    yield release
    release.set()


def test_the_event_loop_goes_on_while_text_is_encoded(replica, held):
    async def run() -> list[CanvasResult] | Refusal:
        call = asyncio.create_task(replica.generate([canvas("a")]))
        for _ in range(100):  # health checks and other calls get their turn
            await asyncio.sleep(0)
            replica.check_health()
        assert not call.done()
        held.set()
        return await call

    assert isinstance(asyncio.run(run()), list)


def test_text_that_waits_to_be_encoded_is_bounded(replica, held, monkeypatch):
    monkeypatch.setattr(encoding, "MAX_WAITING_CHARS", 250)
    half = [canvas(str(i), "x" * 100, Hole(2)) for i in range(4)]

    async def run() -> list[list[CanvasResult] | Refusal]:
        calls = [asyncio.create_task(replica.generate([message])) for message in half]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        held.set()
        return await asyncio.gather(*calls)

    first, second, *refused = asyncio.run(run())

    assert isinstance(first, list)
    assert isinstance(second, list)
    assert {refusal.code for refusal in refused} == {"overloaded"}
    assert all(refusal.retry_after_s for refusal in refused)
    assert isinstance(generate(replica, half[0]), list)  # there is room again


def test_a_text_alone_is_encoded_however_long_it_may_be(replica, monkeypatch):
    monkeypatch.setattr(encoding, "MAX_WAITING_CHARS", 10)

    assert isinstance(generate(replica, canvas("a", "x" * 100, Hole(2))), list)


def test_calls_that_were_cancelled_leave_room_to_encode(replica, held, monkeypatch):
    monkeypatch.setattr(encoding, "MAX_WAITING_CHARS", 100)

    async def run() -> list[CanvasResult] | Refusal:
        message = canvas("a", "x" * 100, Hole(2))
        call = asyncio.create_task(replica.generate([message]))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        held.set()
        return await replica.generate([message])

    assert isinstance(asyncio.run(run()), list)


@pytest.mark.parametrize("text", ["x" * 250_000, "some words " * 25_000, "line\n" * 50_000])
def test_a_prompt_that_cannot_fit_is_encoded_in_part_or_not_at_all(replica, monkeypatch, text):
    encoded: list[int] = []
    encode = replica._tokenizer.encode

    def count(part: str) -> list[int]:
        encoded.append(len(part))
        return encode(part)

    monkeypatch.setattr(replica._tokenizer, "encode", count)

    refusal = generate(replica, canvas("a", text, Hole(2)))

    assert isinstance(refusal, Refusal)
    assert refusal.code == "context_length_exceeded"
    assert sum(encoded) <= 20_000
