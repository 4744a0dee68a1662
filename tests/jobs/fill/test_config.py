"""A job's settings: one name for flag and YAML key, and a fingerprint that guards a resume."""

from __future__ import annotations

import pytest

from dream import EngineConfig, SamplingParams
from dream.options import options_of
from jobs.common.errors import Refused
from jobs.common.fingerprint import digest
from jobs.fill.config import NEUTRAL, JobRecord, JobSpec, load_spec


def another(one):
    """A value that an option allows and that is not its default, nor what None means on a CPU."""
    if one.kind is bool:
        return not one.default
    if one.kind is str:
        return next(choice for choice in reversed(one.choices or ("x",)) if choice != one.default)
    low = 0 if one.low is None else one.low
    values = (0.9, 1.5) if one.kind is float else (1, 2, 3, 5)
    return next(n for n in values if n >= low and n != one.default)


BASE = {"input": ["/in"], "output": "/out", "task": "generate", "model": "embedded"}
OF_JOB = {
    "task": "infill",
    "model": "other/model",
    "prompt_column": "text",
    "id_column": "id",
    "keep_columns": ["a"],
    "parameter_columns": ["steps"],
    "max_new_tokens": 7,
    "mask_token": "_",
    "record_order": True,
    "limit": 10,
}
"""Settings that no declaration of dream has, each with another value than its default."""

DECLARED = {**options_of(SamplingParams), **options_of(EngineConfig)}
SPECIAL = {"device": "cuda", "attention": "sdpa", "cuda_graphs": False}
"""Declared settings for which not every value of their type would do."""

CHANGED = OF_JOB | {
    name: SPECIAL.get(name, another(one)) for name, one in DECLARED.items() if one.changes_tokens
}
NEEDS = {
    "low_threshold": {"threshold": 0.9999},
    "min_commits": {"threshold": 0.8},
    "max_commits": {"threshold": 0.8},
    "refresh_every": {"window": "prefix"},
    "vicinity": {"window": "prefix"},
    "suffix_window": {"block_length": 8},
    "cuda_graphs": {"device": "cuda", "dtype": "bfloat16"},
    "attention": {"device": "cuda", "dtype": "bfloat16"},
}
"""What a setting is refused without."""

UNCHANGED = {
    "input": ["/elsewhere"],
    "output": "/other",
    "replicas": 3,
    "commit_rows": 9,
    "on_row_error": "fail",
    "preset": "none",
} | {name: another(one) for name, one in DECLARED.items() if not one.changes_tokens}


def test_every_setting_is_known_to_matter_or_not():
    assert {*CHANGED, *UNCHANGED} == set(JobSpec.model_fields)
    assert set(UNCHANGED) == NEUTRAL


@pytest.mark.parametrize("field", sorted(CHANGED))
def test_a_setting_that_matters_changes_the_fingerprint(field):
    base = BASE | NEEDS.get(field, {})
    before, after = load_spec(base), load_spec(base | {field: CHANGED[field]})

    assert digest(before.identity()) != digest(after.identity())


@pytest.mark.parametrize("field", sorted(UNCHANGED))
def test_a_setting_that_changes_no_row_leaves_the_fingerprint_alone(field):
    before, after = load_spec(BASE), load_spec(BASE | {field: UNCHANGED[field]})

    assert digest(before.identity()) == digest(after.identity())


def test_what_none_means_on_a_device_is_in_the_fingerprint():
    """A job recorded with `compile: false` and the default of a CPU are the same job."""
    given = [{}, {"compile": False}, {"device": "cuda"}, {"device": "cuda", "compile": True}]

    cpu, plain, cuda, compiled = (load_spec(BASE | one).identity() for one in given)

    assert cpu == plain
    assert cuda == compiled
    assert (cpu["compile"], cuda["compile"]) == (False, True)


def test_differences_name_each_field_with_both_values():
    spec = load_spec(BASE)
    record = JobRecord(
        job_id="j", created_at="now", num_rows=1, spec=spec, identity=spec.identity()
    )

    lines = record.differences(load_spec(BASE | {"steps": 8, "alg": "origin"}).identity())

    assert lines == ['alg: "entropy" -> "origin"', "steps: null -> 8"]
    assert record.differences(spec.identity()) == []
    assert JobRecord.model_validate_json(record.model_dump_json()) == record


def test_a_flag_beats_the_file_and_the_file_beats_the_default(tmp_path):
    config = tmp_path / "job.yaml"
    config.write_text(
        "input: a.parquet\noutput: out\ntask: infill\nmodel: embedded\nsteps: 4\nseed: 9"
    )

    spec = load_spec({"steps": 8}, config)

    assert (spec.steps, spec.seed, spec.commit_rows, spec.task) == (8, 9, 128, "infill")


def test_paths_become_absolute_so_that_a_resume_runs_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()

    spec = load_spec(BASE | {"input": ["in"], "output": "out", "model": "weights"})

    assert spec.input == [f"{tmp_path}/in"]
    assert spec.output == f"{tmp_path}/out"
    assert spec.model == f"{tmp_path}/weights"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temprature": 1.0}, "temprature: no such setting; did you mean temperature?"),
        ({"max-new-tokens": 5}, "did you mean max_new_tokens?"),
        ({"steps": 0}, "steps=0 is not valid"),
        ({"steps": 5000}, "steps=5000 is not valid"),
        ({"alg": "best"}, "alg='best' is not valid: 'origin', "),
        ({"steps": "many"}, "steps='many' is not valid: a valid integer"),
        ({"input": ["a", 3]}, "input=3 is not valid: a valid string"),
        ({"top_p": 2.0}, "top_p=2.0 is not valid"),
        ({"window": "triple"}, "window='triple' is not valid: 'prefix' or 'dual'"),
        ({"vicinity": 2}, "vicinity=2 is not valid: 0 without window"),
        ({"history": 2, "temperature": 1.0}, "history=2 is not valid: 0 unless temperature is 0"),
        ({"grow_to": 4096}, "grow_to=4096 is not valid"),
        ({"order": "random", "alg": "origin"}, "alg 'origin' has no order"),
        ({"task": "translate"}, "task='translate' is not valid: 'generate' or 'infill'"),
        ({"seed": -1}, "seed=-1 is not valid: None or an integer 0.."),
        ({"tensor_parallel": 2, "dtype": "int8"}, "tensor_parallel=2 is not valid: 1 with dtype"),
        ({"max_logit_rows": 0}, "max_logit_rows=0 is not valid: an integer >= 1"),
        ({"cuda_graphs": True}, "cuda_graphs=True is not valid: false: graphs need varlen"),
        ({"limit": 0}, "limit=0 is not valid: greater than"),
        ({"output": "s3://bucket/out"}, "not URIs"),
        ({"output": "a\0b"}, "NUL"),
        ({"input": []}, "input=[] is not valid: List should have at least 1 item"),
    ],
)
def test_a_setting_that_is_wrong_is_refused_and_named(given, message):
    with pytest.raises(Refused) as refusal:
        load_spec(BASE | given)

    assert message in str(refusal.value)


def test_a_missing_setting_is_told_as_a_flag():
    with pytest.raises(Refused, match="--model is required"):
        load_spec({"input": ["a"], "output": "b", "task": "generate"})


@pytest.mark.parametrize("name", ["steps", "temperature", "threads", "limit", "commit_rows"])
def test_a_yes_is_no_number(name):
    with pytest.raises(Refused, match=f"{name}=True is not valid"):
        load_spec(BASE | {name: True})


@pytest.mark.parametrize(
    "text",
    ["[1, 2]", "a: [", "just text", "input: 2001-99-99", "input: " + "[" * 5000, "9" * 5000],
    ids=["list", "open", "text", "no date", "deep", "long number"],
)
def test_a_config_that_is_no_mapping_is_refused(tmp_path, text):
    config = tmp_path / "job.yaml"
    config.write_text(text)

    with pytest.raises(Refused, match=r"job\.yaml"):
        load_spec(BASE, config)


def test_keep_columns_reads_a_star_or_a_list():
    assert load_spec(BASE | {"keep_columns": "*"}).keep_columns is None
    assert load_spec(BASE | {"keep_columns": "a, b"}).keep_columns == ["a", "b"]
    assert load_spec(BASE | {"keep_columns": ""}).keep_columns == []


def test_every_engine_setting_reaches_the_engine_of_a_replica():
    values = {"max_model_len": 99, "max_cache_tokens": 0, "quantum": 7, "parity": True}

    config = load_spec(BASE | values).engine()

    assert {name: getattr(config, name) for name in values} == values
    assert (config.threads, load_spec(BASE | {"threads": 3}).engine().threads) == (1, 3)


def test_a_preset_gives_what_the_job_leaves_out():
    spec = load_spec(BASE | {"preset": "dream-v0-instruct", "temperature": 0.7})
    again = JobSpec.model_validate_json(spec.model_dump_json())
    spelled = load_spec(BASE | {"temperature": 0.7, "top_p": 0.9, "alg_temp": 0.0})

    assert (spec.sampling().temperature, spec.sampling().top_p) == (0.7, 0.9)
    assert spec.identity() == spelled.identity()
    assert again == spec


def test_without_a_preset_the_defaults_are_dreams():
    assert load_spec(BASE).sampling() == load_spec(BASE | {"preset": "none"}).sampling()


def test_a_preset_that_there_is_not_is_refused():
    with pytest.raises(Refused, match=r"preset='best'.*dream-v0-instruct"):
        load_spec(BASE | {"preset": "best"})
