"""Sharded engines on real rank actors: the same tokens as one process, and loud ends."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from cluster.errors import DoesNotFit
from cluster.rank import Add
from cluster.rank_group import Timeouts, start_ranks
from cluster.shards import ShardedEngine, sharded_engine
from dream import AsyncEngine, Completion, Engine, EngineConfig, InvalidRequest, Request, StepEvent
from dream.engine.step_engine import StepEngine
from dream.errors import CheckpointError, EngineError, MemoryExceeded
from tests.cluster.processes import eventually, gone, groups_here
from tests.models import request
from tests.random_model import save_random_model

pytestmark = pytest.mark.ray

TIMEOUTS = Timeouts(place_s=60, start_s=120, tick_s=60, ping_s=20, leave_s=5)
Filled = tuple[dict[str, Completion], dict[str, list[StepEvent]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def plain(folder) -> Engine:
    """One process: what the others are compared with."""
    return Engine.from_pretrained(folder, EngineConfig(threads=1))


@pytest.fixture(scope="module")
def sharded(ray_local, folder) -> Iterator[ShardedEngine]:
    """Two ranks for every test that leaves them well."""
    engine = sharded_engine(str(folder), config(2), TIMEOUTS)
    yield engine
    engine.shutdown()
    assert gone(engine.pids)


def config(degree: int, **changes: object) -> EngineConfig:
    return replace(EngineConfig(threads=1, tensor_parallel=degree), **changes)


def mixed() -> list[Request]:
    """Algorithms, draws, filters, rules, blocks, windows, history, growth, log-probabilities."""
    return [
        request("a", [[1, 2, 3], 8]),
        request("b", [[7], 5, [9, 9], 3], alg="maskgit_plus", temperature=0.8, top_p=0.9, seed=4),
        request("c", [[5, 6], 20], steps=5, alg="topk_margin"),
        request("d", [[5, 6], 7], threshold=0.3),
        request("e", [[5, 6], 7], alg="origin", temperature=1.0, top_k=20, seed=9),
        request("f", [[8] * 7, 8], window="dual", block_length=4, threshold=0.9),
        request("g", [[4, 3], 7], history=2, history_top=3),
        request("h", [[2, 2], 6], grow_to=24),
        replace(request("i", [[1], 9]), logprobs=2),
        request("j", [[9], 40], block_length=8, temperature=0.5, seed=2),
    ]


def fill(engine: StepEngine, wanted: list[Request]) -> Filled:
    """Every request, of which half come while others run."""
    done: dict[str, Completion] = {}
    told: dict[str, list[StepEvent]] = {one.id: [] for one in wanted}
    later = list(wanted)
    while later or engine.has_work:
        for one in (later.pop(0) for _ in range(min(2, len(later)))):
            engine.add(one)
        for event in engine.step():
            told[event.request_id].append(event)
        done |= {completion.id: completion for completion in engine.collect()}
    return done, told


def drain(engine: StepEngine) -> tuple[dict[str, Completion], list[StepEvent]]:
    """What is under way, to its end."""
    done: dict[str, Completion] = {}
    told: list[StepEvent] = []
    while engine.has_work:
        told += engine.step()
        done |= {completion.id: completion for completion in engine.collect()}
    return done, told


def assert_same(found: Filled, expected: Filled) -> None:
    """Everything but floats and what says that bits are not promised."""
    for name, completion in expected[0].items():
        other = found[0][name]
        assert list(other.token_ids) == list(completion.token_ids)
        assert other.spans == completion.spans
        assert other.finish_reason == completion.finish_reason
        assert replace(other.usage, bit_exact=completion.usage.bit_exact) == completion.usage
        for at, one in (completion.logprobs or {}).items():
            assert (other.logprobs or {})[at].logprob == pytest.approx(one.logprob, abs=1e-4)
    for name, events in expected[1].items():
        assert [places(event) for event in found[1][name]] == [places(event) for event in events]


def places(event: StepEvent) -> tuple[object, ...]:
    return event.step, event.attempt, list(event.positions), list(event.token_ids)


def test_two_ranks_give_the_tokens_of_one_process(sharded, plain):
    assert_same(fill(sharded, mixed()), fill(plain, mixed()))
    assert sharded.stats.requests_finished >= len(mixed())
    assert sharded.pending_token_forwards == 0


def test_four_ranks_give_them_too_and_leave_nothing_behind(ray_local, folder, plain):
    engine = sharded_engine(str(folder), config(4), TIMEOUTS)

    found = fill(engine, mixed())
    engine.shutdown()

    assert_same(found, fill(plain, mixed()))
    assert len(engine.pids) == 4
    assert gone(engine.pids)
    assert groups_here() <= 1  # of the two ranks that other tests share


def test_what_leaves_in_the_middle_changes_nothing_for_the_others(sharded, plain):
    for one in mixed():
        sharded.add(one)
    told = [event for _ in range(3) for event in sharded.step()]
    sharded.abort("b")
    assert sharded.close("j") is None

    done, later = drain(sharded)

    whole, _ = fill(plain, mixed())
    assert "b" not in done
    assert {event.request_id for event in later}.isdisjoint({"b", "j"})
    for name in done.keys() - {"j"}:
        assert list(done[name].token_ids) == list(whole[name].token_ids)
    filled = {at for e in told if e.request_id == "j" for at in e.positions}
    assert done["j"].usage.forward_passes < whole["j"].usage.forward_passes
    for at in filled:
        assert done["j"].token_ids[at] == whole["j"].token_ids[at]


def test_an_id_may_be_used_again_at_once(sharded, plain):
    sharded.add(request("again", [[1, 2], 30], temperature=1.0, seed=1))
    sharded.step()
    sharded.abort("again")

    found = fill(sharded, [request("again", [[3], 12])])

    assert_same(found, fill(plain, [request("again", [[3], 12])]))


def test_a_request_goes_on_from_its_events(sharded, plain):
    one = request("moved", [[5, 6], 20], temperature=0.7, seed=3)
    whole, told = fill(plain, [one])

    sharded.add(one, told["moved"][:7])
    done, rest = drain(sharded)

    assert list(done["moved"].token_ids) == list(whole["moved"].token_ids)
    assert [places(event) for event in rest] == [places(event) for event in told["moved"][7:]]


def test_fewer_steps_on_the_way_end_it_sooner(sharded, plain):
    sharded.add(request("soon", [[5, 6], 30]))
    sharded.step()

    sharded.replan("soon", 6)
    done, _ = drain(sharded)

    usage = done["soon"].usage
    again = replace(request("soon", [[5, 6], 30]), timetable=usage.timetable)
    assert usage.steps == 6
    assert list(done["soon"].token_ids) == list(fill(plain, [again])[0]["soon"].token_ids)


def test_what_cannot_run_is_refused_at_once_and_sends_nothing(sharded):
    sharded.add(request("here", [[1], 4]))
    events = [StepEvent(request_id="x", step=3, positions=[1], token_ids=[2], confidences=[1.0])]

    with pytest.raises(InvalidRequest, match="id='here'"):
        sharded.add(request("here", [[1], 4]))
    with pytest.raises(InvalidRequest, match="num_tokens"):
        sharded.add(request("long", [[1], 5000]))
    with pytest.raises(InvalidRequest, match="so_far"):
        sharded.add(request("x", [[1], 4]), events)
    with pytest.raises(InvalidRequest, match="under way"):
        sharded.close("nobody")

    assert set(drain(sharded)[0]) == {"here"}


def test_an_idle_engine_sends_no_ticks(sharded):
    fill(sharded, [request("a", [[1], 4])])
    before = sharded.num_ticks

    assert not sharded.has_work
    assert [sharded.step() for _ in range(5)] == [[]] * 5
    sharded.check_health()

    assert sharded.num_ticks == before


def test_a_rank_without_its_shard_ends_the_start_with_its_reason(ray_local, folder, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "model.safetensors").unlink()
    before, began = groups_here(), time.monotonic()

    with pytest.raises(
        CheckpointError, match=r"broken: holds neither model\.safetensors"
    ) as caught:
        start_ranks([str(folder), str(broken)], config(2), TIMEOUTS)

    assert "rank 1" in caught.value.__notes__[0]
    assert time.monotonic() - began < TIMEOUTS.start_s / 2
    assert groups_here() == before


def test_a_rank_that_fails_while_it_loads_does_not_leave_the_others_waiting(
    ray_local, folder, tmp_path
):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "model.safetensors").write_bytes(b"no safetensors")
    before, began = groups_here(), time.monotonic()

    with pytest.raises(CheckpointError, match="not readable as safetensors"):
        start_ranks([str(folder), str(broken)], config(2), TIMEOUTS)

    assert time.monotonic() - began < TIMEOUTS.start_s / 2
    assert groups_here() == before


@pytest.mark.parametrize(
    ("settings", "error", "reason"),
    [
        (config(2, max_logit_rows=10**9), MemoryExceeded, "max_logit_rows"),
        (config(3), InvalidRequest, "tensor_parallel=3 .* one of 1, 2, 4"),
    ],
)
def test_what_no_rank_can_hold_is_refused_with_what_would_fit(
    ray_local, folder, settings, error, reason
):
    with pytest.raises(error, match=reason):
        sharded_engine(str(folder), settings, TIMEOUTS)


def test_ranks_for_which_no_node_has_room_are_refused_in_time(ray_local, folder):
    before = groups_here()

    with pytest.raises(DoesNotFit, match=r"tensor_parallel=2 .* within 0\.5 s"):
        sharded_engine(str(folder), config(2, threads=99), replace(TIMEOUTS, place_s=0.5))

    assert groups_here() == before


def test_a_rank_with_other_weights_ends_the_start(ray_local, folder, tmp_path):
    other = save_random_model(tmp_path / "other", seed=4)
    before = groups_here()

    with pytest.raises(EngineError, match="rank 1 found another checkpoint than rank 0"):
        start_ranks([str(folder), str(other)], config(2), TIMEOUTS)

    assert groups_here() == before


def test_a_rank_that_commits_other_tokens_ends_all_loudly(ray_local, folder, monkeypatch):
    """Rank 1 is told another seed, so that what it draws differs."""
    group = start_ranks([str(folder)] * 2, config(2), TIMEOUTS)
    whole = group.call

    def tampered(method: str, *args: object) -> list[object]:
        return (
            whole(method, *args)
            if method != "tick"
            else [
                rank.tick.remote(args[0], [reseeded(one, seed) for one in args[1]])
                for seed, rank in enumerate(group.ranks)
            ]
        )

    monkeypatch.setattr(group, "call", tampered)
    engine = ShardedEngine(group)
    engine.add(request("a", [[1, 2, 3], 40], temperature=1.0, early_exit=False))

    with pytest.raises(EngineError, match=r"tick 0: rank 1 committed other tokens than rank 0"):
        drain(engine)

    assert gone(engine.pids)
    with pytest.raises(EngineError, match="rank 1"):
        engine.check_health()


def reseeded(command: Add, seed: int) -> Add:
    one = command.request
    return Add(replace(one, params=replace(one.params, seed=seed)))


@pytest.mark.faults
@pytest.mark.parametrize(
    ("sign", "reason"),
    [(signal.SIGKILL, r"tick \d+ failed: .*rank 1"), (signal.SIGSTOP, "within 4 s|sign of life")],
)
def test_callers_learn_that_a_rank_has_died_or_hangs_and_no_process_is_left(
    ray_local, folder, sign, reason
):
    before = groups_here()
    engine = sharded_engine(str(folder), config(2), replace(TIMEOUTS, tick_s=4, leave_s=1))
    serving = AsyncEngine(engine)

    async def stopped() -> float:
        items = serving.generate(request("a", [[1], 200], early_exit=False))
        async for _ in items:
            os.kill(engine.pids[1], sign)
            began = time.monotonic()
            break
        with pytest.raises(EngineError, match=reason):
            async for _ in items:
                pass
        return time.monotonic() - began

    waited = asyncio.run(stopped())

    assert waited < 30
    assert gone(engine.pids)
    assert groups_here() == before
    with pytest.raises(EngineError):
        serving.check_health()


@pytest.mark.faults
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP])
def test_health_tells_of_a_rank_that_died_or_hangs_while_nothing_runs(ray_local, folder, sign):
    engine = sharded_engine(str(folder), config(2), replace(TIMEOUTS, ping_s=3, leave_s=1))
    engine.check_health()

    os.kill(engine.pids[1], sign)

    def is_unwell() -> bool:
        try:
            engine.check_health()
        except EngineError as error:
            return "rank 1" in str(error)
        return False

    assert eventually(is_unwell)
    engine.shutdown()
    assert gone(engine.pids)


@pytest.mark.faults
def test_ranks_end_with_the_process_that_started_them_and_its_bundles_serve_again(
    ray_local, folder
):
    """As a batch worker that is killed and that Ray restarts."""
    before = groups_here()
    worker = ray.remote(Worker).options(num_cpus=0, max_restarts=1, max_task_retries=5).remote()
    pid, first = ray.get(worker.start.remote(str(folder)), timeout=120)

    os.kill(pid, signal.SIGKILL)
    again, second = ray.get(worker.start.remote(str(folder)), timeout=120)

    assert again != pid
    assert gone(first)
    assert groups_here() == before + 1
    ray.get(worker.stop.remote(), timeout=60)
    assert gone(second)
    assert groups_here() == before


class Worker:
    """Holds a sharded engine, as a worker of a batch job does."""

    def start(self, folder: str) -> tuple[int, tuple[int, ...]]:
        self.engine = sharded_engine(folder, config(2), TIMEOUTS)
        return os.getpid(), self.engine.pids

    def stop(self) -> None:
        self.engine.shutdown()
