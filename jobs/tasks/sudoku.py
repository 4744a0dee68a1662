"""4x4 Sudoku: every solved grid, puzzles with a given number of clues, text forms, exact scorer.

A grid is 16 digits in reading order; 0 is a blank. Letters: N puzzles, G solved grids.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Digits",
    "draw_puzzles",
    "infill_text",
    "is_held_out",
    "is_solved",
    "prompt_text",
    "read_grid",
    "solved_grids",
]

Digits = NDArray[np.int64]
SIDE = 4
CELLS = SIDE * SIDE
HELD_OUT_SHARE = 8
"""One puzzle of this many is never trained on."""


@cache
def solved_grids() -> Digits:
    """All 288 solved grids, [G, 16], in lexicographic order."""
    rows = list(permutations(range(1, SIDE + 1)))
    tops = [(a, b) for a, b in product(rows, rows) if _is_band(a, b)]
    grids = [[*a, *b, *c, *d] for (a, b), (c, d) in product(tops, tops)]
    return np.array([grid for grid in grids if _is_complete(grid)])


def draw_puzzles(rng: np.random.Generator, num: int, givens: int) -> tuple[Digits, Digits]:
    """`num` held-out puzzles with `givens` clues and one solution of each, both [N, 16].

    The solution is uniform over the solved grids and the clues are uniform over the cells.
    With 0 givens there is one puzzle only, the empty grid, and it cannot be held out.
    """
    puzzles, solutions = np.empty((0, CELLS), np.int64), np.empty((0, CELLS), np.int64)
    while len(puzzles) < num:
        solution = solved_grids()[rng.integers(len(solved_grids()), size=2 * num)]
        order = rng.random((2 * num, CELLS)).argsort(1)
        puzzle = np.where(order < givens, solution, 0)
        keep = is_held_out(puzzle) | (givens == 0)
        puzzles = np.concatenate([puzzles, puzzle[keep]])
        solutions = np.concatenate([solutions, solution[keep]])
    return puzzles[:num], solutions[:num]


def is_held_out(puzzles: Digits) -> NDArray[np.bool_]:
    """Whether each puzzle [N, 16] belongs to the test split: a hash of its cells alone."""
    hashed = np.zeros(len(puzzles), np.uint64)
    for cell in puzzles.T.astype(np.uint64):
        hashed = (hashed ^ cell) * np.uint64(0x100000001B3)  # FNV-1a
    is_drawn: NDArray[np.bool_] = (hashed >> np.uint64(32)) % np.uint64(HELD_OUT_SHARE) == 0
    return is_drawn


def infill_text(puzzle: Sequence[int], mask: str = "_") -> str:
    """The puzzle as text with one mask for each blank, such as `S:1_3_/...`."""
    cells = [str(digit) if digit else mask for digit in puzzle]
    return "S:" + _rows(cells)


def prompt_text(puzzle: Sequence[int]) -> str:
    """The puzzle as a prompt whose completion is the solved grid, such as `S:1030/...=`."""
    return "S:" + _rows([str(digit) for digit in puzzle]) + "="


def read_grid(text: str) -> list[int] | None:
    """The 16 digits of a text `dddd/dddd/dddd/dddd`, after any `S:`; None if it is not one."""
    rows = text.removeprefix("S:").split("/")
    if len(rows) != SIDE or any(len(row) != SIDE for row in rows):
        return None
    cells = "".join(rows)
    if any(cell not in "01234" for cell in cells):
        return None
    return [int(cell) for cell in cells]


def is_solved(puzzle: Sequence[int], text: str) -> bool:
    """Whether `text` is any valid completion: clues kept, rows, columns and boxes complete."""
    grid = read_grid(text)
    if grid is None or 0 in grid:
        return False
    keeps_clues = all(given in (0, cell) for given, cell in zip(puzzle, grid, strict=True))
    return keeps_clues and _is_complete(grid)


def _rows(cells: Sequence[str]) -> str:
    return "/".join("".join(cells[i : i + SIDE]) for i in range(0, CELLS, SIDE))


def _is_band(first: Sequence[int], second: Sequence[int]) -> bool:
    """Whether two rows fill the two boxes they cross."""
    return len({*first[:2], *second[:2]}) == SIDE and len({*first[2:], *second[2:]}) == SIDE


def _is_complete(grid: Sequence[int]) -> bool:
    rows = [grid[i : i + SIDE] for i in range(0, CELLS, SIDE)]
    bands = _is_band(rows[0], rows[1]) and _is_band(rows[2], rows[3])
    lines = [*rows, *(grid[i::SIDE] for i in range(SIDE))]
    return bands and all(len(set(line)) == SIDE for line in lines)
