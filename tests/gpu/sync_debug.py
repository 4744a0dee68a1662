"""CUDA's check for hidden waits, switched back whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

PROTOTYPE = "ignore:Synchronization debug mode is a prototype feature"
"""A filter for the warning that the first call of `set_sync_debug_mode` emits."""


@contextmanager
def waits_as_set() -> Iterator[None]:
    """Restores the mode at the end, so that no later test fails at a wait of its own."""
    before = torch.cuda.get_sync_debug_mode()
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
