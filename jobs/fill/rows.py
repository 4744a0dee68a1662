"""An input row becomes a request, a completion becomes an output row; the one output schema."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Literal, Protocol, TypedDict

import pyarrow as pa

from dream.errors import ContextLengthExceeded, InvalidRequest
from dream.request import Completion, StepEvent
from dream.template import Fixed, Hole, Template
from jobs.fill.config import JobSpec
from jobs.fill.identity import row_seed
from jobs.fill.inputs import ColumnMap

__all__ = ["Cell", "InfilledSpan", "OutputRow", "Prepared", "Text", "commit_steps", "completed"]
__all__ += ["failed", "last_attempt", "output_schema", "output_table", "prepare", "split_masks"]

Status = Literal["ok", "error", "too_long"]
Cell = str | int | float | bool | list["Cell"] | dict[str, "Cell"] | bytes | None
Piece = str | Hole

LONGEST_MESSAGE = 500
"""Characters kept of an error message: it quotes the value, which may be a whole prompt."""

_NAME = pa.dictionary(pa.int32(), pa.string())
_SPANS = pa.list_(pa.struct([("span", pa.string()), ("text", pa.large_string())]))
_RESULT = (
    pa.field("status", _NAME),
    pa.field("error_type", _NAME),
    pa.field("error_message", pa.string()),
    pa.field("output", pa.large_string()),
    pa.field("infilled", _SPANS),
    pa.field("finish_reason", _NAME),
    pa.field("prompt_tokens", pa.int32()),
    pa.field("completion_tokens", pa.int32()),
    pa.field("steps", pa.int32()),
    pa.field("forward_passes", pa.int32()),
    pa.field("token_forwards", pa.int64()),
    pa.field("bit_exact", pa.bool_()),
    pa.field("mean_confidence", pa.float32()),
    pa.field("seed", pa.uint64()),
    pa.field("latency_ms", pa.float32()),
    pa.field("finished_at", pa.timestamp("us", tz="UTC")),
    pa.field("commit_steps", pa.list_(pa.int32())),
)


class Text(Protocol):
    """What rows need of a tokenizer."""

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids."""


class InfilledSpan(TypedDict):
    """One filled hole in the `infilled` column."""

    span: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRow:
    """What became of one input row; null where it failed before that was known."""

    status: Status
    error_type: str | None = None
    error_message: str | None = None
    output: str | None = None
    infilled: list[InfilledSpan] | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    steps: int | None = None
    forward_passes: int | None = None
    token_forwards: int | None = None
    bit_exact: bool | None = None
    mean_confidence: float | None = None
    seed: int | None = None
    latency_ms: float | None = None
    finished_at: datetime | None = None
    commit_steps: list[int | None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A row read: the pieces of its text in order, and how to sample its holes."""

    pieces: tuple[Piece, ...]
    is_infill: bool
    steps: int | None
    seed: int

    def template(self, text: Text, max_tokens: int) -> Template:
        """The pieces as tokens; holes that are too long alone are refused before any encoding."""
        num_masked = sum(piece.num_tokens for piece in self.pieces if isinstance(piece, Hole))
        if num_masked > max_tokens:
            raise ContextLengthExceeded("holes", num_masked, f"at most {max_tokens} tokens in all")
        given = [piece for piece in self.pieces if piece != ""]
        return Template([p if isinstance(p, Hole) else Fixed(text.encode(p)) for p in given])

    def whole(self, spans: Sequence[str]) -> str:
        """The output text: an infilled text whole, a generation without its prompt."""
        filled = iter(spans)
        texts = [next(filled) if isinstance(p, Hole) else p for p in self.pieces]
        return "".join(texts if self.is_infill else spans)


def prepare(
    cells: Mapping[str, Cell], spec: JobSpec, columns: ColumnMap, row_hash: int
) -> Prepared:
    """Read one row; raises `InvalidRequest` that names the column at fault."""
    pieces = tuple(_pieces(cells, spec, columns))
    if not any(isinstance(piece, Hole) for piece in pieces):
        allowed = "at least one hole"
        if columns.form == "text_with_masks":
            allowed += f", a run of {spec.mask_token!r} (--mask-token)"
        raise InvalidRequest(columns.template[0], "".join(map(str, pieces)), allowed)
    seed = _optional_integer("seed", cells.get("seed"))
    return Prepared(
        pieces=pieces,
        is_infill=columns.form != "prompt",
        steps=_optional_integer("steps", cells.get("steps")),
        seed=row_seed(spec.seed, row_hash) if seed is None else seed,
    )


def split_masks(text: str, mask_token: str) -> list[Piece]:
    """Text cut at its mask tokens; a run of k of them is a hole of k tokens."""
    pieces: list[Piece] = []
    for part in re.split(f"((?:{re.escape(mask_token)})+)", text):
        is_masks = part != "" and part.replace(mask_token, "") == ""
        pieces.append(Hole(len(part) // len(mask_token)) if is_masks else part)
    return [piece for piece in pieces if piece != ""]


def completed(
    prepared: Prepared,
    completion: Completion,
    text: Text,
    *,
    mean_confidence: float | None,
    latency_ms: float,
    finished_at: datetime,
    commit_steps: list[int | None] | None = None,
) -> OutputRow:
    """The row of a completion; given text is the row's own, byte for byte."""
    spans = [InfilledSpan(span=s.id, text=text.decode(s.token_ids)) for s in completion.spans]
    usage = completion.usage
    return OutputRow(
        status="ok",
        output=prepared.whole([span["text"] for span in spans]),
        infilled=spans,
        finish_reason=completion.finish_reason,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        steps=usage.steps,
        forward_passes=usage.forward_passes,
        token_forwards=usage.token_forwards,
        bit_exact=usage.bit_exact,
        mean_confidence=mean_confidence,
        seed=prepared.seed,
        latency_ms=latency_ms,
        finished_at=finished_at,
        commit_steps=commit_steps,
    )


def last_attempt(events: Sequence[StepEvent]) -> list[StepEvent]:
    """Events of a request's last attempt: a canvas that grows commits its places anew."""
    last = max((event.attempt for event in events), default=0)
    return [event for event in events if event.attempt == last]


def commit_steps(completion: Completion, events: Sequence[StepEvent]) -> list[int | None]:
    """The step at which each hole token was committed; None where an early exit filled it."""
    steps = {position: event.step for event in events for position in event.positions}
    places = (place for span in completion.spans for place in range(span.start, span.end))
    return [steps.get(place) for place in places]


def failed(error: Exception, given: Mapping[str, int]) -> OutputRow:
    """The row of an error: what kind it was, what it said, and the row's own steps and seed."""
    return OutputRow(
        status="too_long" if isinstance(error, ContextLengthExceeded) else "error",
        error_type=type(error).__name__,
        error_message=str(error)[:LONGEST_MESSAGE],
        steps=given.get("steps"),
        seed=given.get("seed"),
    )


def output_schema(schema: pa.Schema, columns: ColumnMap) -> pa.Schema:
    """The schema of every block and every part, from the schema of the input."""
    kept = [pa.field(name, schema.field(name).type) for name in columns.keep]
    own = [pa.field("dream_id", schema.field(columns.id).type)] if columns.id else []
    place = [
        pa.field("row_hash", pa.uint64()),
        pa.field("src_file", _NAME),
        pa.field("src_row", pa.int64()),
    ]
    return pa.schema([*kept, *own, *place, *_RESULT])


def output_table(
    batch: pa.Table,
    columns: ColumnMap,
    schema: pa.Schema,
    places: Mapping[str, pa.Array],
    rows: Sequence[OutputRow],
) -> pa.Table:
    """The block of `rows`: one for each row of `batch`, in the same order."""
    arrays = {name: batch.column(name) for name in columns.keep}
    if columns.id:
        arrays["dream_id"] = batch.column(columns.id)
    arrays["row_hash"] = batch.column("row_hash")
    arrays.update(places)
    for field in fields(OutputRow):
        values = [getattr(row, field.name) for row in rows]
        arrays[field.name] = pa.array(values, type=schema.field(field.name).type)
    return pa.table([arrays[name] for name in schema.names], names=schema.names).cast(schema)


def _pieces(cells: Mapping[str, Cell], spec: JobSpec, columns: ColumnMap) -> list[Piece]:
    first = columns.template[0]
    if columns.form == "prompt":
        own = _optional_integer("max_new_tokens", cells.get("max_new_tokens"))
        return [_string(first, cells[first]), Hole(spec.max_new_tokens if own is None else own)]
    if columns.form == "text_with_masks":
        return split_masks(_string(first, cells[first]), spec.mask_token)
    if columns.form == "prefix_suffix":
        hole = Hole(_integer("mask_len", cells["mask_len"]))
        return [_string("prefix", cells["prefix"]), hole, _string("suffix", cells["suffix"])]
    segments = cells["segments"]
    if not isinstance(segments, list):
        raise InvalidRequest("segments", segments, "a list of segments")
    return [_segment(index, segment) for index, segment in enumerate(segments)]


def _segment(index: int, segment: Cell) -> Piece:
    name = f"segments[{index}]"
    if not isinstance(segment, dict):
        raise InvalidRequest(name, segment, "a struct with text or hole")
    text, hole, hole_id = segment.get("text"), segment.get("hole"), segment.get("id")
    if (text is None) == (hole is None):
        raise InvalidRequest(name, segment, "either text or hole, and not both")
    if hole is None:
        return _string(f"{name}.text", text)
    own = None if hole_id is None else _string(f"{name}.id", hole_id)
    return Hole(_integer(f"{name}.hole", hole), own)


def _string(field: str, value: Cell) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(field, value, "it must be a string")
    return value


def _integer(field: str, value: Cell) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidRequest(field, value, "an integer")
    return value


def _optional_integer(field: str, value: Cell) -> int | None:
    return None if value is None else _integer(field, value)
