"""How much memory a device has free, and a process uses: what CUDA and the kernel say.

How much an engine takes is in `dream.memory`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

__all__ = ["free_memory", "host_memory", "used_memory"]


def free_memory(device: str) -> int | None:
    """Bytes that are free on a device; None where nothing tells."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return host_memory() if kind == "cpu" else None


def used_memory(device: str) -> dict[str, int]:
    """Bytes that this process uses, by kind: of its GPU, if it has begun to use one, or at all."""
    if torch.device(device).type == "cuda":
        if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            return {}
        allocated, reserved = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
        return {"allocated": allocated, "reserved": reserved}
    words = _read(Path("/proc/self/statm")).split()
    return {"resident": int(words[1]) * os.sysconf("SC_PAGE_SIZE")} if words else {}


def host_memory(root: Path = Path("/")) -> int | None:
    """Free bytes of the host or of the tightest control group around this process.

    Source: proc(5), and the kernel's cgroup-v2.rst and cgroup-v1/memory.rst.
    """
    found = [*_free_in_meminfo(root / "proc/meminfo"), *_free_in_cgroups(root)]
    return max(0, min(found)) if found else None


def _free_in_meminfo(path: Path) -> Iterator[int]:
    for line in _read(path).splitlines():
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def _free_in_cgroups(root: Path) -> Iterator[int]:
    """Of each memory group from this process's own up to the mount: its limit minus its use."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, name = line.split(":", 2)
        if controllers == "":
            base, files = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup/memory"
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        own = base / name.strip("/")
        for group in [own, *own.parents]:
            if group.is_relative_to(base):
                yield from _free_in_group(group, *files)


def _free_in_group(group: Path, limit: str, usage: str, idle: str) -> Iterator[int]:
    """Nothing where the group has no limit; file pages that nobody uses count as free."""
    most, used = _read(group / limit).strip(), _read(group / usage).strip()
    if not most.isdigit() or not used.isdigit():
        return
    stat = dict(line.split() for line in _read(group / "memory.stat").splitlines())
    yield int(most) - int(used) + int(stat.get(idle, 0))


def _read(path: Path) -> str:
    """Contents of a file of the system; empty where it is not there or not ours to read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
