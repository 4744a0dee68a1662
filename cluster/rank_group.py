"""The processes of one sharded engine: where they go, how they start, and how all of them end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util import (
    get_current_placement_group,
    get_placement_group,
    placement_group,
    remove_placement_group,
)
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cluster.errors import DoesNotFit
from cluster.rank import HEALTH, Checked, Loaded, Rank
from cluster.topology import replica_resources
from dream.engine.config import EngineConfig
from dream.errors import DreamError, EngineError

__all__ = ["TICK_S", "RankGroup", "Timeouts", "start_ranks"]

_as_actor = ray.remote(concurrency_groups={HEALTH: 1})  # type: ignore[call-overload]

FAILURE_WINDOW_S = 1.0
"""After the first failure the others are looked at for so long, as one takes others along."""

TICK_S = 120.0
"""How long a step may take, if nobody says otherwise."""

PING_EVERY_S = 1.0
"""Signs of life are not asked for more often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds to wait for the ranks of an engine, before they are killed.

    place_s: for a node that has room for all. start_s: for each stage of the start. tick_s: for a
    step; what ranks wait for each other is bounded by twice that. ping_s: for a sign of life.
    leave_s: for parting in order.
    """

    place_s: float = 600.0
    start_s: float = 1800.0
    tick_s: float = TICK_S
    ping_s: float = 30.0
    leave_s: float = 5.0

    @property
    def group_s(self) -> float:
        """Of torch.distributed; longer than a tick's, so that the tick's is the one that is met."""
        return 2 * self.tick_s


class _Place(NamedTuple):
    """Bundles for the ranks; `is_own` where they were made here, and are to be removed."""

    group: PlacementGroup
    is_own: bool


class RankGroup:
    """The actors of one engine. Whatever goes wrong with one of them ends them all."""

    def __init__(
        self, ranks: Sequence[ActorHandle[Rank]], place: _Place, timeouts: Timeouts
    ) -> None:
        self.timeouts = timeouts
        self.pids: list[int] = []
        self.loaded: Loaded | None = None
        self.ranks = list(ranks)
        self._place = place
        self._pings: list[Any] = []
        self._pinged_at = 0.0

    def call(self, method: str, *args: object) -> list[Any]:
        """A call to every rank, sent and not waited for."""
        return [getattr(rank, method).remote(*args) for rank in self.ranks]

    def gather(self, refs: Sequence[Any], timeout_s: float, what: str) -> list[Any]:
        """What the calls return, in the order of the ranks.

        The first failure ends the wait: an EngineError says which ranks failed, or had not
        answered in time.
        """
        end = time.monotonic() + timeout_s
        pending = list(refs)
        while pending:
            left = max(0.0, end - time.monotonic())
            done, pending = ray.wait(pending, num_returns=1, timeout=left)
            if not done:
                late = ", ".join(str(refs.index(ref)) for ref in pending)
                raise EngineError(f"{what}: no answer from rank {late} within {timeout_s:g} s")
            try:
                ray.get(done)
            except RayTaskError as error:
                raise _failure(refs, what) from error.cause
            except RayError as error:
                raise _failure(refs, what) from error
        return list(ray.get(list(refs)))

    def check_health(self) -> None:
        """EngineError where a rank has died or does not answer; never waits."""
        if self._pings:
            done, late = ray.wait(self._pings, num_returns=len(self._pings), timeout=0)
            self.gather(done, 0.0, "sign of life")
            waited = time.monotonic() - self._pinged_at
            if late and waited > self.timeouts.ping_s:
                numbers = ", ".join(str(self._pings.index(ref)) for ref in late)
                raise EngineError(f"no sign of life from rank {numbers} for {waited:.0f} s")
            if late or waited < PING_EVERY_S:
                return
        self._pings = self.call("ping")
        self._pinged_at = time.monotonic()

    def shutdown(self) -> None:
        """Let the ranks part from each other, then end their processes."""
        ray.wait(self.call("leave"), num_returns=len(self.ranks), timeout=self.timeouts.leave_s)
        self.kill()

    def kill(self) -> None:
        """End every process at once, and give back the bundles that were made here."""
        for rank in self.ranks:
            ray.kill(rank)
        if self._place.is_own:
            remove_placement_group(self._place.group)

    def start(self) -> None:
        """Check on every rank, meet, load; the first refusal is raised, and nobody waits on."""
        try:
            self._start()
        except EngineError as error:
            refusal = error.__cause__
            if not isinstance(refusal, DreamError):
                raise
            refusal.add_note(str(error))
            raise refusal from None

    def _start(self) -> None:
        start_s, group_s = self.timeouts.start_s, self.timeouts.group_s
        checked = self.gather(self.call("check"), start_s, "the check before the start")
        self.pids = [one.pid for one in checked]
        _refuse_other_checkpoints(checked)
        meeting = [self.ranks[0].listen.remote(start_s)]
        (address,) = self.gather(meeting, start_s, "opening a port")
        self.gather(self.call("join", address, group_s), start_s, "meeting")
        self.loaded = self.gather(self.call("load"), start_s, "loading")[0]


def start_ranks(models: Sequence[str], config: EngineConfig, timeouts: Timeouts) -> RankGroup:
    """Running ranks, one for each model of `models`, all of which hold the same weights.

    They go into the placement group that this process is in if it has a bundle for each of them,
    as it has in a Serve replica; otherwise into one that is made, and removed with them.
    """
    place = _placed(config, timeouts.place_s)
    actors = [_actor(number, model, config, place.group) for number, model in enumerate(models)]
    group = RankGroup(actors, place, timeouts)
    with ExitStack() as undo:
        undo.callback(group.kill)
        group.start()
        undo.pop_all()
    return group


def _actor(
    number: int, model: str, config: EngineConfig, group: PlacementGroup
) -> ActorHandle[Rank]:
    """A rank that holds its whole bundle, and is not restarted without the others."""
    bundle = group.bundle_specs[number]
    strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=number)
    options = _as_actor(Rank).options(
        num_cpus=bundle.get("CPU", 0),
        num_gpus=bundle.get("GPU", 0),
        max_restarts=0,
        scheduling_strategy=strategy,
    )
    return cast("ActorHandle[Rank]", options.remote(number, model, config))


def _placed(config: EngineConfig, timeout_s: float) -> _Place:
    present = get_current_placement_group()
    if present is not None and len(present.bundle_specs) == config.tensor_parallel:
        return _Place(present, is_own=False)
    resources = replica_resources(
        device="cuda" if config.device.startswith("cuda") else "cpu",
        tensor_parallel=config.tensor_parallel,
        num_cpus=float(config.threads or 1),
    )
    bundles = resources.placement_group_bundles or []
    made = _left_behind() or placement_group(
        bundles, strategy=resources.placement_group_strategy or "PACK", name=_name() or ""
    )
    if not made.wait(timeout_s):
        remove_placement_group(made)
        allowed = f"a node with {bundles} free; Ray found none within {timeout_s:g} s"
        raise DoesNotFit("tensor_parallel", config.tensor_parallel, allowed)
    return _Place(made, is_own=True)


def _name() -> str | None:
    """Of the bundles that this actor makes; an actor that Ray restarts keeps its id."""
    actor = ray.get_runtime_context().get_actor_id()
    return None if actor is None else f"ranks-of-{actor}"


def _left_behind() -> PlacementGroup | None:
    """Bundles that this actor made before it died and was restarted: Ray keeps them for the job."""
    name = _name()
    if name is None:
        return None
    try:
        found: PlacementGroup = get_placement_group(name)
    except ValueError:
        return None
    return found


def _refuse_other_checkpoints(checked: Sequence[Checked]) -> None:
    """Ranks with other weights would agree with each other, on tokens of no model."""
    first = checked[0].checkpoint
    if wrong := [rank for rank, one in enumerate(checked) if one.checkpoint != first]:
        ranks = ", ".join(map(str, wrong))
        raise EngineError(f"rank {ranks} found another checkpoint than rank 0 under the same name")


def _failure(refs: Sequence[Any], what: str) -> EngineError:
    done, _ = ray.wait(list(refs), num_returns=len(refs), timeout=FAILURE_WINDOW_S)
    reasons = [(refs.index(ref), _reason(ref)) for ref in done]
    told = "; ".join(f"rank {rank}: {reason}" for rank, reason in reasons if reason)
    return EngineError(f"{what} failed: {told}")


def _reason(ref: Any) -> str:  # noqa: ANN401 - Ray's references have no common type
    """Why a call failed, in one line; empty where it did not."""
    try:
        ray.get(ref, timeout=0)
    except GetTimeoutError:
        return ""
    except RayTaskError as error:
        return f"{type(error.cause).__name__}: {error.cause}"
    except RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return lines[0] if lines else type(error).__name__
    return ""
