"""Text with holes before it is tokenised: what HTTP bodies, Parquet rows and questions become."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dream.errors import ContextLengthExceeded, InvalidRequest
from dream.template import Fixed, Hole, Template

__all__ = ["Piece", "Special", "TextTemplate"]


@dataclass(frozen=True, slots=True)
class Special:
    """A special token by its name, which no text stands for."""

    name: str


Piece = str | Fixed | Hole | Special


@dataclass(frozen=True, slots=True)
class TextTemplate:
    """Pieces in order: text, token ids (`Fixed`), special tokens, holes with ids and priorities.

    Each piece of text is encoded by itself, so a hole never changes the tokens beside it.
    """

    pieces: Sequence[Piece]

    def __post_init__(self) -> None:
        object.__setattr__(self, "pieces", tuple(piece for piece in self.pieces if piece != ""))

    @classmethod
    def from_masked_text(cls, text: str, mask_token: str) -> TextTemplate:
        """Text cut at its mask tokens; k of them in a row are a hole of k tokens."""
        if not mask_token:
            raise InvalidRequest("mask_token", mask_token, "a non-empty string")
        pieces: list[Piece] = []
        for part in re.split(f"((?:{re.escape(mask_token)})+)", text):
            is_masks = part != "" and part.replace(mask_token, "") == ""
            pieces.append(Hole(len(part) // len(mask_token)) if is_masks else part)
        return cls(pieces)

    @property
    def holes(self) -> tuple[Hole, ...]:
        """The holes in order."""
        return tuple(piece for piece in self.pieces if isinstance(piece, Hole))

    @property
    def num_masked(self) -> int:
        """Tokens of all holes together."""
        return sum(hole.num_tokens for hole in self.holes)

    def check_length(self, max_tokens: int, max_token_bytes: int) -> None:
        """ContextLengthExceeded for text or holes that cannot fit, at the cost of counting bytes.

        max_token_bytes: UTF-8 bytes of the longest token of the vocabulary.
        """
        given = [piece for piece in self.pieces if not isinstance(piece, Hole)]
        least = sum(_fewest_tokens(piece, max_token_bytes) for piece in given)
        for field, num_tokens in (("template", least), ("num_tokens", self.num_masked)):
            if num_tokens > max_tokens:
                allowed = f"at most {max_tokens} tokens, given and to fill together"
                raise ContextLengthExceeded(field, f"at least {num_tokens} tokens", allowed)

    def encode(
        self,
        encode: Callable[[str], Sequence[int]],
        token_id: Callable[[str], int] | None = None,
    ) -> Template:
        """The template in tokens: of text by `encode`, of special tokens by `token_id`."""
        segments: list[Fixed | Hole] = []
        for piece in self.pieces:
            if isinstance(piece, str):
                segments.append(Fixed(encode(piece)))
            elif isinstance(piece, Special):
                assert token_id is not None, "special tokens need their ids"
                segments.append(Fixed([token_id(piece.name)]))
            else:
                segments.append(piece)
        return Template(segments)

    def join(self, filled: Sequence[str]) -> str:
        """The whole text with `filled[i]` in the i-th hole; given text stays as it is."""
        texts = iter(filled)
        parts: list[str] = []
        for piece in self.pieces:
            assert isinstance(piece, str | Hole), "token ids have no text of their own"
            parts.append(next(texts) if isinstance(piece, Hole) else piece)
        return "".join(parts)


def _fewest_tokens(piece: str | Fixed | Special, max_token_bytes: int) -> int:
    """A lower bound of the tokens of what is given.

    Encoding normalises to NFC first, which makes text at most 3.5 times shorter in UTF-8: U+1FBE
    U+0308 U+0301, of seven bytes, becomes U+0390, of two.
    """
    if isinstance(piece, str):
        return -(-2 * len(piece.encode("utf-8", "surrogatepass")) // (7 * max_token_bytes))
    return 1 if isinstance(piece, Special) else len(piece.token_ids)
