"""How much a request may ask for: the bounds that `/v1/models` shows."""

from __future__ import annotations

from collections.abc import Mapping

from dream.params import MAX_STEPS
from dream.template import MOST_PRIORITY

__all__ = ["LIMITS"]

MAX_HOLE_TOKENS = 2048
MAX_HOLES = 64
MAX_HOLE_ID_CHARS = 64
MAX_METADATA = 16
MAX_N = 8
MAX_PROMPTS = 16
MAX_SEGMENTS = 256
MAX_STOP = 4
MAX_STOP_CHARS = 200
MAX_TOKEN_ID = 2**31 - 1
MAX_USER_CHARS = 512

LIMITS: Mapping[str, int] = {
    "hole_tokens": MAX_HOLE_TOKENS,
    "holes": MAX_HOLES,
    "hole_id_chars": MAX_HOLE_ID_CHARS,
    "metadata": MAX_METADATA,
    "n": MAX_N,
    "priority": MOST_PRIORITY,
    "prompts": MAX_PROMPTS,
    "segments": MAX_SEGMENTS,
    "steps": MAX_STEPS,
    "stop": MAX_STOP,
    "stop_chars": MAX_STOP_CHARS,
    "user_chars": MAX_USER_CHARS,
}
"""The bounds above, under the names that `/v1/models` shows."""
