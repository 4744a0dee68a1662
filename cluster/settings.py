"""The settings of a replica's engine that decide what it needs, under the engine's names."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from dream.memory import DType

__all__ = ["MOST", "EngineSettings"]

MOST = 2**60
"""More of anything than a cluster has, and little enough to compute with."""

Count = Annotated[int, Field(ge=1, le=MOST)]


class EngineSettings(BaseModel):
    """What `EngineConfig` says of memory; the defaults are for a GPU of 80 GB."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dtype: DType = "bfloat16"
    tensor_parallel: Count = 1
    max_model_len: Count = 2048
    max_num_batched_tokens: Count = 16_384
    max_logit_rows: Count = 512
    max_cache_tokens: Annotated[int, Field(ge=0, le=MOST)] = 4096

    @property
    def device(self) -> str:
        """Replicas of a cluster run on GPUs."""
        return "cuda"
