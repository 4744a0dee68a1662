"""Sudoku of side 4, 6 or 9: puzzles with a given number of clues, their text, exact scorer.

A grid is its digits in reading order; 0 is a blank. A puzzle may have several solutions, and each
of them is right. Data format of Dream's planning set: one line of digits for each row. The
embedded checkpoint knows side 4. Letters: N puzzles, G solved grids.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from jobs.common.errors import Refused
from jobs.tasks.base import EOS, HELD_OUT_SHARE, MASK, Keyed, Problem, Sample, draw_distinct
from jobs.tasks.sudoku_grids import BOARDS, board_of, completions, is_complete

__all__ = [
    "Digits",
    "draw",
    "draw_puzzles",
    "grid_lines",
    "holds_out",
    "infill_text",
    "is_correct",
    "is_held_out",
    "is_solved",
    "prompt_text",
    "read_grid",
    "read_lines",
    "sample_answer",
    "sample_in_place",
    "solved_grids",
]

Digits = NDArray[np.int64]
SIDE = 4
CELLS = SIDE * SIDE
FNV_PRIME = 0x100000001B3
PATTERNS = 32
"""Clue patterns drawn for a grid, of which the first of the wanted split is taken."""

PATIENCE = 2_000
"""Grids without a new puzzle after which there are taken to be no more."""


@cache
def solved_grids() -> Digits:
    """All 288 solved grids, [G, 16], in lexicographic order."""
    return np.array(sorted(completions(BOARDS[SIDE])))


def draw(
    rng: np.random.Generator, num: int, *, side: int = SIDE, givens: int, held_out: bool = True
) -> list[Problem]:
    """`num` distinct puzzles with `givens` clues, all of one split, in the official format.

    With 0 givens there is one puzzle only, the empty grid: it is of both splits, and repeated.
    """
    num_cells = BOARDS[side].num_cells
    _check_givens(givens, num_cells)

    def attempt(num_found: int) -> Keyed | None:
        solution = _draw_solution(rng, side)
        order = rng.random((PATTERNS, num_cells)).argsort(1)
        puzzles = np.where(order < givens, solution, 0)
        puzzles = puzzles[(is_held_out(puzzles) == held_out) | (givens == 0)]
        if not len(puzzles):
            return None
        text, reference = grid_lines(puzzles[0].tolist()), grid_lines(solution.tolist())
        key = text if givens else str(num_found)
        return Keyed(key, Problem(input=text, reference=reference, bucket=bucket))

    bucket = f"{givens} givens"
    what = f"Sudoku {side}x{side} with {bucket}"
    return draw_distinct(num, attempt, what=what, patience=PATIENCE)


def draw_puzzles(rng: np.random.Generator, num: int, givens: int) -> tuple[Digits, Digits]:
    """`num` held-out 4x4 puzzles with `givens` clues and one solution of each, both [N, 16].

    They may repeat, unlike those of `draw`. The solution is uniform over the solved grids and the
    clues are uniform over the cells. With 0 givens there is one puzzle only, the empty grid, and it
    cannot be held out.
    """
    _check_givens(givens, CELLS)
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
    """Whether each puzzle [N, cells] belongs to the test split: a hash of its cells alone."""
    hashed = np.zeros(len(puzzles), np.uint64)
    for cell in puzzles.T.astype(np.uint64):
        hashed = (hashed ^ cell) * np.uint64(FNV_PRIME)
    is_drawn: NDArray[np.bool_] = (hashed >> np.uint64(32)) % np.uint64(HELD_OUT_SHARE) == 0
    return is_drawn


def holds_out(visible: str) -> bool:
    """Whether a visible text, `S:1_3_/...` or `S:1030/...=...`, shows a held-out puzzle.

    The empty grid cannot be held out: there is one.
    """
    cells = visible.split("=")[0].removeprefix("S:").replace("/", "").replace(MASK, "0")
    hashed = 0
    for cell in map(int, cells):
        hashed = (hashed ^ cell) * FNV_PRIME % 2**64
    return cells.strip("0") != "" and (hashed >> 32) % HELD_OUT_SHARE == 0


def sample_in_place(rng: np.random.Generator) -> Sample:
    """A solved grid of which any cell may be masked."""
    grid = solved_grids()[int(rng.integers(len(solved_grids())))]
    text = infill_text(grid.tolist())
    return Sample(text, "".join("#" if cell.isdigit() else " " for cell in text))


def sample_answer(rng: np.random.Generator) -> Sample:
    """A puzzle with 0 to 12 givens and its completion, then three to five EOS."""
    grid = solved_grids()[int(rng.integers(len(solved_grids())))]
    is_given = rng.permutation(CELLS) < rng.integers(0, 13)
    prompt = prompt_text(np.where(is_given, grid, 0).tolist())
    answer = infill_text(grid.tolist()).removeprefix("S:") + EOS * int(rng.integers(3, 6))
    return Sample(prompt + answer, " " * len(prompt) + "#" * len(answer))


def infill_text(puzzle: Sequence[int], mask: str = MASK) -> str:
    """The puzzle as text with one mask for each blank, such as `S:1_3_/...`."""
    cells = [str(digit) if digit else mask for digit in puzzle]
    return "S:" + _rows(cells, "/")


def prompt_text(puzzle: Sequence[int]) -> str:
    """The puzzle as a prompt whose completion is the solved grid, such as `S:1030/...=`."""
    return "S:" + _rows([str(digit) for digit in puzzle], "/") + "="


def grid_lines(cells: Sequence[int]) -> str:
    """The official text of a grid, one line for each row, such as `1003\\n0300\\n...`."""
    return _rows([str(digit) for digit in cells], "\n")


def read_lines(text: str, side: int = SIDE) -> list[int] | None:
    """The digits of an official text; None if it is not exactly one."""
    return _read(text, "\n", side)


def read_grid(text: str, side: int = SIDE) -> list[int] | None:
    """The digits of a text `dddd/dddd/dddd/dddd`, after any `S:`; None if it is not one."""
    return _read(text.removeprefix("S:"), "/", side)


def is_solved(puzzle: Sequence[int], text: str) -> bool:
    """Whether `text`, as `infill_text` writes it, is any valid completion of the puzzle."""
    return _is_completion(puzzle, read_grid(text, board_of(puzzle).side))


def is_correct(problem_input: str, answer: str) -> bool:
    """Whether `answer` is any valid completion; both are in the official format."""
    side = problem_input.count("\n") + 1
    puzzle = read_lines(problem_input, side)
    if side not in BOARDS or puzzle is None:
        raise Refused(f"{problem_input!r} is no Sudoku: lines of digits with 0 for a blank")
    return _is_completion(puzzle, read_lines(answer, side))


def _is_completion(puzzle: Sequence[int], grid: Sequence[int] | None) -> bool:
    """Clues kept, and every row, column and box complete."""
    if grid is None:
        return False
    keeps_clues = all(given in (0, cell) for given, cell in zip(puzzle, grid, strict=True))
    return keeps_clues and is_complete(grid, board_of(grid))


def _read(text: str, separator: str, side: int) -> list[int] | None:
    rows = text.split(separator)
    if len(rows) != side or any(len(row) != side for row in rows):
        return None
    cells = "".join(rows)
    if any(cell not in "0123456789"[: side + 1] for cell in cells):
        return None
    return [int(cell) for cell in cells]


def _rows(cells: Sequence[str], separator: str) -> str:
    side = board_of(cells).side
    return separator.join("".join(cells[i : i + side]) for i in range(0, len(cells), side))


def _draw_solution(rng: np.random.Generator, side: int) -> Digits:
    """Uniform over all grids where they are few, else the first of a random search."""
    if side == SIDE:
        grids = solved_grids()
        return np.array(grids[int(rng.integers(len(grids)))])
    return np.array(next(completions(BOARDS[side], rng)))


def _check_givens(givens: int, num_cells: int) -> None:
    if not 0 <= givens <= num_cells:
        raise Refused(f"givens: {givens!r} is not in 0..{num_cells}, the cells of the grid")
