"""One of the processes that share the weights in `benchmarks.gpu`; rank 0 prints tokens/s."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.model import SIZES, random_model
from benchmarks.gpu.speed import alone_tokens_per_s
from dream import Engine


def main() -> None:
    """Arguments: device, size, number of processes, port, rank."""
    device, name = sys.argv[1:3]
    degree, port, rank = map(int, sys.argv[3:])
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.set_device(rank)
    dist.init_process_group(
        "nccl" if kind == "cuda" else "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=degree,
    )
    size = SIZES[name]
    bench = Bench(size=size, device=kind, log=Path(), degree=degree)
    model = random_model(size.shape, size.dtype, kind, degree)
    config = bench.config(rows=size.prompt + size.canvas)
    # To the end, not for a time: all processes must take the same steps.
    tokens_per_s = alone_tokens_per_s(bench, Engine(model, None, config), math.inf)
    dist.destroy_process_group()
    if rank == 0:
        print(tokens_per_s)


if __name__ == "__main__":
    main()
