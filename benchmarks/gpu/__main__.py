"""Dream 7B's shape on one machine with a GPU: whether it is right, how fast it is, and why.

`python -m benchmarks.gpu` takes at most ten minutes, needs torch and transformers alone, and
makes its weights on the device at random: speed is that of the real ones, tokens are not. Each
finding is written the moment it is known, to gpu_DEVICE_yyyymm.jsonl and to the page beside it.
A phase that fails is recorded with its error, and the next one runs. A later run adds to the same
file; of each phase its newest run counts. `--device cpu --size tiny` runs all of it in seconds.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import torch

from benchmarks.gpu.log import Log
from benchmarks.gpu.model import SIZES
from benchmarks.gpu.registry import START_S
from benchmarks.gpu.supervisor import Setup, limits, run
from benchmarks.gpu.timing import is_cuda
from benchmarks.hardware import describe, device_name
from dream.errors import InvalidRequest
from dream.memory import check_degree

RESULTS = Path(__file__).parent.parent / "results"
REGISTRY = "benchmarks.gpu.registry"


def main(words: Sequence[str] | None = None, registry: str = REGISTRY) -> None:
    """Run the phases, and say where the page is."""
    known = import_module(registry).PHASES
    parser = _parser(list(known))
    args = parser.parse_args(words)
    if is_cuda(args.device) and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device here: use --device cpu --size tiny")
    phases = {name: phase for name, phase in known.items() if name in args.phases}
    command = f"python -m benchmarks.gpu --device {args.device} --size {args.size}"
    if len(phases) < len(known):
        command += f" --phases {','.join(phases)}"
    if args.minutes is not None:
        command += f" --minutes {args.minutes:g}"
    about = describe(command, args.device)
    log = Log(args.output / f"{_name(about)}.jsonl")
    log.run(about)
    degree = args.processes or _degree(args.size, args.device)
    setup = Setup(
        registry=registry,
        phases=phases,
        device=args.device,
        size=args.size,
        degree=degree,
        log=log,
    )
    seconds = limits(phases, args.minutes)
    total_s = sum(seconds.values()) + START_S * len({phase.process for phase in phases.values()})
    print(f"{args.size} on {device_name(args.device)}: {log.page_path}", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(setup, seconds, total_s)
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    print(f"\n{log.page_path.read_text(encoding='utf-8')}\n{log.page_path}")


def _parser(known: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", choices=list(SIZES), default="7b")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of file and page")
    parser.add_argument("--processes", type=int, help="default: as many GPUs as divide the heads")
    parser.add_argument("--minutes", type=float, help="for all chosen phases (default: ten)")

    def names(text: str) -> list[str]:
        found = text.split(",")
        if unknown := [name for name in found if name not in known]:
            allowed = ", ".join(known)
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {allowed}")
        return found

    parser.add_argument(
        "--phases", type=names, default=list(known), help=f"some of {','.join(known)}"
    )
    return parser


def _name(about: dict[str, str]) -> str:
    device = about.get("device", about["processor"])
    slug = "_".join("".join(c if c.isalnum() else " " for c in device.lower()).split())
    return f"gpu_{slug}_{about['date'][:7].replace('-', '')}"


def _degree(size: str, device: str) -> int:
    """The largest number of GPUs that divides the heads; 1 on a host."""
    for degree in range(torch.cuda.device_count() if is_cuda(device) else 1, 1, -1):
        try:
            check_degree(SIZES[size].shape.sizes, degree)
        except InvalidRequest:
            continue
        return degree
    return 1


if __name__ == "__main__":
    main()
