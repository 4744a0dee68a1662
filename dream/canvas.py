"""One request being filled: its tokens, mask bitmap and place in its timetable.

A canvas is filled in place by `commit` alone; given tokens are never written. Whether a
position is masked is kept in a bitmap, so the mask id is an ordinary id in given text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from dream.errors import InvalidRequest
from dream.growth import grown, most_token_forwards
from dream.order import FillOrder
from dream.params import all_approximations
from dream.remaining import RemainingSteps
from dream.request import Completion, FinishReason, Request, Span, StepEvent, TokenLogprobs, Usage
from dream.step_plan import StepPlan, first_params
from dream.template import Fixed, HoleRange
from dream.timetable import Plan
from dream.window import WindowState

__all__ = ["Canvas"]


class Canvas:
    """The state of one request; every committing step of it is planned on admission."""

    def __init__(
        self,
        request: Request,
        plan: Plan,
        *,
        mask_id: int,
        eos_ids: frozenset[int],
        can_exit_early: bool = True,
        is_bit_exact: bool = False,
        approximation: str | None = None,
        before: Canvas | None = None,
    ) -> None:
        """approximation: the engine's; before: the canvas that this one follows (`grow_to`)."""
        params = request.params
        self.request = request
        self.token_ids = np.empty(request.template.num_tokens, np.int64)
        self.is_masked = np.zeros(len(self.token_ids), np.bool_)
        self.holes: tuple[HoleRange, ...] = request.template.holes
        self.forward_passes = 0
        self.slots: NDArray[np.int64] | None = None
        self.token_forwards = 0
        self.forced_commits = 0
        self._mask_id = mask_id
        self._eos_ids = np.array(sorted(eos_ids | frozenset(request.stop_ids)), np.int64)
        self._fill(request.template.segments)
        self._can_exit_early = can_exit_early and params.early_exit
        self._has_eos = False
        self._is_closed = False
        self._order = FillOrder(request, self.is_masked.nonzero()[0])
        self._window = None if params.approximation is None else WindowState(len(self), params)
        self._remaining = RemainingSteps(plan, params, self.is_masked, request.timetable)
        self._step_plan: StepPlan | None = None
        self._is_bit_exact = is_bit_exact
        self._approximation = approximation
        self._before = before
        self._logprobs: dict[int, TokenLogprobs] | None = None if request.logprobs is None else {}
        larger = grown(request)
        self._token_forwards_of_larger = 0 if larger is None else most_token_forwards(larger)
        self.attempt: int = 0 if before is None else before.attempt + 1

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def is_finished(self) -> bool:
        """Whether no committing step is left."""
        return not len(self._remaining)

    @property
    def steps(self) -> int:
        """Length of the timetable."""
        return self._remaining.num_steps

    @property
    def step_plan(self) -> StepPlan:
        """What the next step is to do."""
        if self._step_plan is None:
            self._step_plan = self._plan_step()
        return self._step_plan

    @property
    def is_last_step(self) -> bool:
        """Whether the next step has to fill every mask."""
        return len(self._remaining) == 1

    @property
    def num_step_tokens(self) -> int:
        """Tokens that the next step computes."""
        view = self.step_plan.view
        return len(self) if view is None else len(view.rows)

    @property
    def pending_token_forwards(self) -> int:
        """Tokens x forward passes still to run, at most: a commit rule may need fewer.

        Larger canvases that may follow (`grow_to`) are counted.
        """
        num_steps = len(self._remaining)
        if num_steps and self.request.params.rule is not None:
            num_steps = min(num_steps, int(self.is_masked.sum()))
        return len(self) * num_steps + self._token_forwards_of_larger

    def commit(
        self,
        positions: NDArray[np.int64],
        token_ids: NDArray[np.int64],
        probs: NDArray[np.float32],
        num_forced: int = 0,
        logprobs: Sequence[TokenLogprobs] | None = None,
    ) -> StepEvent:
        """Write one step's tokens (positions ascending) and move to the next step.

        num_forced: how many of them the commit rule did not allow, and the timetable demanded.
        logprobs: one for each token, where the request asks for them.

        A drawn mask id (parity mode only) leaves its position masked, as in the official loop,
        and the rest of the timetable is planned anew for the masks that are left.
        """
        step_plan, steps = self.step_plan, self.steps
        self._step_plan = None
        self.token_forwards += len(self) if step_plan.view is None else len(step_plan.view.rows)
        self.forced_commits += num_forced
        is_token = token_ids != self._mask_id
        written = positions[is_token]
        self.token_ids[written] = token_ids[is_token]
        self.is_masked[written] = False
        if is_token.all() and self._can_exit_early:
            self._has_eos |= bool(np.isin(token_ids, self._eos_ids).any())
            if self._has_eos:
                self._exit_early()
        self._remaining.advance(len(positions), self.is_masked, is_short=not is_token.all())
        if self._window is not None and step_plan.view is not None:
            self._window.apply(step_plan.view, self._block(step_plan.candidates), written)
        self.forward_passes += 1
        if self._logprobs is not None and logprobs is not None:
            logprobs = [one for one, is_kept in zip(logprobs, is_token, strict=True) if is_kept]
            self._logprobs.update(zip(written.tolist(), logprobs, strict=True))
        return StepEvent(
            request_id=self.request.id,
            step=step_plan.scheduled.step,
            positions=written.tolist(),
            token_ids=token_ids[is_token].tolist(),
            confidences=probs[is_token].tolist(),
            attempt=self.attempt,
            logprobs=logprobs,
            steps=steps,
            forced_commits=num_forced,
        )

    def replay(self, event: StepEvent) -> None:
        """Do again what a step did; InvalidRequest where it is not the next step."""
        if event.steps < self.steps:
            self.replan(event.steps)
        positions = np.array(event.positions, np.int64)
        is_next = not self.is_finished and event.step == self.step_plan.scheduled.step
        is_here = bool(np.all((positions >= 0) & (positions < len(self))))
        if not is_next or not is_here or not self.is_masked[positions].all():
            raise InvalidRequest("so_far", event.step, "the steps of this request, in order")
        token_ids = np.array(event.token_ids, np.int64)
        probs = np.array(event.confidences, np.float32)
        self.commit(positions, token_ids, probs, event.forced_commits, event.logprobs)

    def replan(self, steps: int, *, is_running: bool = False) -> None:
        """Have the timetable end after so many steps in all, or as soon as it can, if sooner.

        is_running: whether the next step is under way. InvalidRequest beside `grow_to`.
        """
        if self.request.params.grow_to is not None:
            raise InvalidRequest("steps", steps, "what the request has, beside grow_to")
        self._remaining.replan(steps, self.is_masked, is_running=is_running)
        if not is_running:
            self._step_plan = None

    def close(self) -> None:
        """End with what there is: no step is left, and spans end where the first mask is."""
        self._remaining.end()
        self._is_closed = True

    def completion(self) -> Completion:
        """The answer, with every span cut at its first EOS."""
        request = self.request
        spans = [self._span(hole) for hole in self.holes]
        ended = all(len(span.token_ids) < span.end - span.start for span in spans)
        reason: FinishReason = "stop" if ended else "length"
        num_masked = request.template.num_masked
        attempts = self._attempts()
        usage = Usage(
            prompt_tokens=len(self) - num_masked,
            completion_tokens=sum(len(span.token_ids) for span in spans),
            steps=sum(one.steps for one in attempts),
            forward_passes=sum(one.forward_passes for one in attempts),
            token_forwards=sum(one.token_forwards for one in attempts),
            forced_commits=sum(one.forced_commits for one in attempts),
            approximation=all_approximations(self._approximation, request.params),
            bit_exact=self._is_bit_exact,
            timetable=tuple(self._remaining.timetable),
        )
        return Completion(
            id=request.id,
            token_ids=self.token_ids.tolist(),
            spans=spans,
            finish_reason=reason,
            usage=usage,
            logprobs=None if self._logprobs is None else dict(sorted(self._logprobs.items())),
        )

    def has_open_end(self) -> bool:
        """Whether the last hole is filled to its end, without an EOS."""
        hole = self.holes[-1]
        return not np.isin(self.token_ids[hole.start : hole.end], self._eos_ids).any()

    def _attempts(self) -> list[Canvas]:
        return [self] if self._before is None else [*self._before._attempts(), self]

    def _fill(self, segments: Iterable[object]) -> None:
        self.token_ids[:] = self._mask_id
        for hole in self.holes:
            self.is_masked[hole.start : hole.end] = True
        given = [t for segment in segments if isinstance(segment, Fixed) for t in segment.token_ids]
        self.token_ids[~self.is_masked] = given

    def _plan_step(self) -> StepPlan:
        scheduled, params = self._remaining.next, self.request.params
        demand, alg = self._remaining.demand, str(params.alg)
        is_first_of_many = not self.forward_passes and len(self._remaining) > 1
        if params.egi_temperature is not None and is_first_of_many:
            params, demand, alg = first_params(params, params.egi_temperature), 1, "egi"
        if scheduled.positions is not None:
            candidates, classes = scheduled.positions, None
        else:
            candidates, classes = self._candidates(max(demand, params.min_commits))
        view = None
        if self._window is not None:
            view = self._window.view(self.is_masked, candidates, self._block(candidates))
        return StepPlan(scheduled, params, alg, candidates, classes, demand, view)

    def _candidates(self, num_wanted: int) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Masks of the lowest classes that have so many together, and the class of each."""
        masked = self.is_masked.nonzero()[0]
        if self._order.is_free:
            return masked, None
        classes = self._order.classes(masked)
        place = min(num_wanted, len(masked)) - 1
        is_near = classes <= np.partition(classes, place)[place]
        return masked[is_near], classes[is_near]

    def _block(self, candidates: NDArray[np.int64]) -> int:
        return 0 if self._order.is_free else int(self._order.classes(candidates).min())

    def _exit_early(self) -> None:
        """Finish once no mask stands before the first EOS of any hole; the masks left become EOS.

        Commits are final, so no later step could change what a span shows.
        """
        ends: list[tuple[HoleRange, int]] = []
        for hole in self.holes:
            masked = self.is_masked[hole.start : hole.end]
            if not masked.any():
                continue
            eos = np.isin(self.token_ids[hole.start : hole.end], self._eos_ids) & ~masked
            if not eos.any() or masked[: eos.argmax()].any():
                return
            ends.append((hole, hole.start + int(eos.argmax())))
        for hole, end in ends:
            tail = slice(end, hole.end)
            self.token_ids[tail][self.is_masked[tail]] = self.token_ids[end]
            self.is_masked[tail] = False

    def _span(self, hole: HoleRange) -> Span:
        ids = self.token_ids[hole.start : hole.end]
        is_end = np.isin(ids, self._eos_ids)
        is_end |= self._is_closed & self.is_masked[hole.start : hole.end]
        end = int(is_end.argmax()) if is_end.any() else len(ids)
        return Span(id=hole.id, start=hole.start, end=hole.end, token_ids=ids[:end].tolist())
