"""How an engine runs: every setting, declared once. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dream.errors import InvalidRequest
from dream.memory import DType
from dream.options import check_options, declare

__all__ = ["Attention", "EngineConfig"]

Attention = Literal["sdpa", "varlen"]

DEVICE, BATCHING, SPEED = "Device and precision", "Batching and memory", "Speed"
"""Titles of the tables in the docs."""

COUNT = (1, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Settings of an engine.

    On a CPU in float32 only `parity`, `batch_invariant` and `compile` change tokens, the last two
    at near-ties.
    """

    device: str = field(
        default="cpu",
        metadata=declare(
            "Torch device", DEVICE, pattern=(r"cpu|cuda(:\d{1,3})?", "cpu, cuda or cuda:N")
        ),
    )
    dtype: DType = field(
        default="float32",
        metadata=declare("Precision of weights and activations; scores are float32", DEVICE),
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
        default=128,
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
            "Token-forwards that a request may take before those that wait go first",
            BATCHING,
            COUNT,
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
    cuda_graphs: bool = field(
        default=False, metadata=declare("Run small steps as CUDA graphs (varlen alone)", SPEED)
    )

    def __post_init__(self) -> None:
        check_options(self)
        if self.attention == "varlen" and not self._has_varlen:
            allowed = "sdpa: varlen needs device cuda and dtype bfloat16 or float16"
            raise InvalidRequest("attention", self.attention, allowed)
        if self.batch_invariant and self.compile:
            allowed = "false: batch_invariant takes kernels that are not compiled"
            raise InvalidRequest("compile", self.compile, allowed)
        if self.cuda_graphs and self.attention_backend != "varlen":
            allowed = "false: graphs need varlen attention, which needs device cuda and 16 bits"
            raise InvalidRequest("cuda_graphs", self.cuda_graphs, allowed)

    @property
    def attention_backend(self) -> Attention:
        """The backend that runs: the variable-length kernel needs CUDA and 16 bits."""
        return self.attention or ("varlen" if self._has_varlen else "sdpa")

    @property
    def is_compiled(self) -> bool:
        """Whether operations on single rows are compiled."""
        is_default = self.device.startswith("cuda") and not self.batch_invariant
        return is_default if self.compile is None else self.compile

    @property
    def _has_varlen(self) -> bool:
        return self.device.startswith("cuda") and self.dtype != "float32"
