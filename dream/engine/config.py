"""How an engine runs: device, precision, limits."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dream.errors import InvalidRequest

__all__ = ["DTYPES", "EngineConfig"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

COUNTS = ["max_model_len", "max_num_batched_tokens", "quantum", "max_logit_rows", "tensor_parallel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Options of an engine; on a CPU only `parity` and `compile` change what float32 gives.

    device: a torch device. dtype: of weights and activations; scores are always float32.
    parity: the official loop to the letter: no id is suppressed, no early exit.
    max_model_len: longest canvas; Dream 7B was trained on 2048 tokens in all.
    max_num_batched_tokens: canvas tokens of one forward (one longer canvas still runs alone). More
        give throughput, until the device is busy; fewer give latency.
    quantum: rows a request may have computed before those that wait go first.
    max_logit_rows: rows whose logits exist at one time.
    max_cache_tokens: positions for which something may be kept between steps (`window`, `history`).
    compile: compile norms and MLPs with torch.compile, which takes a C++ or CUDA toolchain and some
        seconds at the first step; may round otherwise.
    cuda_graphs: run small steps as CUDA graphs (with the variable-length kernel alone).
    tensor_parallel: processes that hold a part of the weights each. torch.distributed has to be
        initialised with so many; all of them run the same calls.
    """

    device: str = "cpu"
    dtype: str = "float32"
    parity: bool = False
    max_model_len: int = 2048
    max_num_batched_tokens: int = 4096
    quantum: int = 2**18
    max_logit_rows: int = 128
    max_cache_tokens: int = 4096
    compile: bool = False
    cuda_graphs: bool = False
    tensor_parallel: int = 1

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise InvalidRequest("dtype", self.dtype, "one of " + ", ".join(DTYPES))
        for name in COUNTS:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidRequest(name, getattr(self, name), "an integer >= 1")
        rows = self.max_cache_tokens
        if not isinstance(rows, int) or isinstance(rows, bool) or rows < 0:
            raise InvalidRequest("max_cache_tokens", rows, "an integer >= 0")
        for name in ("compile", "cuda_graphs"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidRequest(name, getattr(self, name), "true or false")
        try:
            torch.device(self.device)
        except RuntimeError as error:
            raise InvalidRequest("device", self.device, "a torch device") from error
        if self.cuda_graphs and self.attention != "varlen":
            allowed = "false but on CUDA in 16 bits: other attention loops on the host"
            raise InvalidRequest("cuda_graphs", self.cuda_graphs, allowed)

    @property
    def attention(self) -> str:
        """The attention backend: the variable-length kernel needs CUDA and 16 bits."""
        is_cuda = torch.device(self.device).type == "cuda"
        return "varlen" if is_cuda and self.dtype != "float32" else "sdpa"
