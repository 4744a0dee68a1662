"""In what weights and activations are kept: the values of `dtype`. Needs no torch."""

from __future__ import annotations

from typing import Literal

from dream.errors import InvalidRequest

__all__ = ["DTYPE_BYTES", "QUANTIZED", "DType", "check_unsplit", "compute_dtype"]

DType = Literal["auto", "float32", "bfloat16", "float16", "int8", "fp8"]

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Of what is computed with."""

QUANTIZED = ("int8", "fp8")
"""Weights of the blocks in 8 bits, with a scale for each output; all else in `compute_dtype`."""


def compute_dtype(dtype: str, device: str) -> str:
    """What all but weights in 8 bits is in: beside those, and for auto, what suits the device."""
    if dtype not in ("auto", *QUANTIZED):
        return dtype
    return "float32" if device.startswith("cpu") else "bfloat16"


def check_unsplit(dtype: str, degree: int) -> None:
    """InvalidRequest where weights in 8 bits would be shared by several processes."""
    if dtype in QUANTIZED and degree > 1:
        allowed = f"1 with dtype {dtype}: weights in 8 bits are not split"
        raise InvalidRequest("tensor_parallel", degree, allowed)
