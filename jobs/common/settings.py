"""Settings of jobs: a field for each declared option, and what every job over a model shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from dream.engine.config import EngineConfig
from dream.options import options_of
from dream.params import SamplingParams
from dream.presets import find_preset, with_preset
from jobs.common.errors import Refused
from jobs.common.paths import OutputPath, absolute
from jobs.common.validation import explained

__all__ = ["NEUTRAL", "EngineSettings", "ModelSettings", "PresetSettings", "SamplingSettings"]
__all__ += ["Settings", "checked", "given_values"]

Kind = TypeVar("Kind", bound=BaseModel)


class Settings(BaseModel):
    """Values of a command or a file; a name that is not known is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _no_bool_is_a_number(cls, values: object) -> object:
        for name, value in values.items() if isinstance(values, Mapping) else ():
            field = cls.model_fields.get(name)
            if isinstance(value, bool) and field is not None and not _takes_bool(field.annotation):
                raise ValueError(f"{name}={value!r} is not valid: {name} is not a yes or no")
        return values


def _takes_bool(annotation: object) -> bool:
    return bool in (annotation, *get_args(annotation))


def _declared(owner: type) -> type[Settings]:
    """A model with a field for each option; bounds are checked by the owner itself."""
    fields: dict[str, Any] = {
        name: (one.annotation, Field(default=one.default, description=one.help))
        for name, one in options_of(owner).items()
    }
    return create_model(f"{owner.__name__}Fields", __base__=Settings, **fields)


if TYPE_CHECKING:  # a type checker sees no field of a declaration: read them by these methods
    _SamplingFields = Settings
    _EngineFields = Settings
else:
    _SamplingFields = _declared(SamplingParams)
    _EngineFields = _declared(EngineConfig)


class SamplingSettings(_SamplingFields):
    """Every field of `SamplingParams` is a setting."""

    def sampling_values(self) -> dict[str, object]:
        """The settings that are sampling parameters."""
        return {name: getattr(self, name) for name in options_of(SamplingParams)}

    def sampling(self, **own: object) -> SamplingParams:
        """Checked parameters of one request; what it brings of its `own` beats the settings."""
        values: dict[str, Any] = self.sampling_values() | own
        return SamplingParams(**values)


class PresetSettings(SamplingSettings):
    """Sampling settings over those of a preset."""

    preset: str | None = Field(default=None, description="Published defaults: a name, or none")

    @model_validator(mode="before")
    @classmethod
    def _over_the_preset(cls, values: object) -> object:
        named = values.get("preset") if isinstance(values, Mapping) else None
        if not isinstance(values, Mapping) or not isinstance(named, str):
            return values
        return with_preset(find_preset(named), values)


class EngineSettings(_EngineFields):
    """Every field of `EngineConfig` is a setting."""

    def engine(self) -> EngineConfig:
        """Checked settings of an engine."""
        values: dict[str, Any] = {name: getattr(self, name) for name in options_of(EngineConfig)}
        return EngineConfig(**values)

    def resolved(self) -> dict[str, object]:
        """The settings that change tokens, with what was chosen for the device in place of none."""
        engine = self.engine()
        return {name: getattr(engine, name) for name in options_of(EngineConfig).keys() - NEUTRAL}


NEUTRAL = frozenset({"output", "replicas", "commit_rows"}) | {
    name
    for owner in (SamplingParams, EngineConfig)
    for name, one in options_of(owner).items()
    if not one.changes_tokens
}
"""Settings that change no row, so that another value of them makes no other job."""


class ModelSettings(SamplingSettings, EngineSettings):
    """Where rows go, which model fills them, and how: what jobs over a model share."""

    output: OutputPath
    model: str = Field(min_length=1)
    seed: int = 0
    replicas: int = Field(default=1, ge=1)
    commit_rows: int = Field(default=128, ge=1)

    @field_validator("model")
    @classmethod
    def _absolute_model(cls, value: str) -> str:
        return absolute(value) if value != "embedded" and Path(value).is_dir() else value

    @model_validator(mode="after")
    def _engine_is_valid(self) -> ModelSettings:
        self.engine()
        return self

    def engine(self) -> EngineConfig:
        """Settings of a replica's engine; without `threads` it computes on one.

        Ray lends a replica, or each of its ranks, as many CPUs as it has threads, and one if
        nothing is said.
        """
        config = super().engine()
        return config if config.threads else replace(config, threads=1)


def given_values(flags: Mapping[str, object], config: Path | None) -> dict[str, object]:
    """What a YAML file and the flags beside it say; a flag beats the file."""
    return (_read_yaml(config) if config else {}) | dict(flags)


def checked(kind: type[Kind], values: Mapping[str, object]) -> Kind:
    """The settings of these values; everything that is wrong with them is named."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        as_flags = issubclass(kind, ModelSettings)
        raise Refused(explained(error, kind, as_flags=as_flags)) from error


def _read_yaml(path: Path) -> dict[str, object]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, OverflowError, RecursionError, yaml.YAMLError) as error:
        raise Refused(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(values, dict):
        raise Refused(f"{path}: a mapping of flag names to values is expected")
    return {str(key): value for key, value in values.items()}
