"""Dream 7B: the model and an exact engine for it. Needs torch and transformers, never Ray."""

from dream.errors import DreamError, InvalidRequest
from dream.params import SamplingParams
from dream.request import Completion, Request, Span, StepEvent, Usage
from dream.template import Fixed, Hole, Template

__all__ = [
    "Completion",
    "DreamError",
    "Fixed",
    "Hole",
    "InvalidRequest",
    "Request",
    "SamplingParams",
    "Span",
    "StepEvent",
    "Template",
    "Usage",
]
