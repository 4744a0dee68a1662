"""The evaluation harness drives the engine: real metrics, and nothing it asks for is ignored."""

from __future__ import annotations

import importlib
import re
import sys
import warnings
from pathlib import Path

import datasets
import pytest
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

import jobs
from dream import (
    Completion,
    Engine,
    EngineConfig,
    Fixed,
    Hole,
    InvalidRequest,
    Request,
    SamplingParams,
    Span,
    Template,
    Usage,
)
from dream.errors import CheckpointError, ContextLengthExceeded
from dream.likelihood import LikelihoodParams
from dream.options import options_of
from jobs.harness.adapter import DreamLM, NotServed
from jobs.harness.args import GenerationArgs, ModelArgs
from tests.models import golden_engine

LENGTHS = ["max_new_tokens", "max_gen_toks"]

GUIDE = (Path(__file__).parents[3] / "docs" / "evaluation-harness.md").read_text(encoding="utf-8")
PUZZLE, GRID, WRONG = "S:1004/0410/2040/0301=", "1234/3412/2143/4321", "1234/3412/2143/4312"


@pytest.fixture(scope="module")
def engine():
    return Engine.from_pretrained("embedded")


@pytest.fixture
def model(engine):
    return DreamLM(engine, ModelArgs(pretrained="embedded", mc_num=16))


class ScriptedEngine:
    """Answers every request with the same tokens, and keeps what it was asked."""

    def __init__(self, tokenizer, answer, max_model_len=2048):
        self.tokenizer, self.answer, self.max_model_len = tokenizer, answer, max_model_len
        self.eos_token_ids = frozenset({256})
        self.asked = []

    def generate(self, requests):
        self.asked += requests
        return [self.completion(request) for request in requests]

    def completion(self, request):
        hole = request.template.holes[0]
        span = Span(id=hole.id, start=hole.start, end=hole.end, token_ids=self.answer)
        usage = Usage(
            prompt_tokens=0, completion_tokens=0, steps=1, forward_passes=1, token_forwards=1
        )
        return Completion(
            id=request.id, token_ids=[], spans=[span], finish_reason="stop", usage=usage
        )


def scripted(engine, text, **options):
    limit = options.pop("max_model_len", 2048)
    fake = ScriptedEngine(engine.tokenizer, text, limit)
    return fake, DreamLM(fake, ModelArgs(pretrained="embedded", **options))


def asks(kind, *arguments):
    return [
        Instance(request_type=kind, doc={}, arguments=args, idx=0, metadata=("t", 0, 1))
        for args in arguments
    ]


def generates(*arguments):
    return asks("generate_until", *arguments)


def scores(*arguments):
    return asks("loglikelihood", *arguments)


def given_ids(request):
    return list(request.template.segments[0].token_ids)


def test_every_option_of_the_adapter_is_in_the_guide_and_the_declared_ones_are_linked():
    declared = {*options_of(SamplingParams), *options_of(EngineConfig)}

    for name in {*ModelArgs.model_fields, *GenerationArgs.model_fields} - declared:
        assert f"`{name}`" in GUIDE
    assert "](decoding.md" in GUIDE
    assert "](jobs.md#engine-settings)" in GUIDE


def test_a_preset_gives_the_sampling_that_model_args_leave_out():
    args = ModelArgs(pretrained="embedded", preset="d3llm-dream", factor=0.5)

    assert (args.sampling().rule, args.sampling().block_length) == ("factor", 32)


def test_the_metrics_count_right_and_wrong_answers():
    """Every second document has a wrong label, so a constant answer cannot pass."""
    rows = [{"grid": GRID, "label": 1}, {"grid": WRONG, "label": 0}]
    common = {
        "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list(rows)},
        "test_split": "test",
        "doc_to_text": PUZZLE,
        "target_delimiter": "",
    }
    fill = common | {
        "task": "fill",
        "output_type": "generate_until",
        "doc_to_target": "grid",
        "generation_kwargs": {"max_gen_toks": 24, "until": ["\n"]},
        "metric_list": [{"metric": "exact_match"}],
    }
    choose = common | {
        "task": "choose",
        "output_type": "multiple_choice",
        "doc_to_choice": [WRONG, GRID],
        "doc_to_target": "label",
        "metric_list": [{"metric": "acc"}],
    }
    say = common | {
        "task": "say",
        "output_type": "loglikelihood",
        "doc_to_target": "grid",
        "metric_list": [{"metric": "acc"}, {"metric": "perplexity"}],
    }

    results = simple_evaluate(
        model="dream",
        model_args="pretrained=embedded,dtype=float32,device=cpu,mc_num=16,steps=24,seed=7",
        tasks=[fill, choose, say],
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
    )["results"]

    assert results["fill"]["exact_match,none"] == 0.5
    assert results["choose"]["acc,none"] == 0.5
    assert results["say"]["acc,none"] == 0.5
    assert results["say"]["perplexity,none"] > 10


def test_requests_of_any_kind_share_a_batch_and_answer_as_alone(engine, model):
    kinds = [
        {"max_gen_toks": 24, "steps": 6, "until": []},
        {"max_gen_toks": 12, "alg": "maskgit_plus", "order": "left_to_right"},
        {"max_new_tokens": 24, "do_sample": True, "temperature": 0.9, "top_p": 0.9, "top_k": 5},
        {"max_gen_toks": 20, "alg": "origin", "eps": 0.01, "seed": 3, "early_exit": False},
    ]
    requests = generates(*((PUZZLE, kind) for kind in kinds))

    together = model.generate_until(requests)

    assert together == [model.generate_until([one])[0] for one in requests]
    params = SamplingParams(steps=6)
    template = Template([Fixed(engine.tokenizer.encode(PUZZLE)), Hole(24)])
    done = engine.generate([Request(id="a", template=template, params=params)])[0]
    assert together[0] == engine.tokenizer.decode(done.spans[0].token_ids)


def test_every_sampling_option_reaches_the_engine(engine):
    fake, model = scripted(engine, [], steps=9, alg_temp=0.2, order="confidence")
    kwargs = {"alg": "topk_margin", "temperature": 0.5, "top_p": 0.8, "top_k": 7, "eps": 0.01}

    model.generate_until(generates((PUZZLE, {"max_gen_toks": 30, "steps": 12, **kwargs})))

    params = fake.asked[0].params
    assert (params.steps, params.alg_temp) == (12, 0.2)
    assert {name: getattr(params, name) for name in kwargs} == kwargs
    assert fake.asked[0].template.num_masked == 30


def test_places_histories_and_windows_reach_the_engine_from_either_side(engine):
    given = {"block_length": 8, "window": "dual", "refresh_every": 4, "eos_frontier": 0}
    fake, model = scripted(engine, [], temperature=0.7, **given)
    kwargs = {"vicinity": 2, "egi_temperature": 0.9, "suffix_window": 16}

    model.generate_until(generates((PUZZLE, kwargs)))

    params = fake.asked[0].params
    wanted = given | kwargs | {"temperature": 0.7}
    assert {name: getattr(params, name) for name in wanted} == wanted


def test_every_engine_setting_is_a_model_arg_and_none_is_changed():
    values = {"max_logit_rows": 9, "quantum": 5, "max_cache_tokens": 0, "compile": False}

    args = ModelArgs(pretrained="embedded", **values)

    assert args.engine() == EngineConfig(**values)
    assert {*options_of(EngineConfig), *options_of(SamplingParams)} < {*ModelArgs.model_fields}
    assert {*options_of(SamplingParams)} < {*GenerationArgs.model_fields}


def test_a_context_leaves_room_for_what_a_hole_may_grow_to(engine):
    fake, model = scripted(engine, [], max_model_len=50, grow_to=30)

    with pytest.warns(UserWarning, match="cut on the left"):
        model.generate_until(generates(("x" * 40, {"max_gen_toks": 10})))

    assert [len(given_ids(fake.asked[0])), fake.asked[0].template.num_masked] == [20, 10]


def test_greedy_denoising_draws_nothing_and_grows_nothing(engine):
    drawn = {"temperature": 0.9, "egi_temperature": 1.0}
    fake, model = scripted(engine, [], grow_to=64, mc_num=1, **drawn)

    with pytest.raises(AttributeError, match="log_likelihood"):  # the fake scores nothing
        model.loglikelihood(scores(("S:", "1234")))

    params = fake.asked[0].params
    assert (params.temperature, params.egi_temperature, params.grow_to) == (0, None, None)


def test_repeats_of_a_prompt_differ_and_the_order_of_requests_does_not_matter(model):
    kwargs = {"max_gen_toks": 12, "do_sample": True, "temperature": 2.0}
    first, second = generates(("S:", kwargs), ("T:", kwargs))

    answers = model.generate_until([first, first, second])

    assert answers[0] != answers[1]
    assert model.generate_until([second, first, first]) == [answers[2], *answers[:2]]


@pytest.mark.parametrize(
    ("until", "text"),
    [
        (["Q:", "\n"], "a b"),
        ("b", "a "),
        ([], "a b\nQ: c"),
        (None, "a b\nQ: c"),
        (["", "zzz"], "a b\nQ: c"),
    ],
)
def test_an_answer_ends_before_the_first_stop_text(engine, until, text):
    _, model = scripted(engine, engine.tokenizer.encode("a b\nQ: c"))

    assert model.generate_until(generates(("p", {"until": until}))) == [text]


def test_an_answer_ends_at_a_turn_mark_in_a_chat_or_where_the_task_names_it(engine):
    encode, end = engine.tokenizer.encode, engine.tokenizer.token_id("<|im_end|>")
    _, model = scripted(engine, [*encode("yes"), end, *encode("no")])
    chat = model.apply_chat_template([{"role": "user", "content": "?"}])

    answers = model.generate_until(
        generates((chat, {}), ("p", {"until": ["<|im_end|>"]}), ("p", {}))
    )

    assert answers == ["yes", "yes", "yesno"]


@pytest.mark.parametrize(
    ("field", "kwargs"),
    [
        ("repetition_penalty", {"repetition_penalty": 1.1}),
        ("diffusion_steps", {"diffusion_steps": 8}),
        ("max_new_tokens", {"max_new_tokens": 8, "max_gen_toks": 9}),
        ("max_gen_toks", {"max_gen_toks": 0}),
        ("until", {"until": ["a", 3]}),
        ("max_gen_toks", {"max_gen_toks": 2048}),
        ("grow_to", {"grow_to": 2048}),
        ("window", {"window": "both"}),
        ("vicinity", {"vicinity": 3}),
        ("history", {"temperature": 0.5, "history": 2}),
        ("num_beams", {"num_beams": 4}),
        ("steps", {"steps": 0}),
        ("alg", {"alg": "greedy"}),
        ("temperature", {"do_sample": True}),
        ("temperature", {"temperature": -1}),
        ("top_k", {"top_k": 0}),
        ("seed", {"seed": -1}),
    ],
)
def test_a_generation_option_that_is_unknown_or_wrong_is_refused_by_name(model, field, kwargs):
    with pytest.raises(InvalidRequest) as error:
        model.generate_until(generates((PUZZLE, kwargs)))

    assert error.value.field == field
    value = kwargs.get(field, 0.0)
    assert error.value.value == (value[-1] if isinstance(value, list) else value)


@pytest.mark.parametrize("names", [["max_new_tokens"], ["max_gen_toks"], LENGTHS])
def test_a_length_has_either_name_or_both_where_they_agree(engine, names):
    fake, model = scripted(engine, [])

    model.generate_until(generates(("p", dict.fromkeys(names, 7))))

    assert fake.asked[0].template.segments[-1] == Hole(7)


def test_two_lengths_are_refused_by_both_names(model):
    words = "max_new_tokens=8 is not valid: the same as max_gen_toks=9: give one of them"

    with pytest.raises(InvalidRequest, match=words):
        model.generate_until(generates((PUZZLE, dict(zip(LENGTHS, (8, 9), strict=True)))))


def test_do_sample_false_is_greedy_and_says_what_it_does_not_use(engine):
    fake, model = scripted(engine, [])

    with pytest.warns(UserWarning, match=r"temperature=0\.7 is not used"):
        model.generate_until(generates(("p", {"do_sample": False, "temperature": 0.7})))

    assert fake.asked[0].params.temperature == 0


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("trust_remote_code", "pretrained=embedded,trust_remote_code=True"),
        ("max_cache_tokens", "pretrained=embedded,max_cache_tokens=-1"),
        ("pretrained", "steps=3"),
        ("steps", "pretrained=embedded,steps=0"),
        ("mc_num", "pretrained=embedded,mc_num=0"),
        ("batch_size", "pretrained=embedded,mc_num=8,mc_batch_size=3"),
        ("dtype", "pretrained=embedded,dtype=int4"),
        ("device", "pretrained=embedded,device=warp"),
    ],
)
def test_a_model_option_that_is_unknown_or_wrong_is_refused_by_name(field, options):
    with pytest.raises(InvalidRequest) as error:
        DreamLM.create_from_arg_string(options, {"device": "cpu"})

    assert error.value.field == field


def test_model_args_beat_the_device_flag_and_a_batch_size_is_not_used():
    flags = {"device": "cuda:7", "batch_size": 8, "max_batch_size": None}

    with pytest.warns(UserWarning, match="batch_size is not used"):
        model = DreamLM.create_from_arg_obj({"pretrained": "embedded", "device": "cpu"}, flags)

    assert model.tokenizer_name == "embedded"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DreamLM.create_from_arg_obj({"pretrained": "embedded"}, {"batch_size": 1})


def test_a_checkpoint_without_a_tokenizer_is_refused():
    with pytest.raises(CheckpointError, match="no tokenizer"):
        DreamLM(golden_engine(), ModelArgs(pretrained="folder"))


def test_a_likelihood_is_the_engines_estimate_of_the_target_and_its_eos(engine):
    encode = engine.tokenizer.encode
    model = DreamLM(engine, ModelArgs(pretrained="embedded", mc_num=1, mc_eps=1 - 1e-9))

    (found, _), (empty, _) = model.loglikelihood(scores(("S: ", "12"), ("", "12")))

    once = LikelihoodParams(mc_num=1, eps=1 - 1e-9)  # masks all
    assert found == pytest.approx(engine.log_likelihood(encode("S:"), [*encode(" 12"), 256], once))
    bos = engine.tokenizer.bos_token_id
    assert empty == pytest.approx(engine.log_likelihood([bos], [*encode("12"), 256], once))


def test_bos_is_prepended_on_demand(engine):
    fake, model = scripted(engine, [], add_bos_token=True)

    model.generate_until(generates(("ab", {}), ("", {})))

    assert [given_ids(request) for request in fake.asked] == [[259, 97, 98], [259]]


def test_a_likelihood_does_not_depend_on_other_requests_but_on_the_seed(engine, model):
    pairs = scores(("S:12", "34/"), ("S:21", "43/"), ("S:12", "43/"))

    together = model.loglikelihood(pairs)

    assert together == [model.loglikelihood([pair])[0] for pair in pairs]
    other = DreamLM(engine, ModelArgs(pretrained="embedded", mc_num=16, seed=1))
    assert other.loglikelihood(pairs)[1] != together[1]


def test_is_greedy_is_what_greedy_denoising_gives(engine, model):
    pairs = scores((PUZZLE, GRID), (PUZZLE, WRONG))

    (right, is_right), (wrong, is_wrong) = model.loglikelihood(pairs)

    assert right > -1 > -5 > wrong
    assert (is_right, is_wrong) == (True, False)
    skipping = DreamLM(engine, ModelArgs(pretrained="embedded", mc_num=16, greedy=False))
    assert skipping.loglikelihood(pairs) == [(right, False), (wrong, False)]


def test_each_likelihood_is_handed_to_the_cache_at_once(model):
    rows = []

    class Cache:
        def add_partial(self, *row):
            rows.append(row)

    model.set_cache_hook(Cache())

    results = model.loglikelihood(scores(("S:", "12")))

    assert rows == [("loglikelihood", ("S:", "12"), results[0])]


def test_a_context_that_does_not_fit_is_cut_on_the_left_with_a_warning(engine):
    fake, model = scripted(engine, [], max_model_len=10)

    with pytest.warns(UserWarning, match="cut on the left to fit in 10 tokens"):
        model.generate_until(generates(("abcdef", {"max_gen_toks": 7})))

    assert given_ids(fake.asked[0]) == [100, 101, 102]


def test_a_target_that_does_not_fit_or_is_empty_is_refused(engine):
    small = Engine.from_pretrained("embedded", EngineConfig(max_model_len=8))
    model = DreamLM(small, ModelArgs(pretrained="embedded", mc_num=2, greedy=False))

    with pytest.warns(UserWarning, match="cut"), pytest.raises(ContextLengthExceeded):
        model.loglikelihood(scores(("S:", "123456789")))
    with pytest.raises(InvalidRequest, match="continuation"):
        model.loglikelihood(scores(("S:", "")))


def test_the_likelihood_of_a_whole_text_is_refused(model):
    with pytest.raises(NotServed, match="perplexity") as error:
        model.loglikelihood_rolling(asks("loglikelihood_rolling", ("text",)))

    assert isinstance(error.value, NotImplementedError)


@pytest.mark.parametrize("system", [[], [{"role": "system", "content": "Be brief."}]])
def test_a_rendered_chat_has_the_ids_of_the_tokenizers_chat(engine, system):
    fake, model = scripted(engine, [])
    chat = [*system, {"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]

    model.generate_until(generates((model.apply_chat_template(chat), {})))

    assert given_ids(fake.asked[0]) == engine.tokenizer.encode_chat(chat)


def test_a_chat_can_end_inside_the_assistants_turn(model):
    chat = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "It is"}]

    text = model.apply_chat_template(chat, add_generation_prompt=False)

    assert text.endswith("<|im_start|>assistant\nIt is")


def test_marks_in_given_text_are_never_markup(engine):
    fake, model = scripted(engine, [])

    model.generate_until(generates(("a<|im_end|>", {})))

    assert given_ids(fake.asked[0]) == engine.tokenizer.encode("a<|im_end|>")
    for message in ({"role": "user", "content": "<|im_end|>"}, {"role": "tool", "content": ""}):
        with pytest.raises(InvalidRequest):
            model.apply_chat_template([message])


def test_there_is_one_chat_template(model):
    assert model.chat_template(True) == model.apply_chat_template(
        [{"role": "user", "content": "..."}]
    )
    with pytest.raises(InvalidRequest, match="apply_chat_template"):
        model.chat_template("tool_use")


def test_the_adapter_alone_needs_the_extra_and_says_how_to_get_it(monkeypatch):
    importing = re.compile(r"^\s*(?:from|import) lm_eval", re.M)
    folder = Path(jobs.__file__).parent
    needing = [path.name for path in folder.rglob("*.py") if importing.search(path.read_text())]
    assert needing == ["adapter.py"]

    for name in [name for name in sys.modules if name.startswith("lm_eval")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.delitem(sys.modules, "jobs.harness.adapter")
    with pytest.raises(ImportError, match=r"pip install 'dream-cluster\[eval\]'"):
        importlib.import_module("jobs.harness.adapter")
