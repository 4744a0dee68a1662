"""Text to ids and back, through transformers' Qwen2 tokenizer; given text is never markup."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from transformers import Qwen2Tokenizer

from dream.chat import Turn, chat_pieces
from dream.errors import CheckpointError, ContextLengthExceeded
from dream.template import Fixed
from dream.text import TextTemplate

__all__ = ["LENGTH_TOKENS", "TOKENIZER_FILES", "Tokenizer", "write_byte_tokenizer"]

TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json")
"""Files of a Qwen2 tokenizer in a checkpoint folder; `tokenizer.json` replaces the first two."""

END_TOKENS = ("<|dlm_pad|>",)
"""Tokens that end a text as an EOS of the config does: DiffuCoder Instruct pads answers with it."""

LENGTH_TOKENS = ("<|expand|>", "<|delete|>")
"""DreamOn's tokens that make a hole longer or shorter."""

CHARS_AT_ONCE = 16_384
"""Characters of a long text that are encoded before its tokens are counted."""

CUT = re.compile(r"(?<=\S)(?= )|(?<=\n)(?=\S)")
"""Between a word and a space, and between a line break and a word."""


class Tokenizer:
    """A checkpoint's tokenizer.

    Text is encoded with special tokens off: `<|mask|>` in a prompt is eight plain characters
    and never opens a hole or a turn. Encoding normalises to NFC, as Qwen2's tokenizer does.
    """

    def __init__(self, backend: Qwen2Tokenizer) -> None:
        self._backend = backend
        self.bos_token_id: int | None = backend.bos_token_id

    @classmethod
    def from_folder(cls, folder: Path) -> Tokenizer | None:
        """The tokenizer of a checkpoint folder; None where it has no tokenizer files."""
        if not (folder / "vocab.json").is_file() and not (folder / "tokenizer.json").is_file():
            return None
        _check_json_objects(folder)
        try:
            backend = Qwen2Tokenizer.from_pretrained(folder, split_special_tokens=True)
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"{folder}: tokenizer files are not readable: {error}") from error
        return cls(backend)

    def __len__(self) -> int:
        """Number of ids that have a token: the highest one plus 1."""
        highest: int = max(self._backend.get_vocab().values())
        return highest + 1

    @cached_property
    def max_token_bytes(self) -> int:
        """UTF-8 bytes of the longest token; a letter of a byte-level vocabulary is one byte."""
        added = self.special_tokens
        return max(len(t.encode() if t in added else t) for t in self._backend.get_vocab())

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """Ids of the tokens that were added to the vocabulary, by their names."""
        return dict(self._backend.get_added_vocab())

    @property
    def end_token_ids(self) -> frozenset[int]:
        """Ids that end a text, beside those of the config."""
        return frozenset(self.special_tokens[t] for t in END_TOKENS if t in self.special_tokens)

    @property
    def length_tokens(self) -> dict[int, str]:
        """The tokens that would change the length of a hole, by their ids."""
        return {self.special_tokens[t]: t for t in LENGTH_TOKENS if t in self.special_tokens}

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text."""
        return list(self._backend.encode(text, add_special_tokens=False))

    def encode_within(self, text: str, max_tokens: int) -> list[int]:
        """Token ids of plain text; ContextLengthExceeded once there are more than `max_tokens`.

        Long text is encoded piece by piece, so that what is too long is refused early. The pieces
        end where no token of Qwen2's tokenizer crosses: before a space and after a line break.
        """
        ids: list[int] = []
        start = 0
        while start < len(text):
            end = _next_cut(text, start + CHARS_AT_ONCE)
            ids += self.encode(text[start:end])
            if len(ids) > max_tokens:
                allowed = f"at most {max_tokens} tokens, given and to fill together"
                raise ContextLengthExceeded("template", f"over {max_tokens} tokens", allowed)
            start = end
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of the ids, special tokens left out; broken UTF-8 becomes U+FFFD."""
        return str(self._backend.decode(list(token_ids), skip_special_tokens=True))

    def token_bytes(self, token_id: int) -> bytes:
        """What a token stands for: a part of a character, whole text, or a special token's name."""
        token = self._backend.convert_ids_to_tokens(token_id)
        if token is None:
            return b""
        if token in self.special_tokens or not BYTE_OF.keys() >= set(token):
            return bytes(token, "utf-8")
        return bytes(BYTE_OF[symbol] for symbol in token)

    def token_id(self, token: str) -> int:
        """Id of a special token by its name."""
        return int(self._backend.convert_tokens_to_ids(token))

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Ids of a chat up to where the assistant's answer begins: see `dream.chat`."""
        turns = [Turn(message["role"], message["content"]) for message in messages]
        template = TextTemplate(chat_pieces(turns)).encode(self.encode, self.token_id)
        return [t for each in template.segments if isinstance(each, Fixed) for t in each.token_ids]


def _next_cut(text: str, start: int) -> int:
    """The first place from `start` on where text may be cut without changing its tokens."""
    found = CUT.search(text, start) if start < len(text) else None
    return len(text) if found is None else found.start()


def _check_json_objects(folder: Path) -> None:
    for name in ("vocab.json", "tokenizer.json", "tokenizer_config.json"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError(f"{path}: not readable as JSON: {error}") from error
        if not isinstance(values, dict) or not values:
            raise CheckpointError(f"{path}: not a JSON object with something in it")


def write_byte_tokenizer(folder: Path) -> dict[str, int]:
    """Write a byte-level tokenizer in the official layout; returns the ids of its special tokens.

    256 byte tokens, no merges, and Dream's special tokens after them.
    """
    vocab = {symbol: index for index, symbol in enumerate(_byte_symbols())}
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|beginoftext|>", "<|mask|>"]
    ids = {token: len(vocab) + index for index, token in enumerate(special)}
    added = {
        str(index): {"content": token, "special": True, "normalized": False}
        | {"lstrip": False, "rstrip": False, "single_word": False}
        for token, index in ids.items()
    }
    config = {
        "added_tokens_decoder": added,
        "bos_token": "<|beginoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "mask_token": "<|mask|>",
        "clean_up_tokenization_spaces": False,
        "tokenizer_class": "DreamTokenizer",
    }
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    return ids


def _byte_symbols() -> list[str]:
    """The printable stand-ins of GPT-2's byte-level BPE, in byte order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = {byte: chr(byte) for byte in printable}
    for index, byte in enumerate(byte for byte in range(256) if byte not in symbols):
        symbols[byte] = chr(256 + index)
    return [symbols[byte] for byte in range(256)]


BYTE_OF = {symbol: byte for byte, symbol in enumerate(_byte_symbols())}
"""The bytes that the letters of a byte-level vocabulary stand for."""
