"""What a training run is: the keys of its YAML file, and the fingerprint that guards a resume."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from jobs.common.errors import Refused
from jobs.common.fingerprint import Json
from jobs.common.paths import InputPaths, OutputPath
from jobs.common.settings import checked, given_values
from jobs.train.corpus import TAIL_WEIGHT, TASK_VARIANTS, first_size, shares
from jobs.train.objective import TimeWeight

__all__ = ["QWEN2", "RECIPES", "TrainSpec", "load_train_spec"]

RECIPES = Path(__file__).parent / "recipes"
"""Runs that ship with the package; `--config embedded` is `recipes/embedded.yaml`."""

QWEN2 = "qwen2 "
"""What `from` begins with where the weights are Qwen2.5's; the folder follows."""

SHAPE = ("hidden_size", "num_attention_heads", "num_key_value_heads")
SIZES = (*SHAPE, "num_hidden_layers", "intermediate_size")
ONLY_FRESH = (*SIZES, "vocab_size", "max_position_embeddings")
ONLY_PARQUET = ("epochs", "rows", "max_length", "on_long", "group_batches", "eos_slack")

NEUTRAL = frozenset({"output", "cpus_per_worker", "threads", "checkpoint_every", "log_every"})
NEUTRAL |= {"max_failures", "num_workers", "compile"}
"""Fields that change no row and no formula; more workers or compiled blocks round differently."""


class TrainSpec(BaseModel):
    """One training run; every field is a key of its YAML file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    output: OutputPath
    from_: str | None = Field(default=None, alias="from")
    mask_token_id: int | None = Field(default=None, ge=0)

    mix: dict[str, float] | None = Field(default=None, min_length=1)
    parquet: InputPaths | None = None
    rows: Literal["messages", "response", "text"] | None = None
    max_length: int = Field(default=2048, ge=2)
    on_long: Literal["error", "drop"] = "error"
    group_batches: int = Field(default=50, ge=1)
    eos_slack: int = Field(default=0, ge=0)
    tail_weight: float = Field(default=TAIL_WEIGHT, ge=0)

    updates: int | None = Field(default=None, ge=1)
    epochs: float | None = Field(default=None, gt=0)
    batch_size: int = Field(ge=1)
    seed: int = Field(default=0, ge=0, lt=2**63)

    time_weight: TimeWeight | None = None
    cart_p: float = Field(default=0.3, gt=0, le=1)
    focal_gamma: float | None = Field(default=None, ge=0)
    focal_alpha: float = Field(default=0.25, gt=0)

    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = Field(gt=0)
    least_rate: float = Field(default=0.01, ge=0, le=1)
    warmup: int = Field(default=0, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    momentum: float = Field(default=0.95, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0)
    clip: float = Field(default=1.0, gt=0)
    ema: float | None = Field(default=None, ge=0, lt=1)

    hidden_size: int | None = Field(default=None, ge=2)
    num_hidden_layers: int | None = Field(default=None, ge=1)
    num_attention_heads: int | None = Field(default=None, ge=1)
    num_key_value_heads: int | None = Field(default=None, ge=1)
    intermediate_size: int | None = Field(default=None, ge=1)
    vocab_size: int = Field(default=272, ge=261)
    max_position_embeddings: int = Field(default=512, ge=2)

    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    parallel: Literal["ddp", "fsdp"] = "ddp"
    num_workers: int = Field(default=1, ge=1)
    cpus_per_worker: int = Field(default=1, ge=1)
    threads: int = Field(default=1, ge=1)
    accumulate: int = Field(default=1, ge=1)
    recompute: bool = False
    compile: bool = False
    checkpoint_every: int = Field(default=500, ge=1)
    log_every: int = Field(default=10, ge=1)
    max_failures: int = Field(default=2, ge=0)

    @field_validator("from_")
    @classmethod
    def _absolute_from(cls, value: str | None) -> str | None:
        if value is None:
            return None
        kind = QWEN2 if value.startswith(QWEN2) else ""
        place = os.path.expanduser(value[len(kind) :].strip())
        if not place or value == QWEN2.strip():
            raise ValueError(f"{value!r} is not valid: PATH of a Dream checkpoint, or qwen2 PATH")
        return kind + (os.path.abspath(place) if Path(place).is_dir() else place)

    @field_validator("mix")
    @classmethod
    def _known_variants(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        for name, share in (value or {}).items():
            if name not in TASK_VARIANTS:
                raise ValueError(f"{name!r} is not valid: shares of {', '.join(TASK_VARIANTS)}")
            if share <= 0:
                raise ValueError(f"{name}={share} is not valid: a share above 0")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> TrainSpec:
        problems = (self._data_problem, self._unused_problem, self._model_problem)
        for find in (*problems, self._rows_problem):
            if problem := find():
                raise ValueError(problem)
        if self.optimizer == "muon" and self.parallel == "fsdp":
            raise ValueError("optimizer='muon' is not valid: it needs whole matrices, so ddp")
        return self

    def _data_problem(self) -> str | None:
        if (self.mix is None) == (self.parquet is None):
            return "mix and parquet: exactly one of them says what is trained on"
        if (self.updates is None) == (self.epochs is None):
            return "updates and epochs: exactly one of them says for how long"
        if self.parquet is not None and self.eos_slack >= self.max_length - 1:
            return (
                f"eos_slack={self.eos_slack} is not valid: below {self.max_length - 1}, as of "
                f"max_length={self.max_length} a token and its EOS need two"
            )
        return None

    def _unused_problem(self) -> str | None:
        """A setting that nothing would read."""
        for need in NEEDS:
            for name in need.options:
                value = getattr(self, name)
                if value != type(self).model_fields[name].default and not need.is_met(self):
                    return f"{name}={value!r} is not valid: it needs {need.what}"
        return None

    def _model_problem(self) -> str | None:
        if self.from_ is not None:
            return None
        if missing := [name for name in SIZES if getattr(self, name) is None]:
            return (
                f"{', '.join(missing)}: required for a fresh model; --from PATH continues another"
            )
        return _shape_problem(*(getattr(self, name) for name in SHAPE))

    def _rows_problem(self) -> str | None:
        """Every worker needs a row in every micro-batch, or the sums wait for one another."""
        counts = shares(self.mix, self.batch_size) if self.mix else {"parquet": self.batch_size}
        for name, count in counts.items():
            if self.mix and not count:
                size = first_size(self.mix, name, self.batch_size)
                return (
                    f"batch_size={self.batch_size} is not valid: {name} of mix gets no row of it; "
                    f"batch_size={size} gives it one"
                )
        fewest = sum(count // self.num_workers for count in counts.values())
        if fewest < self.accumulate:
            return (
                f"batch_size={self.batch_size} is not valid: at least a row for each of "
                f"num_workers={self.num_workers} x accumulate={self.accumulate}"
            )
        return None

    @property
    def time_weights(self) -> set[TimeWeight]:
        """The weights of masked tokens that its rows have."""
        if self.time_weight is not None:
            return {self.time_weight}
        return {TASK_VARIANTS[name].time_weight for name in self.mix} if self.mix else {"original"}

    @property
    def is_qwen2(self) -> bool:
        """Whether the run begins with Qwen2.5 weights."""
        return self.from_ is not None and self.from_.startswith(QWEN2)

    @property
    def from_place(self) -> str | None:
        """Folder or Hub id of the weights it begins with; None for a fresh model."""
        return None if self.from_ is None else self.from_.removeprefix(QWEN2)

    def dump(self) -> dict[str, Json]:
        """Every field under its YAML key; `TrainSpec.model_validate` takes what is not None."""
        return {k: v for k, v in self.model_dump(by_alias=True).items() if v is not None}

    def identity(self) -> dict[str, Json]:
        """The fields that decide what the weights become."""
        own = {name: value for name, value in self.dump().items() if name not in NEUTRAL}
        if self.mix is not None:  # task variants are drawn by their number, so their order counts
            own["mix"] = [f"{name} {share}" for name, share in self.mix.items()]
        return own | ({"num_workers": self.num_workers} if self.parallel == "fsdp" else {})


class Need(NamedTuple):
    """Options that would be ignored, and where they are not."""

    options: tuple[str, ...]
    what: str
    is_met: Callable[[TrainSpec], bool]


NEEDS = (
    Need(ONLY_PARQUET, "parquet, not mix", lambda spec: spec.parquet is not None),
    Need(("tail_weight",), "eos_slack above 0", lambda spec: bool(spec.mix or spec.eos_slack)),
    Need(ONLY_FRESH, "a fresh model, without from", lambda spec: spec.from_ is None),
    Need(("mask_token_id",), "from: qwen2 PATH", lambda spec: spec.is_qwen2),
    Need(("cart_p",), "time_weight: cart", lambda spec: "cart" in spec.time_weights),
    Need(("focal_alpha",), "focal_gamma", lambda spec: spec.focal_gamma is not None),
    Need(("momentum",), "optimizer: muon", lambda spec: spec.optimizer == "muon"),
)


def load_train_spec(flags: Mapping[str, object], config: str | None = None) -> TrainSpec:
    """The run of a YAML file or recipe name and the flags given beside it; a flag beats it."""
    return checked(TrainSpec, given_values(flags, _find(config) if config else None))


def _find(config: str) -> Path:
    if Path(config).exists():
        return Path(config)
    recipes = {path.stem: path for path in sorted(RECIPES.glob("*.yaml"))}
    if config not in recipes:
        raise Refused(f"--config {config!r} is not valid: a YAML file, or {' or '.join(recipes)}")
    return recipes[config]


def _shape_problem(width: int, heads: int, kv_heads: int) -> str | None:
    if width % heads or width // heads % 2:
        return f"hidden_size={width} is not valid: an even width for each of {heads} heads"
    if heads % kv_heads:
        return f"num_key_value_heads={kv_heads} is not valid: a divisor of {heads}"
    return None
