"""Boards of Sudoku, what makes a grid complete, and exact fills of an empty board.

A grid is its digits in reading order; 0 is a blank.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import isqrt

import numpy as np

from jobs.common.errors import Refused

__all__ = ["BOARDS", "Board", "board_of", "completions", "is_complete"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A square of cells in boxes; a row, a column and a box each hold every digit once."""

    side: int
    box_rows: int
    box_columns: int

    @property
    def num_cells(self) -> int:
        """How many cells there are."""
        return self.side * self.side

    @property
    def digits(self) -> range:
        """The digits of a row."""
        return range(1, self.side + 1)

    def places(self, cell: int) -> tuple[int, int, int]:
        """The units a cell lies in, by number: its row, its column, its box."""
        row, column = divmod(cell, self.side)
        box = row // self.box_rows * self.box_rows + column // self.box_columns
        return row, self.side + column, 2 * self.side + box


BOARDS = {
    4: Board(side=4, box_rows=2, box_columns=2),
    6: Board(side=6, box_rows=2, box_columns=3),
    9: Board(side=9, box_rows=3, box_columns=3),
}


def board_of(cells: Sequence[object]) -> Board:
    """The board with so many cells."""
    board = BOARDS.get(isqrt(len(cells)))
    if board is None or board.num_cells != len(cells):
        raise Refused(f"{len(cells)} cells are no Sudoku of side {', '.join(map(str, BOARDS))}")
    return board


def is_complete(grid: Sequence[int], board: Board) -> bool:
    """Whether every row, column and box holds every digit once."""
    units: list[set[int]] = [set() for _ in range(3 * board.side)]
    for cell, places in zip(grid, _places(board), strict=True):
        for place in places:
            units[place].add(cell)
    return all(unit == set(board.digits) for unit in units)


def completions(board: Board, rng: np.random.Generator | None = None) -> Iterator[list[int]]:
    """Every complete grid, by exact search: the cell with the fewest choices is filled next.

    With `rng` choices are tried in random order, so that the first grid is a random one. Every
    grid can be first; all grids are not equally likely.
    """
    grid = [0] * board.num_cells
    used = [0] * (3 * board.side)
    places = _places(board)
    choices_left = (1 << (board.side + 1)) - 2

    def fill() -> Iterator[list[int]]:
        best, free = -1, choices_left + 1
        fewest = board.side + 1
        for cell, digit in enumerate(grid):
            if digit:
                continue
            row, column, box = places[cell]
            mask = choices_left & ~(used[row] | used[column] | used[box])
            count = mask.bit_count()
            if count < fewest:
                best, free, fewest = cell, mask, count
                if count < 2:
                    break
        if best < 0:
            yield list(grid)
            return
        choices = [digit for digit in board.digits if free >> digit & 1]
        for digit in choices if rng is None else rng.permutation(choices).tolist():
            grid[best] = digit
            for place in places[best]:
                used[place] ^= 1 << digit
            yield from fill()
            for place in places[best]:
                used[place] ^= 1 << digit
        grid[best] = 0

    return fill()


@cache
def _places(board: Board) -> list[tuple[int, int, int]]:
    return [board.places(cell) for cell in range(board.num_cells)]
