"""Dream 7B: the model and an exact engine for it. Needs torch and transformers, never Ray."""

from dream.engine.async_engine import AsyncEngine
from dream.engine.config import EngineConfig
from dream.engine.engine import Engine
from dream.errors import DreamError, InvalidRequest
from dream.model.tokenizer import Tokenizer
from dream.params import SamplingParams
from dream.request import Completion, Request, Span, StepEvent, Usage
from dream.template import Fixed, Hole, Template

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
    "Tokenizer",
    "Usage",
]
