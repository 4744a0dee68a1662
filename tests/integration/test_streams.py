"""Streams, chats and tokens over a running Serve, by the real openai client and by bare bytes."""

from __future__ import annotations

import asyncio
import json

import httpx
import openai
import pytest

from dream.chat import Turn, chat_pieces
from dream.text import TextTemplate
from tests.integration.test_http import until

pytestmark = pytest.mark.ray

SUDOKU = "S:1034/0402/2100/4021="
SOLVED = "1234/3412/2143/4321"
MODES = ["text", "steps", "snapshots"]


def wanted(**fields):
    return {"model": "embedded", "prompt": SUDOKU, "max_tokens": 24, "seed": 3} | fields


def events_of(response: httpx.Response) -> list[dict[str, object] | str]:
    lines = [line for line in response.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


@pytest.mark.parametrize("mode", MODES)
def test_a_stream_adds_up_to_the_answer_in_every_mode(server, mode):
    body = wanted(temperature=0.7, n=2, diffusion={"stream": mode})
    answer = server.http.post("/v1/completions", json=body).json()

    response = server.http.post(
        "/v1/completions",
        json=body | {"stream": True, "stream_options": {"include_usage": True}},
    )

    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    *chunks, last = events_of(response)
    for choice in answer["choices"]:
        mine = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == choice["index"]]
        assert "".join(part["text"] for part in mine) == choice["text"]
        assert mine[-1]["finish_reason"] == choice["finish_reason"]
        assert mine[-1]["diffusion"] == choice["diffusion"]
        assert [part["finish_reason"] for part in mine[:-1]] == [None] * (len(mine) - 1)
    assert last["choices"] == []
    assert last["usage"] == answer["usage"]
    assert {chunk["id"] for chunk in chunks} == {last["id"]}
    kinds = {chunk["diffusion"]["event"] for chunk in chunks if chunk["diffusion"]}
    expected = {
        "text": set(),
        "steps": {"canvas", "step", "done"},
        "snapshots": {"snapshot", "done"},
    }
    assert kinds == expected[mode]


def test_a_trace_is_what_a_stream_of_steps_tells(server):
    body = {"model": "embedded", "segments": [{"text": "S:1"}, {"hole": 3}], "seed": 3}
    answer = server.http.post("/v1/infill", json=body | {"diffusion": {"trace": True}}).json()
    streamed = server.http.post(
        "/v1/infill", json=body | {"diffusion": {"stream": "steps"}, "stream": True}
    )

    told = [chunk["diffusion"] for chunk in events_of(streamed) if chunk["diffusion"]]
    assert answer["choices"][0]["diffusion"]["trace"] == told


def test_the_openai_client_reads_streams_of_completions(server):
    stream = server.openai.completions.create(**wanted(stream=True))

    assert "".join(chunk.choices[0].text for chunk in stream) == SOLVED


@pytest.mark.parametrize("mode", MODES)
def test_the_openai_client_reads_streams_of_chats_and_skips_what_it_does_not_know(server, mode):
    messages = [{"role": "user", "content": "sort 21="}]
    fields = {"model": "embedded", "messages": messages, "max_tokens": 8}
    extra = {"diffusion": {"stream": mode}}
    answer = server.openai.chat.completions.create(**fields, extra_body=extra)

    plain = server.openai.chat.completions.create(**fields, extra_body=extra, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in plain)
    with server.openai.chat.completions.stream(**fields, extra_body=extra) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()

    assert text == final.choices[0].message.content == answer.choices[0].message.content
    assert final.choices[0].finish_reason == answer.choices[0].finish_reason


def test_the_asynchronous_client_streams_too(server):
    async def run() -> str:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            stream = await client.completions.create(**wanted(stream=True))
            return "".join([chunk.choices[0].text async for chunk in stream])

    assert asyncio.run(run()) == SOLVED


def test_a_chat_is_the_completion_of_its_template(server):
    turns = [
        ("system", "Be brief."),
        ("user", "sort 21="),
        ("assistant", "12"),
        ("user", "copy a="),
    ]
    messages = [{"role": role, "content": content} for role, content in turns]
    pieces = chat_pieces([Turn(*turn) for turn in turns])
    template = TextTemplate(pieces)
    ids = server.http.post("/v1/tokenize", json={"model": "embedded", "messages": messages}).json()[
        "tokens"
    ]

    chat = server.http.post(
        "/v1/chat/completions",
        json={"model": "embedded", "messages": messages, "max_tokens": 6},
    ).json()
    completion = server.http.post(
        "/v1/completions", json={"model": "embedded", "prompt": ids, "max_tokens": 6}
    ).json()
    text = server.http.post("/v1/detokenize", json={"model": "embedded", "tokens": ids}).json()

    assert chat["object"] == "chat.completion"
    assert chat["usage"]["prompt_tokens"] == len(ids)
    assert chat["choices"][0]["message"]["role"] == "assistant"
    if chat["choices"][0]["finish_reason"] == "length":
        assert chat["choices"][0]["message"]["content"] == completion["choices"][0]["text"]
    said = "".join(piece if isinstance(piece, str) else piece.name for piece in template.pieces)
    assert text["prompt"] == said


def test_a_prefix_is_continued_and_not_repeated(server):
    messages = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "sort"}, {"type": "text", "text": " 21"}],
        },
        {"role": "assistant", "content": "S:10", "prefix": True},
    ]
    body = {"model": "embedded", "messages": messages, "max_tokens": 3}

    answer = server.http.post("/v1/chat/completions", json=body)
    infill = server.http.post(
        "/v1/infill",
        json={"model": "embedded", "messages": messages, "segments": [{"hole": 3}, {"text": "/"}]},
    ).json()

    assert answer.status_code == 200
    assert not answer.json()["choices"][0]["message"]["content"].startswith("S:10")
    assert infill["choices"][0]["text"].endswith("/")
    assert infill["usage"]["prompt_tokens"] == answer.json()["usage"]["prompt_tokens"] + 1


def test_logprobs_change_no_token(server):
    plain = server.openai.completions.create(**wanted())
    told = server.openai.completions.create(**wanted(logprobs=2))

    assert told.choices[0].text == plain.choices[0].text == SOLVED
    logprobs = told.choices[0].logprobs
    assert "".join(logprobs.tokens) == SOLVED
    assert logprobs.text_offset == list(range(len(SOLVED)))
    assert all(value <= 0 for value in logprobs.token_logprobs)
    assert {len(top) for top in logprobs.top_logprobs} == {2}
    chat = server.openai.chat.completions.create(
        model="embedded",
        messages=[{"role": "user", "content": "S"}],
        max_tokens=4,
        logprobs=True,
        top_logprobs=1,
    )
    content = chat.choices[0].message.content
    assert "".join(t.token for t in chat.choices[0].logprobs.content) == content


def test_quality_by_either_name_resolves_to_the_models_values(server):
    shown = server.openai.models.retrieve("embedded").quality

    named = server.openai.completions.create(
        **wanted(extra_body={"diffusion": {"quality": "fast"}})
    )
    effort = server.openai.completions.create(**wanted(extra_body={"reasoning_effort": "low"}))
    given = server.openai.completions.create(
        **wanted(extra_body={"diffusion": {"quality": "fast", "threshold": 0.8}})
    )

    resolved = named.choices[0].diffusion["resolved"]
    assert {name: resolved[name] for name in shown["fast"]} == shown["fast"]
    assert effort.choices[0].diffusion["resolved"] == resolved
    assert given.choices[0].diffusion["resolved"]["threshold"] == 0.8
    assert given.choices[0].diffusion["resolved"]["entropy_bound"] is None


def test_a_refusal_of_a_stream_has_its_status(server):
    response = server.http.post("/v1/completions", json=wanted(stream=True, max_tokens=2000))

    assert (response.status_code, response.json()["error"]["code"]) == (
        400,
        "context_length_exceeded",
    )


def test_an_editors_fill_in_the_middle_is_a_completion(server):
    body = {"model": "embedded", "prompt": "S:1234/", "suffix": "/2143/4321", "max_tokens": 4}

    fim = server.http.post("/v1/fim/completions", json=body | {"random_seed": 7}).json()
    plain = server.http.post("/v1/completions", json=body | {"seed": 7}).json()

    assert fim["choices"] == plain["choices"]


def test_a_client_that_leaves_a_stream_frees_its_canvases(server):
    body = wanted(prompt="Once", max_tokens=450, temperature=1.0, stream=True)
    body |= {"n": 4, "diffusion": {"early_exit": False, "stream": "steps"}}
    with server.http.stream("POST", "/v1/completions", json=body) as response:
        lines = response.iter_lines()
        until(lambda: next(lines).startswith("data: "))
        assert server.stats()["requests"] == 4

    until(lambda: server.stats()["requests"] == 0)
