"""An input row becomes a request, a completion becomes an output row; the one output schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Literal, Protocol, TypedDict

import pyarrow as pa

from dream.errors import ContextLengthExceeded, InvalidRequest
from dream.params import SamplingParams
from dream.request import Completion, StepEvent
from dream.template import Hole
from dream.text import Piece, TextTemplate
from jobs.fill.columns import LENGTH, SEGMENT_KEYS, ColumnMap
from jobs.fill.config import JobSpec
from jobs.fill.identity import row_seed

__all__ = ["Cell", "InfilledSpan", "OutputRow", "Prepared", "Text", "commit_steps", "completed"]
__all__ += ["failed", "last_attempt", "output_schema", "output_table", "prepare"]

Status = Literal["ok", "error", "too_long"]
Cell = str | int | float | bool | list["Cell"] | dict[str, "Cell"] | bytes | None

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

    @property
    def max_token_bytes(self) -> int:
        """UTF-8 bytes of the longest token."""

    def encode_within(self, text: str, max_tokens: int) -> list[int]:
        """Token ids of plain text; ContextLengthExceeded once there are more than `max_tokens`."""

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
    """A row read: its text with holes, and how to sample them."""

    text: TextTemplate
    is_infill: bool
    params: SamplingParams

    def output(self, spans: Sequence[str]) -> str:
        """The output text: an infilled text whole, a generation without its prompt."""
        return self.text.join(spans) if self.is_infill else "".join(spans)


def prepare(
    cells: Mapping[str, Cell], spec: JobSpec, columns: ColumnMap, row_hash: int
) -> Prepared:
    """Read one row; raises `InvalidRequest` that names the column at fault."""
    text = _text(cells, spec, columns)
    if not text.holes:
        allowed = "at least one hole"
        if columns.layout == "text_with_masks":
            allowed += f", which is {spec.mask_token!r} once or more (--mask-token)"
        raise InvalidRequest(columns.template[0], text.join([]), allowed)
    given = {name: cells.get(name) for name in columns.sampling}
    own = {name: value for name, value in given.items() if value is not None}
    return Prepared(
        text=text,
        is_infill=columns.layout != "prompt",
        params=spec.sampling(**{"seed": row_seed(spec.seed, row_hash)} | own),
    )


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
        output=prepared.output([span["text"] for span in spans]),
        infilled=spans,
        finish_reason=completion.finish_reason,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        steps=usage.steps,
        forward_passes=usage.forward_passes,
        token_forwards=usage.token_forwards,
        bit_exact=usage.bit_exact,
        mean_confidence=mean_confidence,
        seed=prepared.params.seed,
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


def _text(cells: Mapping[str, Cell], spec: JobSpec, columns: ColumnMap) -> TextTemplate:
    first = columns.template[0]
    if columns.layout == "prompt":
        own = cells.get(LENGTH) if LENGTH in columns.parameters else None
        num_tokens = spec.max_new_tokens if own is None else _integer(LENGTH, own)
        return TextTemplate([_string(first, cells[first]), Hole(num_tokens)])
    if columns.layout == "text_with_masks":
        return TextTemplate.from_masked_text(_string(first, cells[first]), spec.mask_token)
    if columns.layout == "prefix_suffix":
        hole = Hole(_integer("mask_len", cells["mask_len"]))
        texts = _string("prefix", cells["prefix"]), _string("suffix", cells["suffix"])
        return TextTemplate([texts[0], hole, texts[1]])
    segments = cells["segments"]
    if not isinstance(segments, list):
        raise InvalidRequest("segments", segments, "a list of segments")
    return TextTemplate([_segment(index, segment) for index, segment in enumerate(segments)])


def _segment(index: int, segment: Cell) -> Piece:
    name = f"segments[{index}]"
    if not isinstance(segment, dict):
        raise InvalidRequest(name, segment, "a struct with text or hole")
    text, hole, hole_id, priority = (segment.get(key) for key in SEGMENT_KEYS)
    if (text is None) == (hole is None):
        raise InvalidRequest(name, segment, "either text or hole, and not both")
    if hole is None:
        if hole_id is not None or priority:
            raise InvalidRequest(name, segment, "id and priority beside a hole only")
        return _string(f"{name}.text", text)
    own = None if hole_id is None else _string(f"{name}.id", hole_id)
    order = 0 if priority is None else _integer(f"{name}.priority", priority)
    return Hole(_integer(f"{name}.hole", hole), own, order)


def _string(field: str, value: Cell) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(field, value, "it must be a string")
    return value


def _integer(field: str, value: Cell) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidRequest(field, value, "an integer")
    return value
