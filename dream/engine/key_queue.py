"""The canvases of one key, in the order in which they run."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field

from dream.canvas import Canvas
from dream.engine.shares import MinimumShare
from dream.engine.step_room import StepRoom

__all__ = ["KeyQueue"]

SHARE_BESIDE = 4
"""One part in four is kept beside deadlines; of that, one in four for larger groups."""


@dataclass(slots=True, eq=False)
class _Group:
    """Canvases that came together, in the order in which they came.

    size: token-forwards that they came with. served: those of its present turn.
    """

    name: Hashable
    canvases: dict[Canvas, None] = field(default_factory=dict)
    size: int = 0
    served: int = 0
    size_class: int = -1


class KeyQueue:
    """Deadlines first, then small groups, then larger ones.

    Canvases with a deadline stand in the order of their deadlines. The others stand in groups, and
    groups in classes by the token-forwards that they came with: less than one full step, less than
    2, 4, 8 and so on up to `quantum`, and more. Small classes go first. In a class groups are first
    come, first served; those with more than `quantum` take turns of `quantum` token-forwards.

    One part in four of the key's token-forwards is kept for groups beside deadlines, and of that
    one in four for the classes beside the smallest, which share it by turns: nobody is starved.
    """

    def __init__(self, step_tokens: int, quantum: int) -> None:
        self._step_tokens = step_tokens
        self._quantum = quantum
        self._num_added = 0
        self._deadlines: list[tuple[float, int, Canvas]] = []
        self._places: dict[Canvas, tuple[float, int, Canvas]] = {}
        self._groups: dict[Hashable, _Group] = {}
        self._largest_class = (quantum // step_tokens).bit_length() + 1
        self._classes: dict[int, dict[_Group, None]] = {}
        self._share_of_groups = MinimumShare(SHARE_BESIDE, step_tokens)
        self._share_of_larger = MinimumShare(SHARE_BESIDE, step_tokens)

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
        group.size += pending
        size_class = self._class_of(group)
        if size_class != group.size_class:
            self._leave_class(group)
            group.size_class = size_class
            self._classes.setdefault(size_class, {})[group] = None

    def remove(self, canvas: Canvas) -> None:
        """Forget a canvas."""
        if (place := self._places.pop(canvas, None)) is not None:
            del self._deadlines[bisect_left(self._deadlines, place)]
            return
        group = self._groups[_group_name(canvas)]
        del group.canvases[canvas]
        if not group.canvases:
            self._leave_class(group)
            del self._groups[group.name]

    def fill(self, room: StepRoom) -> None:
        """Put canvases into a step until it is full."""
        for canvas in self._in_order(room):
            room.put(canvas)
            if room.is_full:
                return

    def charge(self, canvas: Canvas) -> None:
        """Count a canvas that runs in the next step."""
        num_tokens = canvas.num_step_tokens
        if canvas in self._places:
            if self._groups:
                self._share_of_groups.pass_over(num_tokens)
            return
        self._share_of_groups.serve(num_tokens)
        group = self._groups[_group_name(canvas)]
        if group.size_class > min(self._classes):
            self._share_of_larger.serve(num_tokens)
        elif len(self._classes) > 1:
            self._share_of_larger.pass_over(num_tokens)
        self._classes[group.size_class] = self._classes.pop(group.size_class)
        group.served += num_tokens
        if group.served >= self._quantum:
            group.served = 0
            if group.size_class == self._largest_class:
                groups = self._classes[group.size_class]
                groups[group] = groups.pop(group)

    def _in_order(self, room: StepRoom) -> Iterator[Canvas]:
        yield from _worth(self._share_of_groups.due_tokens, self._groups_in_order(room))
        for _, _, canvas in self._deadlines:
            if canvas not in room:
                yield canvas
        yield from self._groups_in_order(room)

    def _groups_in_order(self, room: StepRoom) -> Iterator[Canvas]:
        smallest_first = sorted(self._classes)
        by_turns = [one for one in self._classes if one != smallest_first[0]]
        yield from _worth(self._share_of_larger.due_tokens, self._of(by_turns, room))
        yield from self._of(smallest_first, room)

    def _of(self, size_classes: Iterable[int], room: StepRoom) -> Iterator[Canvas]:
        for size_class in size_classes:
            for group in self._classes[size_class]:
                for canvas in group.canvases:
                    if canvas not in room:
                        yield canvas

    def _class_of(self, group: _Group) -> int:
        if group.size > self._quantum:
            return self._largest_class
        return (group.size // self._step_tokens).bit_length()

    def _leave_class(self, group: _Group) -> None:
        groups = self._classes.get(group.size_class, {})
        groups.pop(group, None)
        if not groups:
            self._classes.pop(group.size_class, None)


def _worth(num_tokens: int, candidates: Iterator[Canvas]) -> Iterator[Canvas]:
    """The first that have so many tokens together."""
    if num_tokens <= 0:
        return
    for canvas in candidates:
        yield canvas
        num_tokens -= canvas.num_step_tokens
        if num_tokens <= 0:
            return


def _group_name(canvas: Canvas) -> Hashable:
    """A group's own name, or one that no group has."""
    request = canvas.request
    return (request.id,) if request.group is None else request.group
