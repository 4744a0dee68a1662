"""Text to tokens beside the event loop: bounded before, in one thread, with a bounded queue."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

from dream import Template, Tokenizer
from dream.text import TextTemplate

__all__ = ["Encoder", "EncoderBusy"]

MAX_WAITING_CHARS = 2**20
"""Characters that may wait for the thread: some seconds of work for it at the very most."""


class EncoderBusy(Exception):
    """More text is waiting to be encoded than may wait."""


class Encoder:
    """Encodes templates in one thread, so that the event loop goes on meanwhile."""

    def __init__(self, tokenizer: Tokenizer, max_model_len: int) -> None:
        self._tokenizer = tokenizer
        self._max_tokens = max_model_len
        self._max_token_bytes = tokenizer.max_token_bytes
        self._waiting_chars = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="dream-tokenizer")

    async def encode(self, templates: Sequence[TextTemplate]) -> list[Template]:
        """The templates in tokens. ContextLengthExceeded as early as it is certain.

        Raises EncoderBusy while others wait with so much text that this has no room beside it.
        """
        for template in templates:
            template.check_length(self._max_tokens, self._max_token_bytes)
        chars = sum(len(text) for text in _texts(templates))
        if self._waiting_chars and self._waiting_chars + chars > MAX_WAITING_CHARS:
            raise EncoderBusy
        self._waiting_chars += chars
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._encode_all, templates)
        finally:
            self._waiting_chars -= chars

    def close(self) -> None:
        """End the thread once it has done what it is doing."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _encode_all(self, templates: Sequence[TextTemplate]) -> list[Template]:
        """Texts that several templates have are encoded once."""
        encode = cache(partial(self._tokenizer.encode_within, max_tokens=self._max_tokens))
        return [template.encode(encode, self._tokenizer.token_id) for template in templates]


def _texts(templates: Sequence[TextTemplate]) -> set[str]:
    return {piece for each in templates for piece in each.pieces if isinstance(piece, str)}
