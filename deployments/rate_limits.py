"""What a key may use: requests and token-forwards in any 60 seconds, and requests at a time.

Each ingress process counts for itself: with several of them a key may use as many times its limits.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from deployments.errors import ApiError
from deployments.key_file import Key

__all__ = ["WINDOW_S", "RateLimiter", "SlidingWindow"]

WINDOW_S = 60.0

RETRY_QUEUE_S = 1.0
"""After how long to try again when too many requests of a key run: nobody knows when one ends."""


class SlidingWindow:
    """Amounts of the last 60 seconds; an amount counts for exactly that long.

    Whoever adds 1 only while `used` is below a limit never adds more than it in any 60 seconds.
    """

    def __init__(self) -> None:
        self._added: deque[tuple[float, int]] = deque()
        self._used = 0

    def add(self, now: float, amount: int) -> None:
        """Count an amount; times never go back."""
        self._added.append((now, amount))
        self._used += amount

    def used(self, now: float) -> int:
        """All that was added in the 60 seconds before now."""
        while self._added and self._added[0][0] + WINDOW_S <= now:
            self._used -= self._added.popleft()[1]
        return self._used

    def wait_s(self, now: float, limit: int) -> float:
        """Seconds until less than `limit` is used, if nothing is added meanwhile."""
        left, wait = self.used(now), 0.0
        for added_at, amount in self._added:
            if left < limit:
                break
            left -= amount
            wait = added_at + WINDOW_S - now
        return wait

    def reset_s(self, now: float) -> float:
        """Seconds until nothing is used."""
        return self._added[-1][0] + WINDOW_S - now if self.used(now) else 0.0


@dataclass(slots=True)
class _Meter:
    requests: SlidingWindow = field(default_factory=SlidingWindow)
    token_forwards: SlidingWindow = field(default_factory=SlidingWindow)
    num_running: int = 0


class RateLimiter:
    """Counts for each key what it uses, and refuses what is over its limits."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._meters: defaultdict[str, _Meter] = defaultdict(_Meter)

    def admit(self, key: Key) -> None:
        """Begin a request, which `release` ends; ApiError where a limit is reached.

        What a request costs is known afterwards: token-forwards may go beyond their limit by the
        requests that run then, and new ones are refused until enough of them are a minute old.
        """
        meter, now = self._meters[key.sha256], self._clock()
        limit = key.concurrent_requests
        if limit is not None and meter.num_running >= limit:
            message = f"This key may have {limit} requests at a time."
            raise ApiError("queue_full_for_key", message, retry_after_s=RETRY_QUEUE_S)
        for unit, limit, window in _windows(key, meter):
            if window.used(now) >= limit:
                message = f"This key may use {limit} {unit} a minute."
                wait = window.wait_s(now, limit)
                raise ApiError("rate_limit_exceeded", message, retry_after_s=wait)
        if key.requests_per_minute is not None:
            meter.requests.add(now, 1)
        meter.num_running += 1

    def charge(self, key: Key, token_forwards: int) -> None:
        """Count token-forwards that a request has used, also beyond the limit."""
        if token_forwards > 0 and key.token_forwards_per_minute is not None:
            self._meters[key.sha256].token_forwards.add(self._clock(), token_forwards)

    def release(self, key: Key) -> None:
        """End a request that was admitted."""
        self._meters[key.sha256].num_running -= 1

    def headers(self, key: Key) -> dict[str, str]:
        """`x-ratelimit-*` of the limits that the key has."""
        meter, now = self._meters[key.sha256], self._clock()
        headers: dict[str, str] = {}
        for unit, limit, window in _windows(key, meter):
            headers[f"x-ratelimit-limit-{unit}"] = str(limit)
            headers[f"x-ratelimit-remaining-{unit}"] = str(max(0, limit - window.used(now)))
            headers[f"x-ratelimit-reset-{unit}"] = f"{window.reset_s(now):.3f}s"
        return headers


def _windows(key: Key, meter: _Meter) -> list[tuple[str, int, SlidingWindow]]:
    """Each limit of a minute that the key has, with what counts towards it."""
    limits = (
        ("requests", key.requests_per_minute, meter.requests),
        ("token-forwards", key.token_forwards_per_minute, meter.token_forwards),
    )
    return [(unit, limit, window) for unit, limit, window in limits if limit is not None]
