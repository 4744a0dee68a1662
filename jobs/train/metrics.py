"""The numbers of a run while it goes on: OUT/metrics.jsonl and TensorBoard's event files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard.writer import SummaryWriter

from jobs.common.files import write_atomically

__all__ = ["METRICS", "Line", "Metrics", "read_metrics"]

METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"

Line = Mapping[str, float | int | dict[str, float]]


class Metrics:
    """Written by the first worker alone, a line for every `log_every` updates."""

    def __init__(self, output: Path, after_update: int) -> None:
        """Go on after an update: what an interrupted run told of later ones is taken back."""
        path = output / METRICS
        kept = [line for line in read_metrics(output) if line["update"] <= after_update]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_atomically(path, text)
        self._file = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(output / TENSORBOARD), purge_step=after_update + 1)

    def __enter__(self) -> Metrics:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._board.close()

    def write(self, line: Line) -> None:
        """One line, and one point of each curve."""
        print(json.dumps(line), file=self._file, flush=True)
        for name, value in line.items():
            points = value if isinstance(value, dict) else {"": value}
            for part, point in points.items():
                curve = f"{name}/{part}" if part else name
                self._board.add_scalar(curve, point, line["update"])


def read_metrics(output: Path) -> list[dict[str, float]]:
    """Every whole line so far; a line cut short by a kill is left out."""
    path = output / METRICS
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
