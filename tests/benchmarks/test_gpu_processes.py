"""The benchmark of a GPU loses nothing where a phase fails or hangs, or the run is interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu.__main__ import main
from benchmarks.gpu.log import Log
from benchmarks.gpu.record import Finding, read
from benchmarks.gpu.supervisor import Setup, run
from tests.benchmarks import failing_phases

ROOT = Path(__file__).parents[2]
REGISTRY = failing_phases.__name__
INTERRUPTED = f"""
import sys
from benchmarks.gpu.__main__ import main
words = ["--device", "cpu", "--size", "tiny", "--phases", "waits,last", "--output", sys.argv[1]]
main(words, registry={REGISTRY!r})
"""


def setup(path: Path) -> Setup:
    return Setup(
        registry=REGISTRY,
        phases=failing_phases.PHASES,
        device="cpu",
        size="tiny",
        degree=1,
        log=Log(path),
    )


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    return tmp_path / "gpu.jsonl"


def test_what_fails_is_recorded_with_its_text_and_the_next_phase_runs(path):
    names = ["first", "fails", "hangs", "dies", "last"]

    run(setup(path), {name: failing_phases.PHASES[name].seconds for name in names}, 300)

    found = read(path).phases
    assert list(found) == names
    assert [len(attempt.findings) for attempt in found.values()] == [1, 1, 1, 1, 1]
    assert {name: attempt.error for name, attempt in found.items()} == {
        "first": "",
        "fails": "KeyError: 'no such kernel'",
        "hangs": "took longer than its time",
        "dies": "ended by SIGSEGV",
        "last": "",
    }
    assert "in hang" in found["hangs"].log
    assert "Segmentation fault" in found["dies"].log
    page = path.with_suffix(".md").read_text()
    for told in ("found before the hang", "ended by SIGSEGV", "no such kernel"):
        assert told in page


def test_phases_without_time_left_are_named(path):
    run(setup(path), {"first": 60, "last": 60}, total_s=0)

    errors = [attempt.error for attempt in read(path).phases.values()]
    assert errors == ["not begun: no time left"] * 2


def test_a_phase_ends_when_the_time_of_the_whole_run_is_over(path):
    started = time.monotonic()

    run(setup(path), {"waits": 60, "last": 60}, total_s=0.5)

    phases = read(path).phases
    assert time.monotonic() - started < 50
    assert list(phases) == ["waits", "last"]
    assert phases["waits"].error == "ended: the time of the whole run is over"
    assert phases["last"].error == "not begun: no time left"


def test_an_interrupted_run_keeps_its_lines_and_leaves_no_process(tmp_path):
    words = [sys.executable, "-c", INTERRUPTED, str(tmp_path)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "found before the hang" in line:
            break

    process.terminate()

    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    path = next(tmp_path.glob("*.jsonl"))
    phases = read(path).phases
    assert {name: attempt.error for name, attempt in phases.items()} == {"waits": "interrupted"}
    assert [finding.what for finding in phases["waits"].findings] == ["found before the hang"]
    assert str(path) not in _commands()


def _commands() -> str:
    """The command lines of all processes."""
    return subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True).stdout


def test_phases_refuses_unknown_names_and_says_which_there_are(capsys):
    with pytest.raises(SystemExit):
        main(["--phases", "rates,stepps"])

    told = capsys.readouterr().err
    assert "stepps: not one of" in told
    assert "linears" in told


def test_a_later_run_of_a_phase_counts_and_the_others_stay(path):
    log = Log(path)
    for value in (1.0, 2.0):
        log.begin("a", "")
        log.add("a", Finding(what="speed", value=value))
        log.end("a", 1.0)
        log.begin(f"b{value}", "")

    assert [finding.value for finding in log.record().findings] == [2.0]
    assert set(log.record().phases) == {"a", "b1.0", "b2.0"}


def test_a_line_that_was_cut_off_costs_no_other(path):
    log = Log(path)
    log.begin("a", "")
    log.add("a", Finding(what="one", value=1.0))
    with path.open("a") as file:
        file.write('{"kind": "find')

    again = Log(path)
    again.add("a", Finding(what="two", value=2.0))

    assert [finding.what for finding in again.record().findings] == ["one", "two"]
