"""Options of the evaluation harness's adapter: `--model_args` and a task's `generation_kwargs`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator

from dream import Engine, SamplingParams
from dream.errors import InvalidRequest
from dream.likelihood import LikelihoodParams
from jobs.common.settings import EngineSettings, PresetSettings, SamplingSettings
from jobs.common.validation import wrongs

__all__ = ["GenerationArgs", "ModelArgs", "checked"]

Options = TypeVar("Options", bound=BaseModel)


class ModelArgs(PresetSettings, EngineSettings):
    """`--model_args`: the engine, the defaults of sampling, and the likelihood estimate.

    pretrained: "embedded", a checkpoint folder or a Hub id. mc_num, mc_batch_size, mc_eps: see
    `LikelihoodParams`. greedy: whether `is_greedy` is worked out; else it is reported as False.
    """

    pretrained: str = Field(min_length=1)
    seed: int = 0
    add_bos_token: bool = False
    mc_num: int = 128
    mc_batch_size: int | None = None
    mc_eps: float = 1e-3
    greedy: bool = True

    def load(self) -> Engine:
        """A new engine; an option that is wrong is refused before weights are read."""
        self.sampling()
        self.likelihood(self.seed)
        return Engine.from_pretrained(self.pretrained, self.engine())

    def likelihood(self, seed: int) -> LikelihoodParams:
        """Checked parameters of one estimate."""
        return LikelihoodParams(
            mc_num=self.mc_num, batch_size=self.mc_batch_size, eps=self.mc_eps, seed=seed
        )


class GenerationArgs(SamplingSettings):
    """A task's `generation_kwargs`, over the sampling of `model_args`.

    max_gen_toks: tokens of the hole to fill. until: texts that end the answer. do_sample: False
    takes the most probable tokens whatever the temperature, as everywhere in the harness.
    """

    max_gen_toks: int = Field(default=256, ge=1)
    until: list[str] = Field(default_factory=list)
    do_sample: bool | None = None
    num_beams: Literal[1] = 1

    @field_validator("until", mode="before")
    @classmethod
    def _texts(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value or []

    def of_request(self) -> SamplingParams:
        """Checked parameters of one request."""
        temperature = self.sampling_values()["temperature"]
        if self.do_sample and not temperature:
            raise InvalidRequest("temperature", temperature, "above 0, as do_sample is True")
        if self.do_sample is False and temperature:
            message = f"temperature={temperature} is not used: do_sample is False"
            warnings.warn(message, UserWarning, stacklevel=2)
            temperature = 0.0
        return self.sampling(temperature=temperature)


def checked(options: type[Options], values: Mapping[str, object]) -> Options:
    """The options, or InvalidRequest for the first that is wrong."""
    try:
        return options.model_validate(dict(values))
    except ValidationError as error:
        wrong = wrongs(error)[0]
        allowed = wrong.allowed
        if wrong.kind == "extra_forbidden":
            allowed = "no such option; there are " + ", ".join(sorted(options.model_fields))
        value = None if wrong.kind == "missing" else wrong.value
        raise InvalidRequest(wrong.field, value, allowed) from error
