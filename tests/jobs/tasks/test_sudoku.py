"""The Sudoku task: its grids, its split, its texts and its exact scorer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.common.errors import Refused
from jobs.tasks import sudoku
from jobs.tasks.sudoku_grids import BOARDS, completions

SOLVED = [1, 2, 3, 4, 3, 4, 1, 2, 2, 1, 4, 3, 4, 3, 2, 1]
TEXT = "S:1234/3412/2143/4321"
EMPTY = "0000\n0000\n0000\n0000"
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


@pytest.mark.parametrize("side", [4, 6, 9])
def test_a_random_fill_is_complete_and_the_same_for_a_seed(side):
    board = BOARDS[side]

    first, second, other = (
        next(completions(board, np.random.default_rng(seed))) for seed in (1, 1, 2)
    )

    assert first == second != other
    grid = np.array(first).reshape(side, side)
    for line in [*grid, *grid.T]:
        assert sorted(line.tolist()) == list(range(1, side + 1))
    for row in range(0, side, board.box_rows):
        for column in range(0, side, board.box_columns):
            box = grid[row : row + board.box_rows, column : column + board.box_columns]
            assert sorted(box.flatten().tolist()) == list(range(1, side + 1))


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.sampled_from([(4, 15), (6, 35), (9, 80)]), st.data())
def test_problems_of_every_side_are_solved_by_their_reference(size, data):
    side, most = size
    givens = data.draw(st.integers(4, most))
    held_out = data.draw(st.booleans())

    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    problems = sudoku.draw(rng, 5, side=side, givens=givens, held_out=held_out)

    assert len({problem.input for problem in problems}) == 5
    for problem in problems:
        puzzle = sudoku.read_lines(problem.input, side)
        assert puzzle is not None
        assert sum(cell > 0 for cell in puzzle) == givens
        assert problem.bucket == f"{givens} givens"
        assert sudoku.is_correct(problem.input, problem.reference)
        assert sudoku.is_held_out(np.array([puzzle]))[0] == held_out
        assert sudoku.holds_out(sudoku.infill_text(puzzle)) == held_out
        assert sudoku.grid_lines(puzzle) == problem.input


def test_problems_are_the_same_for_a_seed():
    first, second, other = (
        sudoku.draw(np.random.default_rng(seed), 20, givens=8) for seed in (1, 1, 2)
    )

    assert first == second != other


def test_the_empty_grid_is_one_problem_repeated():
    problems = sudoku.draw(np.random.default_rng(0), 5, givens=0)

    assert [problem.input for problem in problems] == [EMPTY] * 5
    assert all(sudoku.is_correct(EMPTY, problem.reference) for problem in problems)


def test_more_puzzles_than_there_are_is_refused_with_their_number():
    with pytest.raises(Refused, match="Sudoku 4x4 with 1 givens were asked for: 26 were found"):
        sudoku.draw(np.random.default_rng(0), 1000, givens=1)


@pytest.mark.parametrize("givens", [-1, 17])
def test_givens_that_no_grid_has_are_refused(givens):
    with pytest.raises(Refused, match=f"givens: {givens} is not in 0..16"):
        sudoku.draw(np.random.default_rng(0), 1, givens=givens)
    with pytest.raises(Refused, match=f"givens: {givens} is not in 0..16"):
        sudoku.draw_puzzles(np.random.default_rng(0), 1, givens)


def test_every_changed_cell_of_a_full_grid_is_wrong():
    solved = "1234\n3412\n2143\n4321"
    assert sudoku.is_correct(EMPTY, solved)
    for place in range(len(solved)):
        for letter in "012345\n /x\u0661\u00b9":
            changed = solved[:place] + letter + solved[place + 1 :]
            assert sudoku.is_correct(EMPTY, changed) == (changed == solved), changed
            longer = solved[:place] + letter + solved[place:]
            assert not sudoku.is_correct(EMPTY, longer), longer
    for wrong in ("", solved + "\n", solved + " ", "\n" + solved, solved[:-1], solved * 1000):
        assert not sudoku.is_correct(EMPTY, wrong)


def test_any_completion_of_a_puzzle_is_right_and_a_changed_given_is_wrong():
    puzzle = "1230\n0000\n0000\n0000"

    right = [grid for grid in sudoku.solved_grids().tolist() if grid[:3] == [1, 2, 3]]

    assert len(right) > 1
    for grid in sudoku.solved_grids().tolist():
        assert sudoku.is_correct(puzzle, sudoku.grid_lines(grid)) == (grid in right)


@pytest.mark.parametrize(("text", "side"), [("S:123456/", 6), ("1", 4), ("S:" + TEXT, 4)])
def test_a_text_that_is_no_grid_is_none(text, side):
    assert sudoku.read_grid(text, side) is None


@pytest.mark.parametrize("text", ["", "1", "12\n21", "1234\n3412\n2143\n432x", "12345"])
def test_an_odd_puzzle_is_refused(text):
    with pytest.raises(Refused, match="is no Sudoku"):
        sudoku.is_correct(text, "1234\n3412\n2143\n4321")
    with pytest.raises(Refused, match="5 cells are no Sudoku of side 4, 6, 9"):
        sudoku.infill_text([0] * 5)


def test_two_by_three_boxes_are_what_counts_for_side_six():
    rows = ["123456", "456123", "231564", "564231", "312645", "645312"]
    empty = "\n".join(["000000"] * 6)

    assert sudoku.is_correct(empty, "\n".join(rows))
    shifted = [rows[0], rows[2], rows[1], rows[3], rows[4], rows[5]]  # rows and columns still fine
    assert not sudoku.is_correct(empty, "\n".join(shifted))
