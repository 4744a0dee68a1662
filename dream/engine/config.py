"""How an engine runs: every setting, declared once. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dream.dtypes import QUANTIZED, DType, check_unsplit, compute_dtype
from dream.errors import InvalidRequest
from dream.options import check_options, declare

__all__ = ["Attention", "EngineConfig"]

Attention = Literal["sdpa", "varlen"]

DEVICE, BATCHING, SPEED = "Device and precision", "Batching and memory", "Speed"
"""Titles of the tables in the docs."""

COUNT = (1, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Settings of an engine.

    What is left open (none, auto) is chosen for the device when it is made, and then reads so;
    `dataclasses.replace` keeps what was chosen. On a CPU in float32 only `parity`,
    `batch_invariant` and `compile` change tokens, the last two at near-ties.
    """

    device: str = field(
        default="cpu",
        metadata=declare(
            "Torch device", DEVICE, pattern=(r"cpu|cuda(:\d{1,3})?", "cpu, cuda or cuda:N")
        ),
    )
    dtype: DType = field(
        default="auto",
        metadata=declare(
            "Precision; auto: bfloat16 on CUDA, float32 on a CPU; int8 and fp8 keep weights of the "
            "blocks in 8 bits, and are approximate",
            DEVICE,
        ),
    )
    attention: Attention | None = field(
        default=None,
        metadata=declare("Attention backend; none: varlen on CUDA in 16 bits, else sdpa", DEVICE),
    )
    tensor_parallel: int = field(
        default=1, metadata=declare("Processes that hold a part of the weights each", DEVICE, COUNT)
    )
    threads: int | None = field(
        default=None,
        metadata=declare(
            "CPU threads of torch; none: as they are", DEVICE, (1, 1024), changes_tokens=False
        ),
    )
    parity: bool = field(
        default=False,
        metadata=declare("The official loop to the letter: no id is suppressed", DEVICE),
    )
    batch_invariant: bool = field(
        default=False,
        metadata=declare(
            "Compute rows in fixed tiles: the same bits alone and in any batch, also on CUDA and in"
            " 16 bits; slower",
            DEVICE,
        ),
    )

    max_model_len: int = field(
        default=2048,
        metadata=declare(
            "Longest canvas in tokens, if the checkpoint's context is not shorter", BATCHING, COUNT
        ),
    )
    max_num_batched_tokens: int = field(
        default=4096,
        metadata=declare(
            "Canvas tokens of one forward: more for throughput, fewer for latency",
            BATCHING,
            COUNT,
            changes_tokens=False,
        ),
    )
    max_logit_rows: int = field(
        default=512,
        metadata=declare(
            "Rows of logits that exist at one time", BATCHING, COUNT, changes_tokens=False
        ),
    )
    max_cache_tokens: int = field(
        default=4096,
        metadata=declare(
            "Tokens for which window and history may keep something between steps",
            BATCHING,
            (0, None),
            changes_tokens=False,
        ),
    )
    quantum: int = field(
        default=2**18,
        metadata=declare(
            "Token-forwards: of a turn of a large request; up to which a request is small, and such"
            " ones go first; that a key may be behind its part or ahead",
            BATCHING,
            COUNT,
            changes_tokens=False,
        ),
    )
    max_shared_tokens: int | None = field(
        default=None,
        metadata=declare(
            "Tokens of a step up to which other keys join the one that leads it; none: 1024 on"
            " CUDA, 0 on a CPU",
            BATCHING,
            (0, None),
            changes_tokens=False,
        ),
    )

    compile: bool | None = field(
        default=None,
        metadata=declare(
            "Compile what is done to each row between the products; may round otherwise;"
            " none: on CUDA, if not batch_invariant",
            SPEED,
        ),
    )
    cuda_graphs: bool | None = field(
        default=None,
        metadata=declare("Run small steps as CUDA graphs; none: where attention is varlen", SPEED),
    )
    async_scheduling: bool | None = field(
        default=None,
        metadata=declare(
            "Run a step of 3,072 tokens or more in halves, and prepare one while the device runs "
            "the other; none: on CUDA",
            SPEED,
            changes_tokens=False,
        ),
    )

    def __post_init__(self) -> None:
        check_options(self)
        self._choose()
        check_unsplit(self.dtype, self.tensor_parallel)
        if self.attention == "varlen" and not self._has_varlen:
            allowed = "sdpa: varlen needs device cuda and dtype bfloat16 or float16"
            raise InvalidRequest("attention", self.attention, allowed)
        if self.batch_invariant and self.compile:
            allowed = "false: batch_invariant takes kernels that are not compiled"
            raise InvalidRequest("compile", self.compile, allowed)
        if self.cuda_graphs and self.attention_backend != "varlen":
            allowed = "false: graphs need varlen attention, which needs device cuda and 16 bits"
            raise InvalidRequest("cuda_graphs", self.cuda_graphs, allowed)

    def _choose(self) -> None:
        """Put in place of what is left open what suits the device."""
        if self.dtype == "auto":
            object.__setattr__(self, "dtype", self.compute_dtype)
        if self.attention is None:
            object.__setattr__(self, "attention", self.attention_backend)
        if self.compile is None:
            is_compiled = self.device.startswith("cuda") and not self.batch_invariant
            object.__setattr__(self, "compile", is_compiled)
        if self.cuda_graphs is None:
            object.__setattr__(self, "cuda_graphs", self.attention_backend == "varlen")
        if self.max_shared_tokens is None:
            shared = 1024 if self.device.startswith("cuda") else 0
            object.__setattr__(self, "max_shared_tokens", shared)
        if self.async_scheduling is None:
            object.__setattr__(self, "async_scheduling", self.device.startswith("cuda"))

    @property
    def compute_dtype(self) -> str:
        """What activations are in, and every weight that is not in 8 bits."""
        return compute_dtype(self.dtype, self.device)

    @property
    def approximation(self) -> str | None:
        """The approximate mode of all requests, by name; None for an exact engine."""
        return f"dtype={self.dtype}" if self.dtype in QUANTIZED else None

    @property
    def attention_backend(self) -> Attention:
        """The backend that runs: the variable-length kernel needs CUDA and 16 bits."""
        return self.attention or ("varlen" if self._has_varlen else "sdpa")

    @property
    def _has_varlen(self) -> bool:
        return self.device.startswith("cuda") and self.compute_dtype != "float32"
