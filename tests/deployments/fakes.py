"""Replicas without Ray: every hole is filled with one letter, or whatever goes wrong goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from deployments.messages import (
    CanvasRequest,
    CanvasResult,
    CanvasUpdate,
    FilledHole,
    ModelCard,
    Refusal,
    View,
)
from dream import Usage
from dream.text import TextTemplate

URL = "http://127.0.0.1"
"""Where clients of an app without keys find it: another name is refused."""


class FakeReplicas:
    """Fills hole i of a canvas with its i-th capital letter; `trouble` is raised or returned."""

    def __init__(self, trouble: Exception | Refusal | None = None, delay_s: float = 0.0) -> None:
        self.trouble = trouble
        self.delay_s = delay_s
        self.messages: list[CanvasRequest] = []
        self.trouble_in_stream: Exception | None = None
        self.delay_in_stream_s = 0.0
        self.silent_updates = 0
        self.ready = True
        self.preset: str | None = None
        self.special_tokens: tuple[str, ...] = ("<|im_start|>", "<|im_end|>")

    async def generate(self, messages: Sequence[CanvasRequest]) -> list[CanvasResult] | Refusal:
        await asyncio.sleep(self.delay_s)
        if isinstance(self.trouble, Exception):
            raise self.trouble
        if isinstance(self.trouble, Refusal):
            return self.trouble
        self.messages.extend(messages)
        return [result_of(message) for message in messages]

    async def stream(
        self, messages: Sequence[CanvasRequest], view: View
    ) -> AsyncGenerator[Refusal | list[CanvasUpdate]]:
        """The text of each canvas in two parts."""
        done = await self.generate(messages)
        if isinstance(done, Refusal):
            yield done
            return
        yield []
        await asyncio.sleep(self.delay_in_stream_s)
        for _ in range(self.silent_updates):
            await asyncio.sleep(0.01)
            yield [CanvasUpdate(index=0, step=1, steps=2)]
        if self.trouble_in_stream is not None:
            yield [CanvasUpdate(index=0, step=1, steps=2, text="A")]
            raise self.trouble_in_stream
        for index, (message, result) in enumerate(zip(messages, done, strict=True)):
            filled = [hole.text for hole in result.holes]
            text = message.template.join(filled) if message.is_whole else filled[0]
            yield [CanvasUpdate(index=index, step=1, steps=2, text=text[:1])]
            yield [CanvasUpdate(index=index, step=2, steps=2, text=text[1:], result=result)]

    async def tokenize(self, template: TextTemplate) -> list[int] | Refusal:
        if isinstance(self.trouble, Refusal):
            return self.trouble
        return [len(str(piece)) for piece in template.pieces]

    async def detokenize(self, token_ids: Sequence[int]) -> str | Refusal:
        return "".join(chr(97 + token % 26) for token in token_ids)

    async def card(self) -> ModelCard:
        return ModelCard(
            max_model_len=512,
            preset=self.preset,
            special_tokens=self.special_tokens,
            weights_sha256="0" * 64,
            fingerprint="fp_0",
        )

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
