"""What a job is: the flags and YAML keys of `run`, and the fingerprint that guards a resume."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dream.params import Alg, Order, SamplingParams, Window
from jobs.common.errors import Refused
from jobs.common.validation import explained

__all__ = ["SCHEMA_VERSION", "CommitSettings", "JobRecord", "JobSpec", "Json", "ModelSettings"]
__all__ += ["checked", "differences", "digest", "given_values", "load_spec", "odd_letters"]

SCHEMA_VERSION = 3
"""Version of the output columns; part of every fingerprint."""

NEUTRAL = frozenset({"output", "input", "replicas", "granule", "on_row_error"})
"""Fields that change no row; what `input` names is fingerprinted by its files instead."""

Json = str | int | float | bool | list[str] | None
Settings = TypeVar("Settings", bound=BaseModel)


class CommitSettings(BaseModel):
    """Which tokens go where beyond `alg` and `order`, under the names of `SamplingParams`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float | None = None
    low_threshold: float | None = None
    factor: float | None = None
    entropy_bound: float | None = None
    entropy_threshold: float | None = None
    min_commits: int = 1
    max_commits: int | None = None
    block_length: int | None = None
    frontier: int | None = None
    eos_frontier: int | None = None
    eos_annealing: float | None = None
    egi_temperature: float | None = None
    history: int = 0
    history_top: int = 4
    grow_to: int | None = None
    window: Window | None = None
    refresh_every: int | None = None
    vicinity: int = 0
    suffix_window: int | None = None


class ModelSettings(CommitSettings):
    """Where rows go, which model fills them, and how tokens are drawn: what jobs share."""

    output: str = Field(min_length=1)
    model: str = Field(min_length=1)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "cpu"

    alg_temp: float | None = None
    eps: float = 1e-3
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    early_exit: bool = True
    seed: int = Field(default=0, ge=0, lt=2**63)

    replicas: int = Field(default=1, ge=1)
    granule: int = Field(default=128, ge=1)

    @field_validator("output")
    @classmethod
    def _absolute_output(cls, value: str) -> str:
        if odd := odd_letters(_absolute(value)):
            raise ValueError(f"{value}: a path without {odd} is needed")
        return _absolute(value)

    @field_validator("model")
    @classmethod
    def _absolute_model(cls, value: str) -> str:
        return _absolute(value) if value != "embedded" and Path(value).is_dir() else value

    def sampling_by(
        self, alg: Alg, order: Order, *, seed: int | None, steps: int | None
    ) -> SamplingParams:
        """These settings with the algorithm, order, seed and steps of a row."""
        values: dict[str, Any] = {"steps": steps, "alg": alg, "order": order, "seed": seed}
        shared = {field.name for field in fields(SamplingParams)} - set(values)
        return SamplingParams(**values, **{name: getattr(self, name) for name in shared})


class JobSpec(ModelSettings):
    """One batch job. Every field is a flag of `run` and a key of its YAML file."""

    input: list[str] = Field(min_length=1)
    task: Literal["generate", "infill"]

    prompt_column: str | None = None
    id_column: str | None = None
    keep_columns: list[str] | None = None
    max_new_tokens: int = Field(default=128, ge=1)
    mask_token: str = Field(default="<|mask|>", min_length=1)

    steps: int | None = None
    alg: Alg = "entropy"
    order: Order = "confidence"

    record_order: bool = False
    limit: int | None = Field(default=None, ge=1)
    on_row_error: Literal["keep", "fail"] = "keep"

    @field_validator("input", mode="before")
    @classmethod
    def _one_input(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("input")
    @classmethod
    def _absolute_inputs(cls, value: list[str]) -> list[str]:
        return [_absolute(path) for path in value]

    @field_validator("keep_columns", mode="before")
    @classmethod
    def _columns(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return None if value == "*" else [name.strip() for name in value.split(",") if name.strip()]

    @model_validator(mode="after")
    def _sampling_is_valid(self) -> JobSpec:
        self.sampling(seed=None, steps=None)
        return self

    def sampling(self, *, seed: int | None, steps: int | None) -> SamplingParams:
        """Parameters of a row: its own steps, where it has any, beat the job's."""
        wanted = self.steps if steps is None else steps
        return self.sampling_by(self.alg, self.order, seed=seed, steps=wanted)

    def identity(self) -> dict[str, Json]:
        """The fields that decide what the rows become."""
        return dict(self.model_dump(mode="json", exclude=set(NEUTRAL)))


class JobRecord(BaseModel):
    """`_dream/job.json`: written once, before the first row; `resume` follows it to the letter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    job_id: str
    created_at: str
    num_rows: int
    spec: JobSpec
    identity: dict[str, Json]

    @property
    def fingerprint(self) -> str:
        """Digest of everything that decides what the rows become."""
        return digest(self.identity)

    def differences(self, identity: Mapping[str, Json]) -> list[str]:
        """One line for each field whose value is not this job's."""
        return differences(self.identity, identity)


def differences(then: Mapping[str, Json], now: Mapping[str, Json]) -> list[str]:
    """One line for each field that two identities do not share."""
    return [
        f"{name}: {json.dumps(then.get(name))} -> {json.dumps(now.get(name))}"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]


def digest(identity: Mapping[str, Json]) -> str:
    """sha256 of canonical JSON."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def load_spec(flags: Mapping[str, object], config: Path | None = None) -> JobSpec:
    """The job of a YAML file and the flags given beside it; a flag beats the file."""
    return checked(JobSpec, given_values(flags, config))


def given_values(flags: Mapping[str, object], config: Path | None) -> dict[str, object]:
    """What a YAML file and the flags beside it say; a flag beats the file."""
    return (_read_yaml(config) if config else {}) | dict(flags)


def checked(kind: type[Settings], values: Mapping[str, object]) -> Settings:
    """The settings of these values; everything that is wrong with them is named."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        as_flags = issubclass(kind, ModelSettings)
        raise Refused(explained(error, kind, as_flags=as_flags)) from error


def odd_letters(path: str) -> str:
    """Letters of a path that Ray Data reads as parts of a URL, so that it would miss the file."""
    return " ".join(letter for letter in "%#?;" if letter in path)


def _read_yaml(path: Path) -> dict[str, object]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, OverflowError, RecursionError, yaml.YAMLError) as error:
        raise Refused(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(values, dict):
        raise Refused(f"{path}: a mapping of flag names to values is expected")
    return {str(key): value for key, value in values.items()}


def _absolute(path: str) -> str:
    if "://" in path and not path.startswith("file://"):
        raise ValueError(f"{path}: only paths that every node can open are served, not URIs")
    if "\0" in path:
        raise ValueError(f"{path!r}: no path holds a NUL")
    return os.path.abspath(os.path.expanduser(path.removeprefix("file://")))
