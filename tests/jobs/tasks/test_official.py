"""Files of the planning set are read as they are; what is wrong in one is named."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from jobs.common.errors import Refused
from jobs.tasks import countdown, sudoku
from jobs.tasks.official import countdown_format, read_official, sudoku_format


def write(path, problems):
    rows = [{"input": p.input, "output": p.reference} for p in problems]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("count", [3, 4, 5])
def test_countdown_rows_come_back_in_order(tmp_path, count):
    drawn = countdown.draw(np.random.default_rng(0), 12, count=count, within=countdown.FULL)
    path = write(tmp_path / f"cd{count}_test.jsonl", drawn)

    problems, digest = read_official(path, countdown_format(count))

    assert problems == drawn
    assert digest == hashlib.sha256((tmp_path / f"cd{count}_test.jsonl").read_bytes()).hexdigest()


@pytest.mark.parametrize(("side", "givens"), [(4, 4), (4, 12), (6, 18), (9, 30)])
def test_sudoku_rows_come_back_in_order(tmp_path, side, givens):
    drawn = sudoku.draw(np.random.default_rng(0), 12, side=side, givens=givens)
    path = write(tmp_path / "sudoku.jsonl", drawn)

    assert read_official(path, sudoku_format(side)).problems == drawn


def test_a_file_without_a_last_newline_and_with_more_fields_is_read(tmp_path):
    path = tmp_path / "cd3.jsonl"
    path.write_text(
        '{"input": "1,2,3,6", "output": "1+2=3,3+3=6", "id": 7}\r\n{"output":"","input":"1,1,1,3"}'
    )

    problems = read_official(str(path), countdown_format(3)).problems

    assert [p.input for p in problems] == ["1,2,3,6", "1,1,1,3"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "an object with input and output"),
        ('{"output": "x"}', "field 'input' is None, not a string"),
        ('{"input": "1,2,3,6"}', "field 'output' is None, not a string"),
        ('{"input": 5, "output": "x"}', "field 'input' is 5, not a string"),
        ('{"input": "1,2,3", "output": "x"}', "field 'input' is '1,2,3', not 3 numbers"),
        ('{"input": "1,2,3,-6", "output": "x"}', "not 3 numbers and a target"),
        ('{"input": "1,2,3,\\u0666", "output": "x"}', "not 3 numbers and a target"),
    ],
)
def test_a_bad_row_is_named_by_file_line_and_field(tmp_path, line, words):
    path = tmp_path / "cd3_test.jsonl"
    path.write_text('{"input": "1,2,3,6", "output": "1+2=3,3+3=6"}\n' + line + "\n")

    with pytest.raises(Refused, match=rf"cd3_test\.jsonl line 2: .*{words}"):
        read_official(str(path), countdown_format(3))


@pytest.mark.parametrize(
    "text", ["1234\n3412\n2143\n4321", "1230\n3412\n2143", "1230\n3412\n2143\n4321\n", "5" * 16, ""]
)
def test_a_bad_puzzle_is_refused(tmp_path, text):
    path = tmp_path / "sudoku.jsonl"
    path.write_text(json.dumps({"input": text, "output": ""}))

    with pytest.raises(Refused, match=r"line 1: field 'input' is .* at least one blank"):
        read_official(str(path), sudoku_format(4))


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path):
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")

    for name in ("none", "bytes", "."):
        with pytest.raises(Refused, match="not readable as JSON lines"):
            read_official(str(tmp_path / name), countdown_format(3))
