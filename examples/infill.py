"""Fill many holes at once: a Sudoku whose givens stay what they are, in the order you choose.

serve run deployments.app:build_app model=embedded
python -m examples.infill [http://127.0.0.1:8000/v1]
"""

from __future__ import annotations

import sys
from typing import Any

from openai import OpenAI

PUZZLE = "1__4/3412/2143/43__"


def main(base_url: str = "http://127.0.0.1:8000/v1") -> None:
    """One puzzle in three orders of denoising."""
    client = OpenAI(base_url=base_url, api_key="none")
    model = client.models.list().data[0].id
    segments = [{"text": "S:"}, *(_segment(cell) for cell in PUZZLE)]

    print(PUZZLE)
    for order in ("confidence", "left_to_right", "random"):
        answer = client.post(
            "/infill",
            body={"model": model, "segments": segments, "diffusion": {"order": order}},
            cast_to=dict[str, Any],
        )
        print(answer["choices"][0]["text"].removeprefix("S:"), order)


def _segment(cell: str) -> dict[str, object]:
    return {"hole": 1} if cell == "_" else {"text": cell}


if __name__ == "__main__":
    main(*sys.argv[1:])
