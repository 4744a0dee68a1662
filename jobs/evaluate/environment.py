"""What an evaluation was begun on, for its record."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

__all__ = ["environment", "processor"]

PACKAGES = ("dream-cluster", "ray", "torch", "transformers", "numpy", "scipy", "pyarrow")


def environment() -> dict[str, str | None]:
    """Versions, and the machine of the driver; None where a thing is not known."""
    found: dict[str, str | None] = {name: version(name) for name in PACKAGES}
    return found | {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cpus": str(os.cpu_count()),
        "git_hash": _git_hash(),
    }


def processor() -> str:
    """The processor's name, or the machine type where the system does not tell it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names and names[0] else platform.machine()


def _git_hash() -> str | None:
    """Commit of the working tree that this file is in; None where there is none."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
