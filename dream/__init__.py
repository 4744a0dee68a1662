"""Dream 7B: the model and an exact engine for it. Needs torch and transformers, never Ray.

The names that need torch are imported when they are first used.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

from dream.errors import DreamError, InvalidRequest
from dream.params import SamplingParams
from dream.request import Completion, Request, Span, StepEvent, TokenLogprobs, Usage
from dream.template import Fixed, Hole, Template

if TYPE_CHECKING:
    from dream.engine.async_engine import AsyncEngine
    from dream.engine.config import EngineConfig
    from dream.engine.engine import Engine
    from dream.model.tokenizer import Tokenizer

# MKL reads this at its first call: kernels that sum a row alike however many rows and threads
# share the call. Without it a result would depend on batch-mates in its last bits.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
# oneDNN keeps what it made for each number of rows, some 1 MB; by default 1,024 of them, twice.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
os.environ.setdefault("LRU_CACHE_CAPACITY", "128")

__all__ = [
    "AsyncEngine",
    "Completion",
    "DreamError",
    "Engine",
    "EngineConfig",
    "Fixed",
    "Hole",
    "InvalidRequest",
    "Request",
    "SamplingParams",
    "Span",
    "StepEvent",
    "Template",
    "TokenLogprobs",
    "Tokenizer",
    "Usage",
]

_LAZY = {
    "AsyncEngine": "dream.engine.async_engine",
    "Engine": "dream.engine.engine",
    "EngineConfig": "dream.engine.config",
    "Tokenizer": "dream.model.tokenizer",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
