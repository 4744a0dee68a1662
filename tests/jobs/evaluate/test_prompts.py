"""Few-shot prompts, byte for byte, and where an answer is cut."""

from __future__ import annotations

import hashlib

import pytest

from jobs.common.errors import Refused
from jobs.evaluate.presets import PRESETS, find_preset
from jobs.evaluate.prompts import COUNTDOWN, SUDOKU, few_shot_prompt, read_instruction
from jobs.tasks.base import Problem

TEMPLATES = ["countdown3", "countdown4", "countdown5", "sudoku"]


def problem(text: str, reference: str) -> Problem:
    return Problem(input=text, reference=reference, bucket="all")


def test_a_countdown_prompt_to_the_byte():
    shots = [problem("6,3,2,4", "6/3=2,2+2=4"), problem("1,2,3,6", "1+2=3,3+3=6")]

    prompt = few_shot_prompt("Do it.", COUNTDOWN, shots, "15,44,79,50")

    assert prompt == (
        "Do it.\n"
        "\n"
        "Input: 6,3,2,4\n"
        "Output: 6/3=2,2+2=4\n"
        "\n"
        "Input: 1,2,3,6\n"
        "Output: 1+2=3,3+3=6\n"
        "\n"
        "Input: 15,44,79,50\n"
        "Output: "
    )


def test_a_sudoku_prompt_to_the_byte():
    shots = [problem("1230\n3412\n2143\n4321", "1234\n3412\n2143\n4321")]

    prompt = few_shot_prompt("Do it.", SUDOKU, shots, "1003\n0300\n3210\n4132")

    assert prompt == (
        "Do it.\n"
        "\n"
        "Input:\n1230\n3412\n2143\n4321\n"
        "Output:\n1234\n3412\n2143\n4321\n"
        "\n"
        "Input:\n1003\n0300\n3210\n4132\n"
        "Output:\n "
    )


def test_without_examples_the_question_follows_the_instruction():
    assert few_shot_prompt("Do it.", COUNTDOWN, [], "1,2,3") == "Do it.\n\nInput: 1,2,3\nOutput: "


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("44-15=29,79-29=50", "44-15=29,79-29=50"),
        ("44-15=29,79-29=50\n\nInput: 1", "44-15=29,79-29=50"),
        ("44-15=29\n,79-29=50", "44-15=29"),
        ("44-15=29 \n", "44-15=29 "),
        ("\n44-15=29", ""),
        ("", ""),
    ],
)
def test_a_countdown_answer_ends_at_the_first_newline(text, answer):
    assert COUNTDOWN.cut("15,44,79,50", text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("1234\n3412\n2143\n4321", "1234\n3412\n2143\n4321"),
        ("1234\n3412\n2143\n4321\n\nInput:\n", "1234\n3412\n2143\n4321"),
        ("1 2 3 4\n3412\n 2143\n4321", "1234\n3412\n2143\n4321"),
        ("1234\n3412\n2143\n4321\nInput", "1234\n3412\n2143\n4321"),  # no longer than the puzzle
        ("1234\n\n3412\n2143\n4321", "1234"),
        ("", ""),
    ],
)
def test_a_sudoku_answer_ends_at_the_first_blank_line(text, answer):
    assert SUDOKU.cut("1003\n0300\n3210\n4132", text) == answer


@pytest.mark.parametrize("name", TEMPLATES)
def test_our_own_instructions_are_one_plain_line(name):
    text, digest = read_instruction(name)

    assert text.isascii()
    assert "\n" not in text
    assert text == text.strip()
    assert len(text) > 100
    assert digest == hashlib.sha256(text.encode()).hexdigest()


def test_another_instruction_is_taken_from_a_file_as_it_is(tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("  Two lines,\nwith {braces} and caf\u00e9. \n\n", encoding="utf-8")

    assert (
        read_instruction("sudoku", str(path)).text == "  Two lines,\nwith {braces} and caf\u00e9. "
    )


def test_an_instruction_that_is_not_there_or_says_nothing_is_refused(tmp_path):
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")

    with pytest.raises(Refused, match="it is empty"):
        read_instruction("sudoku", str(tmp_path / "empty"))
    for name in ("none", "bytes", "."):
        with pytest.raises(Refused, match="not readable as UTF-8 text"):
            read_instruction("sudoku", str(tmp_path / name))


def test_the_official_preset_is_what_was_in_effect():
    preset = find_preset("official-planning")

    assert preset.settings() == {
        "steps": 512,
        "alg": "entropy",
        "alg_temp": None,
        "eps": 1e-3,
        "temperature": 0.0,
        "top_p": None,
        "top_k": 50,
        "prompt_style": "few-shot",
        "shots": 8,
    }
    assert (COUNTDOWN.max_new_tokens, SUDOKU.max_new_tokens) == (32, 24)


def test_an_unknown_preset_is_refused_with_those_there_are():
    with pytest.raises(Refused, match=f"no preset 'best'; there are {', '.join(PRESETS)}"):
        find_preset("best")
