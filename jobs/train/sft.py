"""Parquet rows as training rows: token ids, and from which token on they may be masked.

Three layouts of rows, told by their columns:
- `messages`, a list of {role, content}: Dream's chat template; only the answer of the last turn,
  which is the assistant's, may be masked, its end of turn `<|im_end|>` included.
- `prompt` and `response`: the two texts, encoded one by one; only the response may be masked.
- `text`: every token may be masked.

A row ends with one end-of-text token (EOS), which is masked and scored like any other: it is how
the model says where an answer stops. With `eos_slack` k, up to k more follow, as many for every
row of a batch; they may be masked too, and weigh `tail_weight` of the first. No row is padded:
rows are packed one behind the other, and attention stays inside each.

Letter: L tokens of a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from dream.errors import InvalidRequest
from dream.model.tokenizer import Tokenizer
from jobs.common.errors import Refused
from jobs.train.corpus import NoisyRow
from jobs.train.objective import TimeWeight, draw_mask, token_weights

__all__ = ["COLUMNS", "EncodedRow", "RowLayout", "encode", "layout_of", "noisy_row"]

RowLayout = Literal["messages", "response", "text"]

COLUMNS: dict[RowLayout, tuple[str, ...]] = {
    "messages": ("messages",),
    "response": ("prompt", "response"),
    "text": ("text",),
}
"""The columns of each layout of rows."""


class EncodedRow(NamedTuple):
    """Token ids with their one EOS, and the place of the first that may be masked."""

    token_ids: list[int]
    first: int


def layout_of(wanted: RowLayout | None, names: Sequence[str]) -> RowLayout:
    """The layout the columns make, or the one of them that is wanted; Refused where none fits."""
    found = [layout for layout, columns in COLUMNS.items() if set(columns) <= set(names)]
    if wanted in found:
        return wanted
    if wanted is not None:
        raise Refused(f"rows={wanted!r} needs columns {', '.join(COLUMNS[wanted])}, not {names}")
    if len(found) != 1:
        allowed = " or ".join(f"{layout} ({', '.join(c)})" for layout, c in COLUMNS.items())
        raise Refused(
            f"columns {', '.join(names)} make {found or 'no layout'}: set rows: {allowed}"
        )
    return found[0]


def encode(
    tokenizer: Tokenizer, layout: RowLayout, row: Mapping[str, object], eos: int
) -> EncodedRow:
    """The ids of a row, its EOS included; InvalidRequest names the column that is wrong."""
    if layout == "messages":
        prompt, answer = _encode_chat(tokenizer, row["messages"])
    elif layout == "response":
        prompt = tokenizer.encode(_text(row, "prompt"))
        answer = tokenizer.encode(_text(row, "response"))
    else:
        prompt, answer = [], tokenizer.encode(_text(row, "text"))
    return EncodedRow([*prompt, *answer, eos], len(prompt))


def noisy_row(
    rng: np.random.Generator,
    row: EncodedRow,
    *,
    slack: int,
    tail_weight: float,
    time_weight: TimeWeight,
    cart_p: float,
) -> NoisyRow:
    """The row with `slack` more EOS at its end and fresh noise; no token before `first` masked."""
    token_ids_L = np.array([*row.token_ids, *row.token_ids[-1:] * slack], np.int64)
    place_L = np.arange(len(token_ids_L))
    is_masked_L, t = draw_mask(rng, place_L >= row.first)
    weights_L = token_weights(time_weight, is_masked_L, t, cart_p=cart_p)
    is_tail_L = place_L >= len(row.token_ids)
    weights_L = np.where(is_tail_L, np.float32(tail_weight) * weights_L, weights_L)
    return NoisyRow(token_ids=token_ids_L, is_masked=is_masked_L, weights=weights_L)


def _encode_chat(tokenizer: Tokenizer, messages: object) -> tuple[list[int], list[int]]:
    turns = _turns(messages)
    if not turns or turns[-1]["role"] != "assistant":
        raise InvalidRequest("messages", turns[-1:], "a last turn of the assistant's")
    answer = [*tokenizer.encode(turns[-1]["content"]), tokenizer.token_id("<|im_end|>")]
    return tokenizer.encode_chat(turns[:-1]), answer


def _turns(messages: object) -> list[dict[str, str]]:
    if not isinstance(messages, list):
        raise InvalidRequest("messages", messages, "a list of {role, content}")
    turns: list[dict[str, str]] = []
    for turn in messages:
        about = turn if isinstance(turn, Mapping) else {}
        role, content = about.get("role"), about.get("content")
        if not isinstance(role, str) or not isinstance(content, str):
            raise InvalidRequest("messages", turn, "turns with a role and a content, both text")
        turns.append({"role": role, "content": content})
    return turns


def _text(row: Mapping[str, object], column: str) -> str:
    value = row[column]
    if not isinstance(value, str):
        raise InvalidRequest(column, value, "text")
    return value
