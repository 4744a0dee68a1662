"""Replicas without Ray: every hole is filled with one letter, or whatever goes wrong goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from deployments.messages import CanvasRequest, CanvasResult, FilledHole, ModelCard, Refusal
from dream import Usage

URL = "http://127.0.0.1"
"""Where clients of an app without keys find it: another name is refused."""


class FakeReplicas:
    """Fills hole i of a canvas with its i-th capital letter; `trouble` is raised or returned."""

    def __init__(self, trouble: Exception | Refusal | None = None, delay_s: float = 0.0) -> None:
        self.trouble = trouble
        self.delay_s = delay_s
        self.messages: list[CanvasRequest] = []
        self.ready = True
        self.preset: str | None = None

    async def generate(self, messages: Sequence[CanvasRequest]) -> list[CanvasResult] | Refusal:
        await asyncio.sleep(self.delay_s)
        if isinstance(self.trouble, Exception):
            raise self.trouble
        if isinstance(self.trouble, Refusal):
            return self.trouble
        self.messages.extend(messages)
        return [result_of(message) for message in messages]

    async def card(self) -> ModelCard:
        return ModelCard(max_model_len=512, preset=self.preset)

    async def is_ready(self) -> bool:
        return self.ready


def result_of(message: CanvasRequest) -> CanvasResult:
    """The canvas filled with letters, at one forward pass for each hole."""
    holes = message.template.holes
    num_tokens = message.template.num_masked
    return CanvasResult(
        holes=tuple(
            FilledHole(
                id=hole.id or str(index),
                text=chr(65 + index) * hole.num_tokens,
                num_tokens=hole.num_tokens,
            )
            for index, hole in enumerate(holes)
        ),
        finish_reason="length",
        num_canvas_tokens=10 + num_tokens,
        usage=Usage(
            prompt_tokens=10,
            completion_tokens=num_tokens,
            steps=num_tokens,
            forward_passes=len(holes),
            token_forwards=(10 + num_tokens) * len(holes),
        ),
    )
