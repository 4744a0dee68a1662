"""What an evaluation is: the flags and YAML keys of `evaluate`, and the jobs it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dream.params import MAX_STEPS, Alg, Order, SamplingParams
from jobs.common.errors import Refused
from jobs.common.fingerprint import Json
from jobs.common.settings import NEUTRAL as SHARED_NEUTRAL
from jobs.common.settings import ModelSettings, checked, given_values
from jobs.evaluate.presets import find_preset, over_preset
from jobs.evaluate.suite_options import Draw, PromptStyle, Split, SuiteOptions, Task
from jobs.evaluate.suites import SUITES
from jobs.fill.config import JobSpec

__all__ = ["KEPT", "EvalFolder", "EvalRecord", "EvalSpec", "Steps", "Variant", "load_eval_spec"]

Value = TypeVar("Value")
Steps = int | Literal["full"]
"""Denoising steps; `full` is one for each masked token of a row."""

KEPT = ["suite", "question", "steps_asked", "bucket", "input", "reference"]
"""Columns of the questions that come back with their answers."""

NEUTRAL = SHARED_NEUTRAL | {"data", "prompt_template"}
"""Settings that change no answer; what files hold counts by the questions made of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to fill the questions: a job of its own."""

    alg: Alg
    order: Order

    @property
    def name(self) -> str:
        """Name of its folder, and of its entries in the results."""
        return f"{self.alg}-{self.order}"

    @property
    def title(self) -> str:
        """Its name in a table or a plot."""
        return f"{self.alg}, {self.order}"


class EvalSpec(ModelSettings):
    """One evaluation: suites, each at every steps count, by every algorithm and order."""

    suite: list[str] = Field(min_length=1)
    steps: list[Steps] = Field(default=["full"], min_length=1)
    alg: list[Alg] = Field(default=["entropy"], min_length=1)
    order: list[Order] = Field(default=["confidence"], min_length=1)

    preset: str | None = None
    num: int | None = Field(default=None, ge=1)
    givens: list[int] | None = None
    prompt_style: PromptStyle | None = None
    draw: Draw | None = None
    split: Split | None = None
    slack: int | None = Field(default=None, ge=0)
    shots: int | None = Field(default=None, ge=0)
    prompt_template: str | None = None
    max_new_tokens: int | None = Field(default=None, ge=1)
    data: str | None = None
    task: Task | None = None
    prompt_column: str | None = None
    mask_token: str | None = None
    reference_column: str | None = None
    bucket_column: str | None = None
    scorer: str | None = None

    @field_validator("suite", "steps", "alg", "order", "givens", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        """Every value of `a,b|c`, of a list of such, or of a single number."""
        values = value if isinstance(value, list | tuple) else [value]
        return None if value is None else [part for one in values for part in _parts(one)]

    @field_validator("suite", "steps", "alg", "order", "givens")
    @classmethod
    def _each_once(cls, value: list[Value] | None) -> list[Value] | None:
        return None if value is None else list(dict.fromkeys(value))

    @field_validator("steps")
    @classmethod
    def _steps_in_range(cls, value: list[Steps]) -> list[Steps]:
        for steps in value:
            if steps != "full" and not 1 <= steps <= MAX_STEPS:
                raise ValueError(f"{steps} is not valid: full, or integers 1..{MAX_STEPS}")
        return value

    @model_validator(mode="after")
    def _preset_is_for_the_suites(self) -> EvalSpec:
        preset = find_preset(self.preset)
        other = [] if preset is None else [n for n in self.suite if n not in preset.suites]
        if preset is not None and other:
            known = ", ".join(preset.suites)
            raise ValueError(
                f"preset={self.preset!r} is not valid: it is for {known}, not {other[0]}"
            )
        return self

    @model_validator(mode="after")
    def _sampling_is_valid(self) -> EvalSpec:
        for alg in self.alg:
            if alg == "origin" and "confidence" not in self.order:
                raise ValueError("alg 'origin' has no order: it runs with --order confidence")
        for variant in self.variants:
            self.sampling_of(variant)
        return self

    @property
    def variants(self) -> list[Variant]:
        """Every algorithm by every order; `origin`, which has no order, once."""
        pairs = [(alg, order) for alg in self.alg for order in self.order]
        return [
            Variant(alg=alg, order=order)
            for alg, order in pairs
            if alg != "origin" or order == "confidence"
        ]

    def sampling_of(self, variant: Variant) -> SamplingParams:
        """How a variant fills every question; each row brings its own steps and seed."""
        return self.sampling(alg=variant.alg, order=variant.order, steps=None)

    def is_drawn(self, variant: Variant) -> bool:
        """Whether answers of this variant depend on the seed of the row."""
        return self.sampling_of(variant).is_drawn

    def options(self) -> SuiteOptions:
        """How the suites are made; a file's rows have no seed, but their noise has."""
        is_drawn = any("seed" in SUITES[name].reads for name in self.suite if name in SUITES)
        values = {field.name: getattr(self, field.name) for field in fields(SuiteOptions)}
        values["seed"] = self.seed if is_drawn else 0
        values["givens"] = None if self.givens is None else tuple(self.givens)
        return SuiteOptions(**values)

    def job(self, variant: Variant) -> JobSpec:
        """The job that fills every question by this algorithm and order."""
        folder = EvalFolder(Path(self.output))
        shared = self.model_dump(include=set(ModelSettings.model_fields) - {"output"})
        shared |= {"steps": None, "alg": variant.alg, "order": variant.order}
        return JobSpec(
            input=[str(folder.input)],
            output=str(folder.job(variant)),
            task="infill",
            keep_columns=KEPT,
            record_order=True,
            **shared,
        )

    def identity(self) -> dict[str, Json]:
        """The settings that decide what is asked and how it is answered."""
        values = self.model_dump(mode="json", exclude=set(NEUTRAL)) | self.resolved()
        return {
            name: [str(one) for one in value] if isinstance(value, list) else value
            for name, value in values.items()
        }


def load_eval_spec(flags: Mapping[str, object], config: Path | None = None) -> EvalSpec:
    """The evaluation of a preset, a YAML file and flags; the later of them beats the earlier."""
    return checked(EvalSpec, over_preset(given_values(flags, config)))


class EvalRecord(BaseModel):
    """`_eval/evaluate.json`: what the evaluation was begun as, and where."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    created_at: float
    spec: EvalSpec
    identity: dict[str, Json]
    environment: dict[str, str | None]


@dataclass(frozen=True, slots=True)
class EvalFolder:
    """Where everything of an evaluation lies; `out` is what `--output` names."""

    out: Path

    @property
    def meta(self) -> Path:
        """What is not a result."""
        return self.out / "_eval"

    @property
    def lock(self) -> Path:
        """Who is beginning."""
        return self.meta / "lock.json"

    @property
    def record(self) -> Path:
        """What the evaluation was begun as."""
        return self.meta / "evaluate.json"

    @property
    def input(self) -> Path:
        """The questions, one file for each suite."""
        return self.meta / "input"

    @property
    def results(self) -> Path:
        """The scores."""
        return self.out / "results.json"

    def job(self, variant: Variant) -> Path:
        """The job of one algorithm and order."""
        return self.out / "variants" / variant.name

    def samples(self, variant: Variant) -> Path:
        """Every answer of one algorithm and order, scored."""
        return self.out / "samples" / f"{variant.name}.parquet"

    def plot(self, name: str, kind: str) -> Path:
        """A plot by its name, as `png` or `svg`."""
        return self.out / "plots" / f"{name}.{kind}"

    def read_record(self) -> EvalRecord:
        """The evaluation as it was begun."""
        try:
            return EvalRecord.model_validate_json(self.record.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValidationError) as error:
            raise Refused(f"{self.record} is not readable: {error}") from error


def _parts(value: object) -> list[object]:
    if not isinstance(value, str):
        return [value]
    return [part.strip() for part in value.replace("|", ",").split(",") if part.strip()]
