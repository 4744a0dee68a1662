"""The canvases of one key, in the order in which they run."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

from dream.canvas import Canvas
from dream.engine.shares import MinimumShare
from dream.engine.step_room import Reason, StepRoom

__all__ = ["KeyQueue"]

SHARE_BESIDE = 4
"""One part in four is kept beside deadlines; of that, one in four for turns beside short work."""

Candidates = Iterator[tuple[Canvas, Reason]]


@dataclass(slots=True, eq=False)
class _Group:
    """Canvases that came together, in the order in which they came.

    pending: token-forwards still to run. served: those of its present turn. size_class: see
    `KeyQueue`; None where it is not short.
    """

    name: Hashable
    canvases: dict[Canvas, None] = field(default_factory=dict)
    pending: int = 0
    served: int = 0
    size_class: int | None = None


class KeyQueue:
    """Three lists: deadlines first, then short work, then turns.

    Canvases with a deadline stand in the order of their deadlines. The others stand in groups. A
    group is short while it has at most `quantum` token-forwards left; those with less than one full
    step left go first, then those with less than 2, 4, 8, and so on, each first come, first served.
    All groups take turns as well: in the order in which they came, and after `quantum`
    token-forwards behind the others. One part in four of the key's token-forwards is kept for
    groups beside deadlines, and of that one in four for turns, so that nobody is starved.
    """

    def __init__(self, step_tokens: int, quantum: int) -> None:
        self._step_tokens = step_tokens
        self._quantum = quantum
        self._num_added = 0
        self._deadlines: list[tuple[float, int, Canvas]] = []
        self._places: dict[Canvas, tuple[float, int, Canvas]] = {}
        self._groups: dict[Hashable, _Group] = {}
        self._short: dict[int, dict[_Group, None]] = {}
        self._share_of_groups = MinimumShare(SHARE_BESIDE, step_tokens)
        self._share_of_turns = MinimumShare(SHARE_BESIDE, step_tokens)

    def __bool__(self) -> bool:
        return bool(self._deadlines or self._groups)

    @property
    def first_deadline(self) -> float | None:
        """The earliest deadline of its canvases."""
        return self._deadlines[0][0] if self._deadlines else None

    def add(self, canvas: Canvas, pending: int) -> None:
        """Queue a canvas that has so many token-forwards to run."""
        if canvas.request.deadline is not None:
            self._num_added += 1
            place = (canvas.request.deadline, self._num_added, canvas)
            self._places[canvas] = place
            insort(self._deadlines, place)
            return
        name = _group_name(canvas)
        group = self._groups.setdefault(name, _Group(name))
        group.canvases[canvas] = None
        self._count(group, pending)

    def update(self, canvas: Canvas, more: int) -> None:
        """A canvas has so many token-forwards more to run than before."""
        if canvas not in self._places:
            self._count(self._groups[_group_name(canvas)], more)

    def remove(self, canvas: Canvas, pending: int) -> None:
        """Forget a canvas that had so many token-forwards to run."""
        if (place := self._places.pop(canvas, None)) is not None:
            del self._deadlines[bisect_left(self._deadlines, place)]
            return
        group = self._groups[_group_name(canvas)]
        del group.canvases[canvas]
        self._count(group, -pending)
        if not group.canvases:
            self._classify(group, None)
            del self._groups[group.name]

    def fill(self, room: StepRoom) -> None:
        """Put canvases into a step until it is full."""
        for canvas, reason in self._in_order(room):
            room.put(canvas, reason)
            if room.is_full:
                return

    def charge(self, canvas: Canvas, reason: Reason) -> None:
        """Count a canvas that runs in the next step."""
        num_tokens = canvas.num_step_tokens
        if reason is Reason.DEADLINE:
            self._share_of_groups.pass_over(num_tokens)
            return
        self._share_of_groups.serve(num_tokens)
        if reason is Reason.TURN:
            self._share_of_turns.serve(num_tokens)
        else:
            self._share_of_turns.pass_over(num_tokens)
        group = self._groups[_group_name(canvas)]
        group.served += num_tokens
        if group.served >= self._quantum:
            group.served = 0
            self._groups[group.name] = self._groups.pop(group.name)

    def _in_order(self, room: StepRoom) -> Candidates:
        yield from _worth(self._share_of_groups.due_tokens, self._groups_in_order(room))
        for _, _, canvas in self._deadlines:
            if canvas not in room:
                yield canvas, Reason.DEADLINE
        yield from self._groups_in_order(room)

    def _groups_in_order(self, room: StepRoom) -> Candidates:
        yield from _worth(self._share_of_turns.due_tokens, self._turns(room))
        for size_class in sorted(self._short):
            for group in self._short[size_class]:
                for canvas in group.canvases:
                    if canvas not in room:
                        yield canvas, Reason.SHORT
        yield from self._turns(room)

    def _turns(self, room: StepRoom) -> Candidates:
        for group in self._groups.values():
            for canvas in group.canvases:
                if canvas not in room:
                    yield canvas, Reason.TURN

    def _count(self, group: _Group, more: int) -> None:
        group.pending += more
        is_short = group.pending <= self._quantum
        self._classify(
            group, (group.pending // self._step_tokens).bit_length() if is_short else None
        )

    def _classify(self, group: _Group, size_class: int | None) -> None:
        if size_class == group.size_class:
            return
        if group.size_class is not None:
            del self._short[group.size_class][group]
            if not self._short[group.size_class]:
                del self._short[group.size_class]
        group.size_class = size_class
        if size_class is not None:
            self._short.setdefault(size_class, {})[group] = None


def _worth(num_tokens: int, candidates: Candidates) -> Candidates:
    """The first that have so many tokens together."""
    if num_tokens <= 0:
        return
    for canvas, reason in candidates:
        yield canvas, reason
        num_tokens -= canvas.num_step_tokens
        if num_tokens <= 0:
            return


def _group_name(canvas: Canvas) -> Hashable:
    """A group's own name, or one that no group has."""
    request = canvas.request
    return (request.id,) if request.group is None else request.group
