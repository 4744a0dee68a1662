"""The commands: every setting is a flag, and each kind of end has its exit code."""

from __future__ import annotations

import inspect
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.__main__ import main, run
from jobs.common.options import NOT_SETTINGS
from jobs.fill.config import JobSpec
from jobs.fill.ledger import CommitLog
from jobs.fill.manifest import finalize
from tests.jobs.fill.jobfolder import begin, commit


@pytest.fixture
def prompts(tmp_path):
    pq.write_table(pa.table({"prompt": ["a", "b"]}), tmp_path / "in.parquet")
    return tmp_path / "in.parquet"


def call(capsys, *arguments):
    """Exit code and what was printed."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return end.value.code or 0, printed.out + printed.err


def run_flags(prompts, out):
    return ["run", "-i", prompts, "-o", out, "--task", "generate", "--model", "embedded"]


def test_every_setting_is_a_flag_and_every_flag_a_setting():
    flags = set(inspect.signature(run).parameters) - {"ctx"} - set(NOT_SETTINGS)

    assert flags == set(JobSpec.model_fields)


def test_every_command_explains_itself(capsys):
    for command in ("run", "resume", "status", "verify", "evaluate", "train"):
        code, text = call(capsys, command, "--help")

        assert code == 0
        assert "Usage" in text


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--steps", "0"], "steps=0 is not valid"),
        (["--model", "/no/such/folder"], "no such folder"),
        (["--device", "warp"], "device='warp' is not valid"),
        (["--prompt-column", "question"], "no column 'question'"),
        (["--no-such-flag"], "No such option"),
        (["--on-row-error", "ignore"], "on_row_error"),
    ],
)
def test_what_cannot_work_is_refused_and_leaves_nothing_behind(
    capsys, tmp_path, prompts, more, message
):
    code, text = call(capsys, *run_flags(prompts, tmp_path / "out"), *more)

    assert code == 2
    assert message in text
    assert not (tmp_path / "out").exists()


def test_a_truncated_input_file_is_named(capsys, tmp_path, prompts):
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(prompts.read_bytes()[:-10])

    code, text = call(capsys, *run_flags(tmp_path / "*.parquet", tmp_path / "out"))

    assert code == 2
    assert str(bad) in text


def test_a_folder_that_holds_something_else_is_not_written_to(capsys, tmp_path, prompts):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")

    for more in ([], ["--overwrite"]):
        code, text = call(capsys, *run_flags(prompts, tmp_path / "out"), *more)

        assert code == 2
        assert "holds no job" in text
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes.txt"]


def test_input_inside_the_output_is_refused(capsys, tmp_path, prompts):
    code, text = call(capsys, *run_flags(prompts, tmp_path))

    assert code == 2
    assert "lies inside --output" in text


def test_a_job_of_other_settings_is_refused_with_the_differences(capsys, tmp_path, prompts):
    folder, _ = begin(tmp_path / "out", 2)
    before = sorted(path.name for path in folder.meta.iterdir())

    code, text = call(capsys, *run_flags(prompts, folder.out), "--steps", 8)

    assert code == 2
    assert "steps: null -> 8" in text
    assert "input_sha256" in text
    assert sorted(path.name for path in folder.meta.iterdir()) == before


def test_status_and_verify_need_no_ray(capsys, tmp_path):
    folder, record = begin(tmp_path / "out", 3)
    commit(folder, "part-a-00000000", 0, 3)

    code, text = call(capsys, "verify", "-o", folder.out)
    assert code == 4
    assert "state    stopped" in text

    finalize(folder, record)
    code, text = call(capsys, "status", "-o", folder.out, "--json")
    assert (code, json.loads(text)["state"]) == (0, "finished")
    code, text = call(capsys, "verify", "-o", folder.out, "--deep")
    assert (code, text) == (0, "3 rows in and out, each of them once\n")

    folder.parts()[0].unlink()
    assert call(capsys, "verify", "-o", folder.out)[0] == 1


def test_verify_counts_nothing_before_it_looks_so_a_damaged_part_is_a_problem(capsys, tmp_path):
    folder, record = begin(tmp_path / "out", 3)
    part = commit(folder, "part-a-00000000", 0, 3)
    finalize(folder, record)
    part.write_bytes(b"")
    folder.lock.write_bytes(b"\xff")

    code, text = call(capsys, "verify", "-o", folder.out)
    assert (code, part.name in text) == (1, True)
    code, text = call(capsys, "status", "-o", folder.out)
    assert (code, f"damaged  {part.name}" in text) == (0, True)


@pytest.mark.parametrize("out", ["/proc/xx", "/dev/null/x"])
def test_an_output_that_cannot_be_written_is_an_error_in_words(capsys, prompts, out):
    code, text = call(capsys, *run_flags(prompts, out))

    assert code == 1
    assert text.startswith("error: ")
    assert "Traceback" not in text


@pytest.mark.parametrize("change", ["replaced", "gone"])
def test_a_job_whose_input_changed_while_it_ran_is_not_finished(
    capsys, tmp_path, prompts, monkeypatch, change
):
    def fill(folder, record, found, lock, tally):
        CommitLog(folder).take_over()
        commit(folder, "part-a-00000000", 0, 2, path=str(prompts))
        prompts.unlink()
        if change == "replaced":
            pq.write_table(pa.table({"prompt": ["c", "d"]}), prompts)

    monkeypatch.setattr("jobs.fill.drive._fill_rows", fill)
    code, text = call(capsys, *run_flags(prompts, tmp_path / "out"))

    assert code == 1
    assert str(prompts) in text
    assert not (tmp_path / "out" / "_SUCCESS").exists()


def test_commands_on_a_folder_without_a_job_are_refused(capsys, tmp_path):
    for command in ("status", "verify", "resume"):
        code, text = call(capsys, command, "-o", tmp_path)

        assert code == 2
        assert "holds no job" in text


def test_a_config_file_alone_is_enough(capsys, tmp_path, prompts):
    config = tmp_path / "job.yaml"
    config.write_text(
        f"input: {prompts}\noutput: {prompts.parent}\ntask: generate\nmodel: embedded"
    )

    code, text = call(capsys, "run", "--config", config)

    assert code == 2
    assert "lies inside --output" in text


def test_an_input_without_rows_is_done_at_once(capsys, tmp_path):
    pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), tmp_path / "in.parquet")

    code, text = call(capsys, *run_flags(tmp_path / "in.parquet", tmp_path / "out"))

    assert code == 0
    assert "rows     0 of 0" in text
    assert call(capsys, "verify", "-o", tmp_path / "out")[0] == 0
