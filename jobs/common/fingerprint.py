"""What makes a job the same job: its identity, the digest of it, and where two of them differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

__all__ = ["Json", "differences", "digest"]

Json = str | int | float | bool | list[str] | dict[str, float] | None


def differences(then: Mapping[str, Json], now: Mapping[str, Json]) -> list[str]:
    """One line for each field that two identities do not share."""
    return [
        f"{name}: {json.dumps(then.get(name))} -> {json.dumps(now.get(name))}"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]


def digest(identity: Mapping[str, Json]) -> str:
    """sha256 of canonical JSON."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
