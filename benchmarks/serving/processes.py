"""Processor time of the server's processes, where it runs on this machine, from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["ROLES", "cpu_s", "cpu_since", "processes_of", "role_of"]

PROC = Path("/proc")
ROLES: Mapping[str, str] = {
    "ray::ProxyActor": "proxy",
    "ray::ServeReplica:dream:Ingress": "ingress",
    "ray::ServeReplica:dream:DreamReplica": "replica",
}
"""What a process is by the beginning of its command line; Ray sets it."""

_LISTENS = "0A"


def role_of(command: str) -> str | None:
    """proxy, ingress or replica; None for any other process."""
    return next((role for start, role in ROLES.items() if command.startswith(start)), None)


def processes_of(port: int) -> dict[int, str]:
    """The Serve behind a port of this machine: the role of each process by its id.

    All are children of one raylet, as is the proxy that listens. Empty where nothing of the kind
    listens here.
    """
    inodes = set(_listening(port))
    all_ids = [int(path.name) for path in PROC.iterdir() if path.name.isdigit()]
    proxies = [one for one in all_ids if _role(one) == "proxy" and inodes & set(_sockets(one))]
    parents = {_stat(one)[1] for one in proxies}
    found = {one: role for one in all_ids if (role := _role(one)) and _parent(one) in parents}
    return found


def cpu_s(processes: Mapping[int, str]) -> dict[str, float]:
    """Processor seconds of each role so far, user and system together."""
    total = dict.fromkeys(processes.values(), 0.0)
    for one, role in processes.items():
        total[role] += sum(_stat(one)[11:13]) / os.sysconf("SC_CLK_TCK")
    return total


def cpu_since(before: Mapping[str, float], processes: Mapping[int, str]) -> dict[str, float]:
    """Processor seconds of each role since then."""
    return {role: seconds - before[role] for role, seconds in cpu_s(processes).items()}


def _listening(port: int) -> Iterator[str]:
    """Inodes of the sockets that listen on the port."""
    for name in ("tcp", "tcp6"):
        for line in (PROC / "net" / name).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == _LISTENS and int(words[1].rpartition(":")[2], 16) == port:
                yield words[9]


def _sockets(process: int) -> Iterator[str]:
    for path in (PROC / str(process) / "fd").iterdir():
        target = os.readlink(path)
        if target.startswith("socket:["):
            yield target[8:-1]


def _role(process: int) -> str | None:
    try:
        return role_of((PROC / str(process) / "cmdline").read_bytes().decode(errors="replace"))
    except OSError:  # it has ended since
        return None


def _parent(process: int) -> int:
    return _stat(process)[1]


def _stat(process: int) -> list[int]:
    """Numbers of /proc/PID/stat from the state on, which is no number and counts as 0."""
    words = (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
    return [0, *map(int, words[1:])]
