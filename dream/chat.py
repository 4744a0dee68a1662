"""Chats in the published chat template (Qwen2.5's), as pieces of a template and never as markup.

`tokenizer_config.json` of Dream-v0-Instruct-7B has it as a Jinja template; here it is code, so that
no request is ever run as a template.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dream.errors import InvalidRequest
from dream.text import Piece, Special

__all__ = ["DEFAULT_SYSTEM", "ROLES", "TURN_END", "TURN_START", "Turn", "chat_pieces"]

ROLES = ("system", "user", "assistant")
DEFAULT_SYSTEM = "You are a helpful assistant."
"""System turn of the template when a chat brings none."""

TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
"""Special tokens around a turn; the second ends an answer too, as Dream's EOS is another token."""


class Turn(NamedTuple):
    """What somebody said; `role` is one of ROLES."""

    role: str
    content: str


def chat_pieces(turns: Sequence[Turn], *, is_open: bool = False) -> list[Piece]:
    """A chat up to where the assistant's answer begins, or goes on after its last turn (`is_open`).

    InvalidRequest names the place of an unknown role, and of a last turn that cannot go on.
    """
    for index, turn in enumerate(turns):
        if turn.role not in ROLES:
            allowed = "one of " + ", ".join(ROLES)
            raise InvalidRequest(f"messages[{index}].role", turn.role, allowed)
    if is_open and (not turns or turns[-1].role != "assistant"):
        raise InvalidRequest(f"messages[{len(turns) - 1}].role", "", "assistant, to be continued")
    if not turns or turns[0].role != "system":
        turns = [Turn("system", DEFAULT_SYSTEM), *turns]
    pieces: list[Piece] = []
    for role, content in turns:
        pieces += [Special(TURN_START), f"{role}\n{content}", Special(TURN_END), "\n"]
    if is_open:
        return pieces[:-2]
    return [*pieces, Special(TURN_START), "assistant\n"]
