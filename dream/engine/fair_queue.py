"""Keys share the engine in equal parts of its token-forwards."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable

from dream.canvas import Canvas
from dream.engine.key_queue import KeyQueue
from dream.engine.shares import MinimumShare
from dream.engine.step_room import StepRoom

__all__ = ["FairQueue"]

SHARE_OF_LONGEST_WAIT = 8
"""One part in eight is for the key that has waited longest, whatever the keys have used."""

START_OF_NEW = 4
"""A key that nothing is known of starts one part in four of `quantum` before the others."""

MOST_GONE = 10_000
"""Keys without work whose use is remembered, at most."""


class _Key:
    """A key that has canvases here.

    used: its token-forwards, counted as `FairQueue` says. turn: number of the last step of it.
    """

    def __init__(self, name: str, queue: KeyQueue, used: int, turn: int) -> None:
        self.name = name
        self.queue = queue
        self.used = used
        self.turn = turn

    @property
    def rank(self) -> tuple[int, int]:
        """The lowest leads the next step; no two are equal."""
        return self.used, self.turn


class FairQueue:
    """The canvases of one priority: fair queueing of keys by the token-forwards that they used.

    The key that has used least leads the next step. A key that comes back starts where it was, but
    at most `quantum` behind the least of the others; a new one starts a quarter of that behind.
    So a key that needs less than its part is served at once, up to `quantum` token-forwards; one
    that always has work gets its part at least, and what others leave. A key that was alone, or
    joined steps of others, pays for at most `quantum` and a step of that. Where nobody has work,
    all is forgotten.

    Of keys that have used less than their part, the one with the earliest deadline leads. One part
    in eight is for the key that has waited longest, so that new keys starve nobody.
    """

    def __init__(self, step_tokens: int, quantum: int) -> None:
        self._step_tokens = step_tokens
        self._quantum = quantum
        self._start = max(1, quantum // START_OF_NEW)
        self._keys: dict[str, _Key] = {}
        self._ranked: list[_Key] = []
        self._with_deadlines: dict[str, _Key] = {}
        self._gone: dict[str, int] = {}
        self._least_used = 0
        self._num_turns = 0
        self._share_of_longest_wait = MinimumShare(SHARE_OF_LONGEST_WAIT, step_tokens)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def add(self, canvas: Canvas, pending: int) -> None:
        """Queue a canvas that has so many token-forwards to run."""
        key = self._keys.get(canvas.request.key) or self._join(canvas.request.key)
        key.queue.add(canvas, pending)
        if canvas.request.deadline is not None:
            self._with_deadlines[key.name] = key

    def remove(self, canvas: Canvas) -> None:
        """Forget a canvas."""
        key = self._keys[canvas.request.key]
        key.queue.remove(canvas)
        if key.queue.first_deadline is None:
            self._with_deadlines.pop(key.name, None)
        if not key.queue:
            self._leave(key)

    def lead(self, room: StepRoom, shared_limit: int) -> None:
        """Fill a step: one key as far as it goes, then others up to so many tokens of it in all."""
        leader = self._leader()
        leader.queue.fill(room)
        room.narrow(shared_limit)
        self._fill(room, (key for key in self._ranked if key is not leader))

    def join(self, room: StepRoom) -> None:
        """Put canvases into a step that others lead."""
        self._fill(room, self._ranked)

    def charge(self, chosen: Iterable[Canvas]) -> int:
        """Count the canvases that run in the next step; their tokens."""
        tokens: dict[str, int] = {}
        for canvas in chosen:
            name = canvas.request.key
            tokens[name] = tokens.get(name, 0) + canvas.num_step_tokens
            self._keys[name].queue.charge(canvas)
        longest_wait = next(iter(self._keys), None)
        for name, count in tokens.items():
            if name == longest_wait:
                self._share_of_longest_wait.serve(count)
            else:
                self._share_of_longest_wait.pass_over(count)
            self._use(self._keys[name], count)
        return sum(tokens.values())

    def _fill(self, room: StepRoom, keys: Iterable[_Key]) -> None:
        for key in keys:
            if room.is_full:
                return
            key.queue.fill(room)

    def _leader(self) -> _Key:
        if self._share_of_longest_wait.due_tokens:
            return next(iter(self._keys.values()))
        urgent = [
            (deadline, key.rank, key)
            for key in self._with_deadlines.values()
            if key.used < self._least_used and (deadline := key.queue.first_deadline) is not None
        ]
        return min(urgent)[2] if urgent else self._ranked[0]

    def _join(self, name: str) -> _Key:
        self._advance()
        is_first, least = not self._keys, self._least_used
        used = self._gone.pop(name, least if is_first else least - self._start)
        used = max(used, least - self._quantum)
        self._num_turns += 1
        key = _Key(name, KeyQueue(self._step_tokens, self._quantum), used, self._num_turns)
        self._keys[name] = key
        insort(self._ranked, key, key=_rank)
        return key

    def _leave(self, key: _Key) -> None:
        self._advance()
        del self._keys[key.name]
        self._unrank(key)
        self._gone[key.name] = key.used
        if not self._keys:
            self._gone.clear()
        elif len(self._gone) > MOST_GONE:
            del self._gone[next(iter(self._gone))]

    def _use(self, key: _Key, num_tokens: int) -> None:
        """Count tokens of a key, which then is the one that waited least."""
        self._unrank(key)
        most = self._least_used + self._quantum + self._step_tokens
        self._num_turns += 1
        key.used, key.turn = min(key.used + num_tokens, most), self._num_turns
        insort(self._ranked, key, key=_rank)
        self._keys[key.name] = self._keys.pop(key.name)
        self._advance()

    def _unrank(self, key: _Key) -> None:
        del self._ranked[bisect_left(self._ranked, key.rank, key=_rank)]

    def _advance(self) -> None:
        """Follow the least that a key has used, which falls where a key comes."""
        if self._ranked:
            self._least_used = max(self._least_used, self._ranked[0].used)


def _rank(key: _Key) -> tuple[int, int]:
    return key.rank
