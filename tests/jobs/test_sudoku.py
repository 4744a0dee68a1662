"""The Sudoku task: its grids, its split, its texts and its exact scorer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.tasks import sudoku

SOLVED = [1, 2, 3, 4, 3, 4, 1, 2, 2, 1, 4, 3, 4, 3, 2, 1]
TEXT = "S:1234/3412/2143/4321"
HELD_OUT_OF_FIRST_40 = [4, 32]
"""Written down once, so that no change of code moves a puzzle into training."""


def test_there_are_288_solved_grids_all_different():
    grids = sudoku.solved_grids()

    assert grids.shape == (288, 16)
    assert len({tuple(grid) for grid in grids.tolist()}) == 288
    for grid in grids.reshape(-1, 4, 4):
        for line in [*grid, *grid.T, *(grid[r : r + 2, c : c + 2] for r in (0, 2) for c in (0, 2))]:
            assert sorted(line.flatten().tolist()) == [1, 2, 3, 4]


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.integers(1, 12), st.integers(0, 1000))
def test_drawn_puzzles_are_held_out_and_have_their_solution(givens, seed):
    puzzles, solutions = sudoku.draw_puzzles(np.random.default_rng(seed), 20, givens)

    assert ((puzzles > 0).sum(1) == givens).all()
    assert sudoku.is_held_out(puzzles).all()
    for puzzle, solution in zip(puzzles.tolist(), solutions.tolist(), strict=True):
        text = sudoku.infill_text(solution)
        assert sudoku.is_solved(puzzle, text)


def test_the_split_is_stable_and_takes_about_an_eighth():
    puzzles = np.random.default_rng(0).integers(0, 5, (20_000, 16))

    assert abs(sudoku.is_held_out(puzzles).mean() - 1 / 8) < 0.01
    assert sudoku.is_held_out(puzzles[:40]).nonzero()[0].tolist() == HELD_OUT_OF_FIRST_40


def test_the_texts_of_a_puzzle():
    puzzle = [1, 0, 3, 4, *[0] * 12]

    assert sudoku.infill_text(puzzle) == "S:1_34/____/____/____"
    assert sudoku.prompt_text(puzzle) == "S:1034/0000/0000/0000="


def test_any_valid_completion_is_solved():
    assert sudoku.is_solved([0] * 16, TEXT)
    assert sudoku.is_solved(SOLVED, TEXT)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "S:",
        "S:1234/3412/2143/4322",  # a column repeats
        "S:1234/2143/3412/4321",  # rows and columns are complete, boxes are not
        "S:1234/3412/2143/4320",  # a blank is left
        "S:1234/3412/2143",  # a row is missing
        "S:1234/3412/2143/4321/",  # extra text
        "S:1234/3412/2143/4321 ",
        "S:12341/342/2143/4321",
        "S:\u0661234/3412/2143/4321",  # a digit of another script
        "S:1234/3412/2143/432\u00b9",
        "1234341221434321",
    ],
)
def test_anything_else_is_not(text):
    assert not sudoku.is_solved([0] * 16, text)


def test_a_changed_clue_is_not_solved():
    assert not sudoku.is_solved([2, *[0] * 15], TEXT)
