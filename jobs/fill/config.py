"""What a job is: the flags and YAML keys of `run`, and the fingerprint that guards a resume."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from jobs.common.fingerprint import Json, differences, digest
from jobs.common.paths import InputPaths
from jobs.common.settings import NEUTRAL as SHARED_NEUTRAL
from jobs.common.settings import ModelSettings, PresetSettings, checked, given_values

__all__ = ["NEUTRAL", "SCHEMA_VERSION", "JobRecord", "JobSpec", "load_spec"]

SCHEMA_VERSION = 3
"""Version of what rows are read as and written as; part of every fingerprint."""

NEUTRAL = SHARED_NEUTRAL | {"input", "on_row_error", "preset"}
"""Fields that change no row; the files of `input` and the values of `preset` count instead."""


class JobSpec(ModelSettings, PresetSettings):
    """One batch job. Every field is a flag of `run` and a key of its YAML file."""

    input: InputPaths
    task: Literal["generate", "infill"]

    prompt_column: str | None = None
    id_column: str | None = None
    keep_columns: list[str] | None = None
    parameter_columns: list[str] | None = None
    max_new_tokens: int = Field(default=128, ge=1)
    mask_token: str = Field(default="<|mask|>", min_length=1)

    record_order: bool = False
    limit: int | None = Field(default=None, ge=1)
    on_row_error: Literal["keep", "fail"] = "keep"

    @field_validator("keep_columns", "parameter_columns", mode="before")
    @classmethod
    def _columns(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return None if value == "*" else [name.strip() for name in value.split(",") if name.strip()]

    @model_validator(mode="after")
    def _sampling_is_valid(self) -> JobSpec:
        self.sampling()
        return self

    def identity(self) -> dict[str, Json]:
        """The fields that decide what the rows become."""
        return self.model_dump(mode="json", exclude=set(NEUTRAL)) | self.resolved()


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


def load_spec(flags: Mapping[str, object], config: Path | None = None) -> JobSpec:
    """The job of a YAML file and the flags given beside it; a flag beats the file."""
    return checked(JobSpec, given_values(flags, config))
