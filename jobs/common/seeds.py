"""The one derivation of seeds: what has a key of its own has noise of its own."""

from __future__ import annotations

import hashlib

__all__ = ["derive_seed"]


def derive_seed(seed: int, key: bytes) -> int:
    """A seed in [0, 2**63) for `key`: a keyed hash, so that keys and seeds draw unrelated noise."""
    secret = seed.to_bytes(8, "little")
    digest = hashlib.blake2b(key, digest_size=8, key=secret).digest()
    return int.from_bytes(digest, "little") >> 1
