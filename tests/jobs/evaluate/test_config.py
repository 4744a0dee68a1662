"""The settings of an evaluation: flags, lists, presets, and the jobs and questions they make."""

from __future__ import annotations

import inspect
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.__main__ import main
from jobs.common.errors import Refused
from jobs.common.options import NOT_SETTINGS
from jobs.common.settings import ModelSettings
from jobs.evaluate.command import evaluate
from jobs.evaluate.config import KEPT, EvalSpec, Variant, load_eval_spec
from jobs.evaluate.questions import input_files, question_seed, refuse_trivial
from jobs.evaluate.suites import build_suites
from jobs.fill.columns import input_columns
from tests.jobs.evaluate.pieces import pieces_of

BASE = {"suite": "infill-eq", "model": "embedded", "output": "/out"}


def spec_of(**more):
    return load_eval_spec(BASE | more)


def test_every_setting_is_a_flag_and_every_flag_a_setting():
    flags = set(inspect.signature(evaluate).parameters) - {"ctx"} - set(NOT_SETTINGS)

    assert flags == set(EvalSpec.model_fields)


def test_lists_are_read_with_commas_bars_or_as_yaml_has_them(tmp_path):
    config = tmp_path / "job.yaml"
    config.write_text("suite: [infill-eq, 'sudoku4|lists']\nsteps: [1, full]\nmodel: embedded\n")

    spec = load_eval_spec({"output": "/out", "alg": "entropy, origin,entropy"}, config)

    assert spec.suite == ["infill-eq", "sudoku4", "lists"]
    assert spec.steps == [1, "full"]
    assert spec.alg == ["entropy", "origin"]
    assert spec_of(steps="4,2|full", givens=None).steps == [4, 2, "full"]
    assert spec_of(suite="sudoku4", givens=8).givens == [8]
    assert spec_of(steps="1,01,1", givens=[4, "4"]).steps == [1]
    assert spec_of(suite="sudoku4", givens=[4, "4"]).givens == [4]


def test_variants_are_every_algorithm_by_every_order_and_origin_once():
    spec = spec_of(alg="entropy,origin", order="random,confidence")

    assert spec.variants == [
        Variant(alg="entropy", order="random"),
        Variant(alg="entropy", order="confidence"),
        Variant(alg="origin", order="confidence"),
    ]
    assert [variant.name for variant in spec.variants][2] == "origin-confidence"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"steps": "0"}, "steps: 0 is not valid: full, or integers"),
        ({"steps": "all"}, "^steps='all' is not valid: a valid integer or 'full'$"),
        ({"alg": "entropy,greedy"}, "^alg='greedy' is not valid: 'origin', "),
        ({"alg": "origin", "order": "random"}, "has no order"),
        ({"temperature": -1}, "temperature=-1.0 is not valid"),
        ({"preset": "no-such"}, "official-planning"),
        (
            {"preset": "official-planning", "suite": "countdown4,lists"},
            "^preset='official-planning' is not valid: it is for countdown3, .*, not lists$",
        ),
        ({"givens": "4,x"}, "^givens='x' is not valid: a valid integer$"),
        ({"step": "1"}, "did you mean steps"),
        ({"suite": ""}, "^suite=.* is not valid: List should have at least 1 item"),
        ({"prompt_style": "verse"}, "^prompt_style='verse' is not valid: 'native' or 'few-shot'$"),
        ({"replicas": 0}, "^replicas=0 is not valid: greater than or equal to 1$"),
    ],
)
def test_what_cannot_work_is_refused_by_name(changed, message):
    with pytest.raises(Refused, match=message):
        spec_of(**changed)


def test_the_preset_of_a_model_gives_its_sampling_to_any_suite():
    spec = spec_of(preset="dream-v0-instruct", top_p=0.5)
    params = spec.job(spec.variants[0]).sampling()

    assert (params.temperature, params.top_p) == (0.1, 0.5)


def test_a_preset_gives_values_that_flags_beat():
    spec = spec_of(suite="countdown4", preset="official-planning", steps="8")

    assert (spec.steps, spec.top_k, spec.shots, spec.prompt_style) == ([8], 50, 8, "few-shot")
    official = spec_of(suite="countdown4,sudoku4", preset="official-planning", num=2)
    assert official.steps == [512]
    suites = build_suites(official.suite, official.options())
    assert {(s.name, pieces_of(s.questions[0])[-1]) for s in suites} == {
        ("countdown4", 32),
        ("sudoku4", 24),
    }


def test_a_job_has_every_shared_setting_and_its_own_algorithm_and_order():
    spec = spec_of(
        temperature=0.5, top_k=3, seed=7, replicas=2, commit_rows=9, eps=0.01, dtype="float16"
    )

    job = spec.job(Variant(alg="origin", order="confidence"))

    for name in set(ModelSettings.model_fields) - {"output", "steps", "alg", "order"}:
        assert getattr(job, name) == getattr(spec, name)
    assert (job.alg, job.order, job.record_order) == ("origin", "confidence", True)
    assert job.output == "/out/variants/origin-confidence"
    assert job.input == ["/out/_eval/input"]


def test_what_changes_no_answer_is_no_part_of_the_identity():
    same = spec_of(replicas=3, commit_rows=5, output="/elsewhere")

    assert same.identity() == spec_of().identity()
    for changed in ({"num": 3}, {"steps": "2"}, {"seed": 1}, {"alg": "origin"}, {"top_p": 0.5}):
        assert spec_of(**changed).identity() != spec_of().identity()


def test_the_questions_are_rows_that_a_job_reads_with_paired_seeds():
    spec = spec_of(suite="infill-eq,sudoku4", givens="6", num=3, steps="2,full", seed=5)
    suites = build_suites(spec.suite, spec.options())

    files = input_files(suites, spec.steps, spec.seed)

    assert [file.name for file in files] == ["00-infill-eq.parquet", "01-sudoku4.parquet"]
    assert files == input_files(suites, spec.steps, spec.seed)
    assert len({pq.read_schema(io.BytesIO(file.content)) for file in files}) == 1
    table = pq.read_table(io.BytesIO(files[1].content))
    columns = input_columns(spec.job(spec.variants[0]), table.schema)
    assert (columns.layout, columns.keep) == ("segments", tuple(KEPT))
    rows = table.to_pylist()
    assert [(row["question"], row["steps_asked"], row["steps"]) for row in rows] == [
        *((n, "2", 2) for n in range(3)),
        *((n, "full", 10) for n in range(3)),
    ]
    assert [row["seed"] for row in rows] == 2 * [question_seed(5, "sudoku4", n) for n in range(3)]
    assert len({row["seed"] for row in rows}) == 3


def test_rows_of_any_parquet_file_go_the_same_way(tmp_path):
    rows = {"prompt": ["2+2=", "3+3="], "answer": ["4", "6"], "kind": ["a", "b"]}
    pq.write_table(pa.table(rows), tmp_path / "own.parquet")
    own = {"data": str(tmp_path / "own.parquet"), "reference_column": "answer"}

    spec = spec_of(suite="custom", max_new_tokens=3, bucket_column="kind", seed=4, **own)
    suites = build_suites(spec.suite, spec.options())

    ((_, content),) = input_files(suites, spec.steps, spec.seed)
    table = pq.read_table(io.BytesIO(content)).to_pylist()
    assert [row["bucket"] for row in table] == ["a", "b"]
    assert [segment["hole"] for segment in table[0]["segments"]] == [None, 3]
    assert [row["seed"] for row in table] == [question_seed(4, "custom", n) for n in range(2)]


EMPTY_GRID = {"suite": "sudoku4", "givens": "0,4", "num": 3}


@pytest.mark.parametrize(
    ("more", "fixed"),
    [
        ({}, "entropy, confidence"),
        ({"alg_temp": 0}, "entropy, confidence"),
        ({"order": "random,left_to_right", "alg_temp": 1}, "entropy, left_to_right"),
        ({"alg": "origin,entropy"}, "entropy, confidence"),
    ],
)
def test_questions_that_are_all_the_same_are_refused_where_a_variant_draws_nothing(more, fixed):
    spec = spec_of(**EMPTY_GRID, **more)
    (suite,) = build_suites(spec.suite, spec.options())

    with pytest.raises(Refused) as refusal:
        refuse_trivial(suite, spec)

    assert (
        f"bucket 0 givens: its 3 questions are all the same, and so are the answers of {fixed}"
        in (str(refusal.value))
    )
    for way_out in ("--temperature 1", "--alg-temp 1", "--order random", "--alg origin"):
        assert way_out in str(refusal.value)


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": 1},
        {"alg_temp": 0.5},
        {"order": "random"},
        {"alg": "origin"},
        {"egi_temperature": 1},
    ],
)
def test_one_question_is_asked_many_times_where_answers_are_drawn(more):
    spec = spec_of(**EMPTY_GRID, **more)
    (suite,) = build_suites(spec.suite, spec.options())

    refuse_trivial(suite, spec)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--suite", "chess"], "no suite 'chess'"),
        (["--suite", "sudoku4", "--givens", "0", "-n", "5"], "--temperature 1"),
        (["--suite", "lists", "--givens", "4"], "givens"),
        (["--suite", "lists", "--model", "/no/such/folder"], "no such folder"),
        (["--suite", "lists", "--alg", "best"], "alg"),
        ([], "--suite is required"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(capsys, tmp_path, more, message):
    given = ["evaluate", "-o", str(tmp_path / "out"), "--steps", "1"]
    if "--model" not in more:
        given += ["--model", "embedded"]

    with pytest.raises(SystemExit) as end:
        main([*given, *more])

    assert end.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_else_is_not_written_to(capsys, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    given = ["evaluate", "-o", str(tmp_path), "--suite", "lists", "-n", "2", "--model", "embedded"]

    for more in ([], ["--overwrite"]):
        with pytest.raises(SystemExit) as end:
            main([*given, *more])
        assert end.value.code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
