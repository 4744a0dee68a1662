"""Requests whose answers are known before, sent while processes are killed, and what they got."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

RECORD = "DREAM_FAULTS_RECORD"
"""Folder for what was counted, from which `python -m benchmarks.pages` makes a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one test has done and seen.

    served: answered as without a fault. told: streams that had begun and ended with the error event
    `replica_lost`. lost: all others.
    """

    fault: str
    faults: int
    requests: int
    served: int
    told: int
    lost: int
    slowest_s: float

    def record(self) -> None:
        """Append it to the folder, if one is named."""
        if folder := os.environ.get(RECORD):
            Path(folder).mkdir(parents=True, exist_ok=True)
            with (Path(folder) / "faults.jsonl").open("a") as file:
                file.write(json.dumps(asdict(self)) + "\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One request: `served`, `told`, or else how it was lost."""

    outcome: str
    seconds: float


class StreamEnded(Exception):
    """A stream that ended with the error event `replica_lost`."""


Asked = Sequence[Future[list[Answer]]]


def body(number: int, *, num_tokens: int, is_stream: bool) -> dict[str, object]:
    return {
        "model": "embedded",
        "prompt": f"Once {number}",
        "max_tokens": num_tokens,
        "temperature": 1.0,
        "seed": number,
        "stream": is_stream,
        "diffusion": {"early_exit": False, "stream": "steps", "trace": not is_stream},
    }


def steps_of(response: httpx.Response, *, is_stream: bool) -> list[object]:
    """Every step of an answer or a stream, token by token; an error has none and fails."""
    assert response.status_code == 200, response.text
    if not is_stream:
        trace: list[object] = response.json()["choices"][0]["diffusion"]["trace"]
        return trace
    lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    if lines[-1] != "[DONE]" and json.loads(lines[-1]).get("error", {}).get("code") == LOST:
        raise StreamEnded
    assert lines[-1] == "[DONE]", lines[-1]
    return [told for line in lines[:-1] if (told := json.loads(line)["diffusion"]) is not None]


LOST = "replica_lost"


class Load:
    """Requests of which every second is a stream, sent together; their steps are known before."""

    def __init__(self, url: str, num_requests: int, num_tokens: int) -> None:
        """url: of the app."""
        self._client = httpx.Client(base_url=url, timeout=300)
        self._pool = ThreadPoolExecutor(num_requests)
        self._num_tokens = num_tokens
        self._is_over = threading.Event()
        self._numbers = range(num_requests)
        self._expected = {number: self._steps(number) for number in self._numbers}

    def start(self, *, again: bool = False) -> Asked:
        """All of them at once; `again`: each anew when it is answered, until `finish`."""
        if not again:
            self._is_over.set()
        return [self._pool.submit(self._ask, number) for number in self._numbers]

    def finish(self, fault: str, faults: int, asked: Asked) -> Outcome:
        """Wait for all, and count; what is lost is printed."""
        self._is_over.set()
        answers = [answer for future in asked for answer in future.result()]
        served = [answer.seconds for answer in answers if answer.outcome == "served"]
        told = sum(answer.outcome == "told" for answer in answers)
        for answer in answers:
            if answer.outcome not in ("served", "told"):
                print(f"lost after {answer.seconds:.1f} s: {answer.outcome}")
        outcome = Outcome(
            fault=fault,
            faults=faults,
            requests=len(answers),
            served=len(served),
            told=told,
            lost=len(answers) - len(served) - told,
            slowest_s=round(max(served, default=0.0), 1),
        )
        outcome.record()
        return outcome

    def close(self) -> None:
        self._is_over.set()
        self._pool.shutdown(cancel_futures=True)
        self._client.close()

    def _ask(self, number: int) -> list[Answer]:
        answers = [self._answer(number)]
        while not self._is_over.is_set():
            answers.append(self._answer(number))
        return answers

    def _answer(self, number: int) -> Answer:
        began = time.monotonic()
        try:
            is_same = self._steps(number) == self._expected[number]
            outcome = "served" if is_same else "another answer"
        except StreamEnded:
            outcome = "told"
        except (AssertionError, httpx.HTTPError) as error:
            outcome = repr(error)
        return Answer(outcome=outcome, seconds=time.monotonic() - began)

    def _steps(self, number: int) -> list[object]:
        is_stream = number % 2 == 1
        asked = body(number, num_tokens=self._num_tokens, is_stream=is_stream)
        response = self._client.post("/v1/completions", json=asked)
        return steps_of(response, is_stream=is_stream)
