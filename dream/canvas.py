"""One request being filled: its tokens, mask bitmap and place in its timetable.

A canvas is filled in place by `commit` alone; given tokens are never written. Whether a
position is masked is kept in a bitmap, so the mask id is an ordinary id in given text.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from dream.params import MAX_STEPS
from dream.request import Completion, FinishReason, Request, Span, StepEvent, Usage
from dream.template import Fixed, HoleRange
from dream.timetable import Plan, Visit

__all__ = ["Canvas"]


class _Order:
    """In which order a request's masks may be filled, beside their ranks: a class for each.

    Masks are numbered by (priority, position). Blocks are runs of those numbers, and a frontier
    reaches from the lowest number that is still masked.
    """

    def __init__(self, positions: NDArray[np.int64], request: Request) -> None:
        priorities = np.array(request.template.priorities, np.int64)
        self._frontier = request.params.frontier
        self._numbers = np.zeros(request.template.num_tokens, np.int64)
        self._numbers[positions[priorities.argsort(kind="stable")]] = np.arange(len(positions))
        self._static = np.zeros_like(self._numbers)
        self._static[positions] = np.unique(priorities, return_inverse=True)[1] * MAX_STEPS
        if request.params.block_length is not None:
            self._static += self._numbers // request.params.block_length

    def classes(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Class of each of these masked positions."""
        classes = self._static[positions]
        if self._frontier is not None:
            numbers = self._numbers[positions]
            classes += np.maximum(numbers - numbers.min() - self._frontier + 1, 0)
        return classes


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
    ) -> None:
        self.request = request
        self.token_ids = np.empty(request.template.num_tokens, np.int64)
        self.is_masked = np.zeros(len(self.token_ids), np.bool_)
        self.holes: tuple[HoleRange, ...] = request.template.holes
        self.forward_passes = 0
        self.forced_commits = 0
        self._mask_id = mask_id
        self._eos_ids = np.array(sorted(eos_ids), np.int64)
        self._fill(request.template.segments)
        self.steps = request.params.steps or max(1, int(self.is_masked.sum()))
        self._plan = plan
        self._can_exit_early = can_exit_early and request.params.early_exit
        self._has_eos = False
        self._ahead = 0
        self._order = _order(request, self.is_masked.nonzero()[0])
        self._visits = self._visits_from(0)

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def is_finished(self) -> bool:
        """Whether no committing step is left."""
        return not self._visits

    @property
    def visit(self) -> Visit:
        """The next step that commits."""
        return self._visits[0]

    @property
    def candidates(self) -> NDArray[np.int64]:
        """The positions that may be committed at the next visit, ascending."""
        positions = self.visit.positions
        return self.is_masked.nonzero()[0] if positions is None else positions

    @property
    def demand(self) -> int:
        """How many masks the next visit has to fill for the timetable to be met."""
        return max(0, self.visit.count - self._ahead)

    @property
    def classes(self) -> NDArray[np.int64] | None:
        """Class of each candidate: the lowest is filled first; None where all are of one class."""
        return None if self._order is None else self._order.classes(self.candidates)

    @property
    def pending_token_forwards(self) -> int:
        """Rows times forward passes still to run, at most: a commit rule may need fewer."""
        visits = len(self._visits)
        if visits and self.request.params.rule is not None:
            visits = min(visits, int(self.is_masked.sum()))
        return len(self) * visits

    def commit(
        self,
        positions: NDArray[np.int64],
        token_ids: NDArray[np.int64],
        probs: NDArray[np.float32],
        num_forced: int = 0,
    ) -> StepEvent:
        """Write one visit's tokens (positions ascending) and move to the next visit.

        num_forced: how many of them the commit rule did not allow, and the timetable demanded.

        A drawn mask id (parity mode only) leaves its position masked, as in the official loop,
        and the rest of the timetable is planned anew for the masks that are left.
        """
        visit = self._visits.pop(0)
        self._ahead += len(positions) - visit.count
        self.forward_passes += 1
        self.forced_commits += num_forced
        is_token = token_ids != self._mask_id
        written = positions[is_token]
        self.token_ids[written] = token_ids[is_token]
        self.is_masked[written] = False
        if not is_token.all():
            self._visits = self._visits_from(visit.step + 1)
        elif self._can_exit_early:
            self._has_eos |= bool(np.isin(token_ids, self._eos_ids).any())
            if self._has_eos:
                self._exit_early()
        if not self.is_masked.any():
            self._visits = []
        return StepEvent(
            request_id=self.request.id,
            step=visit.step,
            positions=written.tolist(),
            token_ids=token_ids[is_token].tolist(),
            confidences=probs[is_token].tolist(),
        )

    def completion(self) -> Completion:
        """The answer, with every span cut at its first EOS."""
        spans = [self._span(hole) for hole in self.holes]
        ended = all(len(span.token_ids) < span.end - span.start for span in spans)
        reason: FinishReason = "stop" if ended else "length"
        num_masked = self.request.template.num_masked
        usage = Usage(
            prompt_tokens=len(self) - num_masked,
            completion_tokens=sum(len(span.token_ids) for span in spans),
            steps=self.steps,
            forward_passes=self.forward_passes,
            token_forwards=self.forward_passes * len(self),
            forced_commits=self.forced_commits,
        )
        return Completion(
            id=self.request.id,
            token_ids=self.token_ids.tolist(),
            spans=spans,
            finish_reason=reason,
            usage=usage,
        )

    def _fill(self, segments: Iterable[object]) -> None:
        self.token_ids[:] = self._mask_id
        for hole in self.holes:
            self.is_masked[hole.start : hole.end] = True
        given = [t for segment in segments if isinstance(segment, Fixed) for t in segment.token_ids]
        self.token_ids[~self.is_masked] = given

    def _visits_from(self, first: int) -> list[Visit]:
        self._ahead = 0
        masked = self.is_masked.nonzero()[0]
        if not len(masked) or first >= self.steps:
            return []
        return self._plan(masked, self.request.params, self.steps, first)

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
        self._visits = []

    def _span(self, hole: HoleRange) -> Span:
        ids = self.token_ids[hole.start : hole.end]
        is_eos = np.isin(ids, self._eos_ids)
        end = int(is_eos.argmax()) if is_eos.any() else len(ids)
        return Span(id=hole.id, start=hole.start, end=hole.end, token_ids=ids[:end].tolist())


def _order(request: Request, masked: NDArray[np.int64]) -> _Order | None:
    """None where all masks are of one class."""
    params = request.params
    has_limit = params.block_length is not None or params.frontier is not None
    if not has_limit and len(set(request.template.priorities)) < 2:
        return None
    return _Order(masked, request)
