"""The suites: questions of each style, how answers are read, what is recorded and refused."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dream import Hole
from dream.text import TextTemplate
from jobs.common.errors import Refused
from jobs.evaluate.questions import input_files, suite_hash
from jobs.evaluate.suite import Question, Suite
from jobs.evaluate.suites import SUITES, SuiteOptions, build_suite, build_suites
from jobs.tasks import countdown, prose, sudoku
from tests.jobs.evaluate.pieces import pieces_of

DRAWN = [name for name in SUITES if name != "custom"]
FEW_SHOT = ["sudoku4", "countdown3", "countdown4", "countdown5"]


def text_of(question: Question, mask: str = "_") -> str:
    return "".join(p if isinstance(p, str) else mask * p for p in pieces_of(question))


def right_spans(question: Question, native: str) -> list[str]:
    """What fills the holes so that the whole text is `native`; holes as long as their text."""
    spans, place = [], 0
    for piece in pieces_of(question):
        length = len(piece) if isinstance(piece, str) else piece
        if isinstance(piece, int):
            spans.append(native[place : place + length])
        place += length
    return spans


def scores(suite: Suite, question: Question, spans: list[str]) -> dict[str, bool]:
    answer = suite.read_answer(question, spans)
    return {name: metric(question.problem.input, answer) for name, metric in suite.metrics.items()}


def write_jsonl(path, problems) -> str:
    rows = [json.dumps({"input": p.input, "output": p.reference}) for p in problems]
    path.write_text("\n".join(rows) + "\n")
    return str(path)


@pytest.mark.parametrize("name", DRAWN)
def test_questions_depend_on_the_seed_alone(name):
    first, second, other = (build_suite(name, SuiteOptions(num=6, seed=seed)) for seed in (1, 1, 2))

    assert first.questions == second.questions != other.questions
    assert first.config == second.config
    for question in first.questions:
        assert any(isinstance(piece, int) and piece > 0 for piece in pieces_of(question))
        assert "" not in pieces_of(question)


@pytest.mark.parametrize("name", DRAWN)
def test_more_problems_begin_with_the_same_ones(name):
    givens = (12,) if "sudoku" in name else None

    few, more = (build_suite(name, SuiteOptions(num=n, givens=givens)).questions for n in (4, 9))

    assert more[:4] == few


@pytest.mark.parametrize("name", DRAWN)
def test_what_a_suite_records(name):
    suite = build_suite(name, SuiteOptions(num=3, seed=5))

    assert suite.name == name
    assert suite.version == 1
    assert suite.config["num"] == 3
    assert suite.config["seed"] == 5
    assert suite.config["split"] == "test"
    assert len(str(suite.config["generator_sha256"])) == 64
    is_prompted = name in ("countdown3", "countdown4", "countdown5")
    assert suite.config["prompt_style"] == ("few-shot" if is_prompted else "native")
    assert suite.config["shots"] == (8 if is_prompted else 0)
    assert ("template_sha256" in suite.config) == is_prompted
    assert json.loads(json.dumps(suite.config)) == suite.config


def test_sudoku_has_a_bucket_for_each_number_of_givens():
    suite = build_suite("sudoku4", SuiteOptions(num=5))

    buckets = [question.problem.bucket for question in suite.questions]

    assert buckets == [f"{givens} givens" for givens in range(4, 13) for _ in range(5)]
    assert suite.config["givens"] == "4,5,6,7,8,9,10,11,12"


def test_a_bucket_of_givens_does_not_depend_on_the_others():
    alone = build_suite("sudoku4", SuiteOptions(num=5, givens=(8,))).questions
    among = build_suite("sudoku4", SuiteOptions(num=5, givens=(4, 8))).questions

    assert among[5:] == alone


@pytest.mark.parametrize(("name", "side"), [("sudoku4", 4), ("sudoku6", 6), ("sudoku9", 9)])
def test_native_sudoku_is_filled_in_place(name, side):
    suite = build_suite(name, SuiteOptions(num=2))
    for question in suite.questions:
        problem = question.problem
        puzzle = sudoku.read_lines(problem.input, side)
        assert puzzle is not None
        assert text_of(question) == sudoku.infill_text(puzzle)
        native = "S:" + problem.reference.replace("\n", "/")
        spans = right_spans(question, native)
        assert suite.read_answer(question, spans) == problem.reference
        assert scores(suite, question, spans) == {"acc": True}
        assert scores(suite, question, [*spans[:-1], spans[-1][:-1]]) == {"acc": False}
        assert scores(suite, question, [*spans[:-1], spans[-1] + "\n"]) == {"acc": False}


def test_no_givens_ask_for_the_empty_grid():
    suite = build_suite("sudoku4", SuiteOptions(num=3, givens=(0,)))

    assert {pieces_of(q) for q in suite.questions} == {("S:", 4, "/", 4, "/", 4, "/", 4)}


def test_few_shot_sudoku_asks_as_the_official_evaluation_does():
    suite = build_suite("sudoku4", SuiteOptions(num=2, prompt_style="few-shot", givens=(10,)))

    question = suite.questions[0]

    prompt, length = pieces_of(question)
    assert length == 24
    assert isinstance(prompt, str)
    assert prompt.count("Input:\n") == 9
    assert prompt.endswith(f"\n\nInput:\n{question.problem.input}\nOutput:\n ")
    answer = question.problem.reference
    assert scores(suite, question, [answer + "\n\nInput:"]) == {"acc": True}
    assert scores(suite, question, [" " + answer]) == {"acc": True}
    assert scores(suite, question, [answer[:-1]]) == {"acc": False}


@pytest.mark.parametrize("count", [3, 4, 5])
def test_few_shot_countdown_asks_as_the_official_evaluation_does(count):
    suite = build_suite(f"countdown{count}", SuiteOptions(num=4))
    for question in suite.questions:
        prompt, length = pieces_of(question)
        assert length == 32
        assert isinstance(prompt, str)
        assert prompt.count("Input: ") == 9
        assert prompt.endswith(f"\n\nInput: {question.problem.input}\nOutput: ")
        answer = question.problem.reference
        assert scores(suite, question, [answer + "\nmore"]) == {"acc": True, "acc_dream": True}
        assert scores(suite, question, [answer + " "]) == {"acc": False, "acc_dream": False}


@pytest.mark.parametrize("name", FEW_SHOT)
def test_examples_are_of_the_training_split_and_right(name):
    givens = (10,) if name == "sudoku4" else None
    suite = build_suite(name, SuiteOptions(num=3, prompt_style="few-shot", givens=givens))

    prompt = pieces_of(suite.questions[0])[0]

    assert isinstance(prompt, str)
    examples = prompt.split("\n\n")[1:-1]
    assert len(examples) == 8
    for example in examples:
        text, answer = example.removeprefix("Input:").split("Output:")
        text, answer = text.strip(), answer.strip()
        if name == "sudoku4":
            assert sudoku.is_correct(text, answer)
            assert not sudoku.is_held_out(np.array([sudoku.read_lines(text)]))[0]
        else:
            assert countdown.is_correct(text, answer)
            assert not countdown.holds_out(f"C:{text}=")


def test_prompts_take_another_number_of_examples_instruction_and_length(tmp_path):
    template = tmp_path / "own.txt"
    template.write_text("Reach it.\n")
    options = SuiteOptions(num=1, shots=1, prompt_template=str(template), max_new_tokens=40)

    suite = build_suite("countdown3", options)

    prompt, length = pieces_of(suite.questions[0])
    assert isinstance(prompt, str)
    assert prompt.startswith("Reach it.\n\nInput: ")
    assert (prompt.count("Input: "), length) == (2, 40)
    assert suite.config["template_sha256"] == hashlib.sha256(b"Reach it.").hexdigest()
    assert suite.config["shots"] == 1


def test_mini_countdown_is_a_prompt_and_a_hole_of_eighteen():
    suite = build_suite("countdown3-mini", SuiteOptions(num=20))
    for question in suite.questions:
        prompt, length = pieces_of(question)
        assert prompt == countdown.mini_prompt(question.problem.input)
        assert length == 18
        equations = countdown.read_equations(question.problem.reference) or []
        padded = ",".join(f"{e.left:02}{e.op}{e.right:02}={e.result:02}" for e in equations)
        assert len(padded) == 17
        assert scores(suite, question, [padded]) == {"acc": True, "acc_dream": True}
        twice = f"{padded},{padded}"
        assert scores(suite, question, [twice]) == {"acc": False, "acc_dream": False}
        assert scores(suite, question, [padded + "0"]) == {"acc": False, "acc_dream": False}


def test_lists_have_room_for_the_answer_and_its_end():
    suite = build_suite("lists", SuiteOptions(num=8))
    for question in suite.questions:
        assert pieces_of(question) == (
            question.problem.input + "=",
            len(question.problem.reference) + 2,
        )
        assert scores(suite, question, [question.problem.reference]) == {"acc": True}
        assert scores(suite, question, [""]) == {"acc": False}


@pytest.mark.parametrize(("name", "mark"), [("infill-eq", "E:"), ("infill-text", "")])
def test_infill_is_in_place_and_the_answer_is_the_whole_text(name, mark):
    suite = build_suite(name, SuiteOptions(num=20))
    for question in suite.questions:
        problem = question.problem
        assert text_of(question) == mark + problem.input
        spans = right_spans(question, mark + problem.reference)
        assert suite.read_answer(question, spans) == problem.reference
        assert scores(suite, question, spans) == {"acc": True}
        assert scores(suite, question, [*spans[:-1], spans[-1] + "x"]) == {"acc": False}


@pytest.mark.parametrize("count", [3, 4, 5])
def test_an_official_countdown_file_gives_examples_and_then_questions(tmp_path, count):
    rng = np.random.default_rng(0)
    rows = countdown.draw(rng, 20, count=count, within=countdown.FULL, held_out=False)
    path = tmp_path / f"cd{count}_test.jsonl"

    suite = build_suite(f"countdown{count}", SuiteOptions(data=write_jsonl(path, rows)))

    assert [question.problem for question in suite.questions] == rows[8:]
    prompt = pieces_of(suite.questions[0])[0]
    assert isinstance(prompt, str)
    shots = "".join(f"Input: {row.input}\nOutput: {row.reference}\n\n" for row in rows[:8])
    assert prompt.endswith(f"\n\n{shots}Input: {rows[8].input}\nOutput: ")
    assert suite.config["data"] == path.name
    assert suite.config["data_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (suite.config["split"], suite.config["seed"], suite.config["num"]) == ("file", None, 12)


def test_an_official_sudoku_file_in_both_styles(tmp_path):
    rows = sudoku.draw(np.random.default_rng(0), 12, givens=10)
    path = write_jsonl(tmp_path / "sudoku_4x4_10.jsonl", rows)

    prompted = build_suite("sudoku4", SuiteOptions(data=path, prompt_style="few-shot", num=3))
    native = build_suite("sudoku4", SuiteOptions(data=path))

    assert [question.problem for question in prompted.questions] == rows[8:11]
    assert [question.problem for question in native.questions] == rows
    assert {question.problem.bucket for question in native.questions} == {"10 givens"}


def test_a_file_of_examples_alone_is_refused(tmp_path):
    rows = countdown.draw(np.random.default_rng(0), 8, count=3, within=countdown.FULL)
    path = write_jsonl(tmp_path / "cd3_test.jsonl", rows)

    with pytest.raises(Refused, match="of 8 rows 8 are examples; none is left to ask"):
        build_suite("countdown3", SuiteOptions(data=path))
    with pytest.raises(Refused, match="not 4 numbers and a target"):
        build_suite("countdown4", SuiteOptions(data=path))
    for ignored in ({"givens": (4,)}, {"draw": "planning"}, {"split": "train"}):
        with pytest.raises(Refused, match="says which problems there are"):
            build_suite("sudoku4", SuiteOptions(data=path, **ignored))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num": 0}, "num: 0 is not an integer >= 1"),
        ({"num": True}, "num: True is not"),
        ({"num": 1.5}, "num: 1.5 is not"),
        ({"seed": -1}, "seed: -1 is not an integer >= 0"),
        ({"shots": -1}, "shots: -1 is not"),
        ({"max_new_tokens": 0}, "max_new_tokens: 0 is not"),
        ({"prompt_style": "chat"}, "prompt_style: 'chat' is not one of native, few-shot"),
        ({"draw": "odd"}, "draw: 'odd' is not one of plain, planning, every"),
        ({"split": "dev"}, "split: 'dev' is not one of test, train"),
        ({"slack": -1}, "slack: -1 is not an integer >= 0"),
        ({"task": "chat"}, "task: 'chat' is not one of generate, infill"),
        ({"givens": (4, -1)}, "givens: -1 is not"),
        ({"givens": (4, 4)}, "names no number, or one twice"),
        ({"givens": ()}, "names no number, or one twice"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_allowed(options, words):
    with pytest.raises(Refused, match=words):
        SuiteOptions(**options)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("chess", {}, "no suite 'chess'; there are sudoku4, sudoku6"),
        (
            "lists",
            {"givens": (4,)},
            "givens: no option of lists; allowed: num, prompt_style, seed, split",
        ),
        ("countdown3", {"scorer": "a:b"}, "scorer: no option of countdown3"),
        ("countdown3-mini", {"data": "x"}, "data: no option of countdown3-mini"),
        ("sudoku4", {"shots": 4}, "shots: no option of sudoku4"),
        ("sudoku6", {"prompt_style": "few-shot"}, "sudoku6 has no 'few-shot', only native"),
        ("countdown3", {"prompt_style": "native"}, "countdown3 has no 'native', only few-shot"),
        ("lists", {"draw": "every"}, "draw: lists has no 'every', only plain"),
        ("countdown3", {"draw": "every"}, "countdown3 has no 'every', only plain, planning"),
        ("countdown3", {"split": "train"}, "split: no option of countdown3"),
        ("infill-eq", {"slack": 2}, "slack: no option of infill-eq"),
        ("sudoku4", {"givens": (16,)}, r"givens: 16 is not in 0\.\.15"),
        ("custom", {"prompt_style": "native"}, "prompt_style: no option of custom"),
        ("custom", {}, "data: suite custom needs a Parquet file"),
    ],
)
def test_what_a_suite_cannot_do_is_refused(name, options, words):
    with pytest.raises(Refused, match=words):
        build_suite(name, SuiteOptions(**options))


def test_several_suites_each_take_the_options_they_read():
    options = SuiteOptions(num=2, givens=(8,), shots=3)

    boards, sums = build_suites(["sudoku4", "countdown3"], options)

    assert (boards.config["givens"], boards.config["shots"]) == ("8", 0)
    assert (len(boards.questions), len(sums.questions)) == (2, 2)
    assert sums.config["shots"] == 3
    with pytest.raises(Refused, match="scorer: no option of sudoku4, countdown3"):
        build_suites(["sudoku4", "countdown3"], SuiteOptions(scorer="a:b"))


def test_a_split_asks_problems_that_training_shows_or_does_not():
    for name in ("sudoku4", "countdown3-mini", "infill-eq", "infill-text", "lists"):
        givens = (8,) if name == "sudoku4" else None
        test, train = (
            build_suite(name, SuiteOptions(num=30, givens=givens, split=split))
            for split in ("test", "train")
        )

        asked, shown = ({text_of(q) for q in suite.questions} for suite in (test, train))
        assert not asked & shown
        assert (test.config["split"], train.config["split"]) == ("test", "train")
        assert build_suite(name, SuiteOptions(num=30, givens=givens)).questions == test.questions


def test_every_mini_problem_can_be_asked_in_an_order_of_the_seed():
    options = SuiteOptions(draw="every")
    suite = build_suite("countdown3-mini", options)
    other = build_suite("countdown3-mini", SuiteOptions(draw="every", seed=1))
    few = build_suite("countdown3-mini", SuiteOptions(draw="every", num=10))

    texts = [text_of(question) for question in suite.questions]
    assert len(set(texts)) == len(texts) == suite.config["num"] == 1575
    assert sorted(texts) == sorted(text_of(question) for question in other.questions)
    assert suite.questions != other.questions
    assert few.questions == suite.questions[:10]
    assert (suite.config["draw"], few.config["num"]) == ("every", 10)


def test_planning_draws_are_searched_countdown_and_ten_givens():
    sums = build_suite("countdown4", SuiteOptions(num=40, draw="planning"))
    boards = build_suite("sudoku4", SuiteOptions(num=3, draw="planning", prompt_style="few-shot"))

    equations = [
        e for q in sums.questions for e in countdown.read_equations(q.problem.reference) or []
    ]
    assert max(e.result for e in equations) > 100
    assert {q.problem.bucket for q in boards.questions} == {"10 givens"}
    plain = build_suite("countdown4", SuiteOptions(num=40))
    assert sums.config["generator_sha256"] != plain.config["generator_sha256"]
    assert sums.questions != plain.questions


def test_slack_makes_holes_longer_and_keeps_their_problems():
    exact, wide = (build_suite("infill-text", SuiteOptions(num=60, slack=s)) for s in (None, 4))

    growths = set()
    for one, other in zip(exact.questions, wide.questions, strict=True):
        assert one.problem.reference == other.problem.reference
        assert prose.holds_out(text_of(other))
        growths |= {
            b - a
            for a, b in zip(pieces_of(one), pieces_of(other), strict=True)
            if isinstance(a, int) and isinstance(b, int)
        }
        spans = right_spans(one, one.problem.reference)
        assert scores(wide, other, spans) == {"acc": True}
    assert growths == {0, 1, 2, 3, 4}
    assert (exact.config["slack"], wide.config["slack"]) == (0, 4)


def custom(tmp_path, columns: dict[str, object], **options) -> Suite:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table(columns), path)
    return build_suite("custom", SuiteOptions(data=str(path), **options))


def test_custom_prompts_are_compared_with_a_reference(tmp_path):
    columns = {"prompt": ["2+2=", "1+1="], "output": [" 4\n", "2"], "kind": [7, None]}

    suite = custom(
        tmp_path, columns, reference_column="output", bucket_column="kind", max_new_tokens=5
    )

    assert [pieces_of(question) for question in suite.questions] == [("2+2=", 5), ("1+1=", 5)]
    assert [question.problem.bucket for question in suite.questions] == ["7", "None"]
    assert json.loads(suite.questions[0].problem.input) == {
        "prompt": "2+2=",
        "output": " 4\n",
        "kind": 7,
    }
    for answer, is_right in (("4", True), (" 4 ", True), ("5", False), ("", False), ("44", False)):
        assert scores(suite, suite.questions[0], [answer]) == {"acc": is_right}
    content = (tmp_path / "rows.parquet").read_bytes()
    assert suite.config["data_sha256"] == hashlib.sha256(content).hexdigest()


def test_custom_infill_is_compared_whole(tmp_path):
    columns = {"text": ["a [M][M] c [M]"], "answer": ["a bb c d"]}

    suite = custom(
        tmp_path,
        columns,
        task="infill",
        prompt_column="text",
        mask_token="[M]",
        reference_column="answer",
    )

    assert pieces_of(suite.questions[0]) == ("a ", 2, " c ", 1)
    assert scores(suite, suite.questions[0], ["bb", "d"]) == {"acc": True}
    assert scores(suite, suite.questions[0], ["bb", "e"]) == {"acc": False}


def test_custom_segments_and_own_lengths(tmp_path):
    parts = [{"text": "x=", "hole": None, "id": None}, {"text": None, "hole": 3, "id": "n"}]

    infill = custom(
        tmp_path, {"segments": [parts], "want": ["x=1"]}, task="infill", reference_column="want"
    )
    prompts = custom(
        tmp_path, {"prompt": ["x"], "max_new_tokens": [9], "want": ["y"]}, reference_column="want"
    )

    assert pieces_of(infill.questions[0]) == ("x=", 3)
    assert pieces_of(prompts.questions[0]) == ("x", 9)
    assert infill.config["max_new_tokens"] is prompts.config["max_new_tokens"] is None


def test_custom_segments_are_asked_with_their_ids_and_priorities(tmp_path):
    parts = [{"hole": 1, "id": "a", "priority": 5}, {"text": "b"}, {"hole": 1, "priority": 1}]
    shape = pa.struct(
        [("text", pa.string()), ("hole", pa.int64()), ("id", pa.string()), ("priority", pa.int64())]
    )
    columns = {"segments": pa.array([parts], pa.list_(shape)), "want": ["abc"]}

    suite = custom(tmp_path, columns, task="infill", reference_column="want")
    other = replace(suite, questions=(replace(suite.questions[0], text=TextTemplate([Hole(1)])),))
    [file] = input_files([suite], [1], seed=0)

    [asked] = pq.read_table(pa.BufferReader(file.content)).to_pylist()
    assert asked["segments"] == [
        {"text": None, "hole": 1, "id": "a", "priority": 5},
        {"text": "b", "hole": None, "id": None, "priority": None},
        {"text": None, "hole": 1, "id": None, "priority": 1},
    ]
    assert suite_hash(suite) != suite_hash(other)


def test_a_custom_file_may_have_columns_that_are_named_like_parameters(tmp_path):
    columns = {"prompt": ["x"], "order": [3], "history": ["long"], "want": ["y"]}

    suite = custom(tmp_path, columns, reference_column="want")

    assert json.loads(suite.questions[0].problem.input)["order"] == 3


def test_a_scorer_sees_the_row_and_the_answer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_scorer.py").write_text(
        "def near(row, answer):\n    return answer.isdigit() and abs(int(answer) - row['n']) < 2\n"
        "def one(row, answer):\n    return 1.0\n"
        "def half(row, answer):\n    return 0.5\n"
    )
    columns = {"prompt": ["n?"], "n": [7]}
    path = list(sys.path)

    near, one, half = (
        custom(tmp_path, columns, scorer=f"own_scorer:{name}") for name in ("near", "one", "half")
    )

    assert sys.path == path
    assert [scores(near, near.questions[0], [text])["acc"] for text in "689x"] == [
        *(True, True, False, False)
    ]
    assert scores(one, one.questions[0], ["x"]) == {"acc": True}
    with pytest.raises(Refused, match=r"own_scorer:half returned 0\.5: True or False, 1 or 0"):
        scores(half, half.questions[0], ["x"])
    source = (tmp_path / "own_scorer.py").read_bytes()
    assert near.config["scorer"] == "own_scorer:near"
    assert near.config["scorer_sha256"] == hashlib.sha256(source).hexdigest()


@pytest.mark.parametrize(
    ("scorer", "words"),
    [
        ("own", "module:function is expected"),
        (":f", "module:function is expected"),
        ("m:f()", "module:function is expected"),
        ("no_such_module:f", "no_such_module cannot be imported"),
        (".relative:f", "cannot be imported"),
        ("math:no_such", "math has no function no_such"),
        ("math:pi", "math has no function pi"),
    ],
)
def test_a_scorer_that_is_not_there_is_refused(tmp_path, scorer, words):
    with pytest.raises(Refused, match=words.replace("(", r"\(")):
        custom(tmp_path, {"prompt": ["x"]}, scorer=scorer)


@pytest.mark.parametrize(
    ("columns", "options", "words"),
    [
        ({"prompt": ["x"]}, {}, "either --reference-column or --scorer"),
        (
            {"prompt": ["x"]},
            {"reference_column": "prompt", "scorer": "math:pi"},
            "and not both",
        ),
        ({"prompt": ["x"]}, {"reference_column": "y"}, "has no column 'y'; it has prompt"),
        ({"text": ["x"]}, {"reference_column": "text"}, "task generate reads prompt"),
        ({"prompt": ["x"], "y": [3]}, {"reference_column": "y"}, "row 0: column 'y' is 3, not a"),
        ({"prompt": ["x", None]}, {"reference_column": "prompt"}, "row 1: "),
        *(
            (
                {"prompt": ["x"], "y": ["1"], name: [4]},
                {"reference_column": "y"},
                f"rows.parquet: column '{name}' would be ignored, as --{name} says it",
            )
            for name in ("steps", "seed")
        ),
        ({"prompt": pa.array([], pa.string())}, {"reference_column": "prompt"}, "it has no rows"),
        (
            {"text_with_masks": ["no hole"]},
            {"task": "infill", "reference_column": "text_with_masks"},
            "row 0: .*at least one hole",
        ),
    ],
)
def test_a_custom_file_that_cannot_be_asked_is_refused(tmp_path, columns, options, words):
    with pytest.raises(Refused, match=words):
        custom(tmp_path, columns, **options)


def test_a_custom_file_that_is_no_parquet_is_refused(tmp_path):
    (tmp_path / "rows.parquet").write_text("prompt\nx\n")

    for name in ("rows.parquet", "none.parquet"):
        with pytest.raises(Refused, match="not readable as Parquet"):
            build_suite("custom", SuiteOptions(data=str(tmp_path / name), reference_column="y"))
