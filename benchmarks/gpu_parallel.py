"""One of the processes that share the weights in `benchmarks.gpu`; rank 0 prints tokens/s."""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist

from benchmarks.gpu_model import SIZES, Bench, Budget, random_model
from benchmarks.gpu_phases import one_request


def main() -> None:
    """Arguments: device, size, number of processes, port, seconds, rank."""
    device, name = sys.argv[1:3]
    degree, port, seconds, rank = map(int, sys.argv[3:])
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
    model = random_model(size.shape, size.dtype, kind, degree)
    bench = Bench(size=size, device=kind, model=model, degree=degree)
    tokens_per_s = one_request(bench, Budget(seconds))
    dist.destroy_process_group()
    if rank == 0:
        print(tokens_per_s)


if __name__ == "__main__":
    main()
