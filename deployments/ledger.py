"""Which replica has the least work, as one process that sends them requests knows it."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

__all__ = ["LEDGER", "Ledger", "avoid", "replica_of"]


class _Charge(NamedTuple):
    cost: int
    messages: Sequence[str]


class Ledger:
    """Outstanding token-forwards of each replica: own requests, and those of other callers.

    An own request counts with its estimated cost from the choice of its replica to its end. What a
    replica reports beyond the own requests of that moment is the work of others, until its next
    report. Any thread may call; replicas and requests go by their ids.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._charges: dict[tuple[str, str], list[_Charge]] = {}
        self._own: defaultdict[str, int] = defaultdict(int)
        self._reported: dict[str, float] = {}
        self._others: dict[str, float] = {}
        self._avoided_until: dict[str, float] = {}

    def charge(self, replica: str, request: str, cost: int, messages: Sequence[str] = ()) -> None:
        """A request goes to a replica, with these messages; it may go there more than once."""
        with self._lock:
            self._charges.setdefault((replica, request), []).append(_Charge(cost, messages))
            self._own[replica] += cost

    def release(self, replica: str, request: str) -> None:
        """A request is over; one that was never charged changes nothing."""
        with self._lock:
            charges = self._charges.get((replica, request))
            if charges is None:
                return
            self._own[replica] -= charges.pop().cost
            if not charges:
                del self._charges[replica, request]
            if self._own[replica] == 0:
                del self._own[replica]

    def report(self, replica: str, token_forwards: float) -> None:
        """What a replica says it has to do; the same number again is no news."""
        with self._lock:
            if self._reported.get(replica) != token_forwards:
                self._reported[replica] = token_forwards
                self._others[replica] = max(0.0, token_forwards - self._own.get(replica, 0))

    def forget(self, replicas: Iterable[str]) -> None:
        """These replicas are gone; what still runs on them is released as it ends."""
        with self._lock:
            for replica in replicas:
                self._reported.pop(replica, None)
                self._others.pop(replica, None)
                self._avoided_until.pop(replica, None)

    def avoid(self, replica: str, for_s: float) -> None:
        """Rank a replica behind all others for so many seconds."""
        with self._lock:
            self._avoided_until[replica] = self._clock() + for_s

    def outstanding(self, replica: str) -> float:
        """Token-forwards that a replica has to do, as far as is known."""
        with self._lock:
            return self._outstanding(replica)

    def replica_of(self, message: str) -> str | None:
        """Where a message of this process runs; None once its request is over."""
        with self._lock:
            for (replica, _), charges in self._charges.items():
                if any(message in charge.messages for charge in charges):
                    return replica
        return None

    def ranked(self, replicas: Sequence[str]) -> list[str]:
        """The replicas with the least work first; equal ones keep their order."""
        with self._lock:
            now = self._clock()
            return sorted(
                replicas,
                key=lambda one: (self._avoided_until.get(one, now) > now, self._outstanding(one)),
            )

    def _outstanding(self, replica: str) -> float:
        return self._own.get(replica, 0) + self._others.get(replica, 0.0)


LEDGER = Ledger(clock=time.monotonic)
"""One for the process: Serve makes the routers, one or more for each handle."""


def avoid(replica_id: str, for_s: float) -> None:
    """Have this process choose other replicas for so many seconds, where there are any."""
    LEDGER.avoid(replica_id, for_s)


def replica_of(message_id: str) -> str | None:
    """The replica that a canvas of this process was sent to, until its call is over."""
    return LEDGER.replica_of(message_id)
