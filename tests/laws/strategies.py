"""Hypothesis strategies: templates, sampling parameters and requests of every kind."""

from __future__ import annotations

from hypothesis import strategies as st

from dream import Fixed, Hole, Request, SamplingParams, Template
from dream.remasking import STRATEGIES
from tests.models import VOCAB

token_ids = st.integers(0, VOCAB - 1)
fixed = st.lists(token_ids, min_size=1, max_size=4).map(Fixed)
holes = st.builds(Hole, st.integers(1, 6), priority=st.sampled_from([0, 0, 0, -1, 3]))
RULES = {
    "threshold": st.sampled_from([0.0, 0.3, 0.4, 1.0]),
    "factor": st.sampled_from([0.0, 1.0, 2.5, 50.0]),
    "entropy_bound": st.sampled_from([0.0, 0.5, 4.0, 100.0]),
    "entropy_threshold": st.sampled_from([0.0, 2.0, 5.0, 100.0]),
}
"""Limits from those that allow one commit at a step to those that allow all, for random models."""


@st.composite
def templates(draw) -> Template:
    """Given tokens and holes in any order: leading, adjacent and all-hole canvases too."""
    return Template(draw(st.lists(fixed | holes, min_size=1, max_size=5)))


@st.composite
def rules(draw) -> dict:
    """No commit rule, or one of any kind with its bounds."""
    name = draw(st.sampled_from([None, None, *RULES]))
    if name is None:
        return {}
    values = {name: draw(RULES[name]), "min_commits": draw(st.sampled_from([1, 1, 3]))}
    if name == "threshold" and draw(st.booleans()):
        values["low_threshold"] = draw(st.floats(0, values["threshold"]))
    return values | {"max_commits": draw(st.sampled_from([None, 3, 5]))}


@st.composite
def places(draw) -> dict:
    """No limit of the positions, blocks, or a frontier."""
    name = draw(st.sampled_from([None, "block_length", "frontier"]))
    return {} if name is None else {name: draw(st.integers(1, 7))}


@st.composite
def extras(draw, values: dict) -> dict:
    """EOS rules, a first draw of its own, a history and growth, where they go with the rest."""
    extra = {
        "eos_frontier": draw(st.sampled_from([None, None, 0, 2])),
        "egi_temperature": draw(st.sampled_from([None, None, None, 0.9])),
    }
    if values["order"] == "confidence":
        extra["eos_annealing"] = draw(st.sampled_from([None, None, 3.0]))
    is_plain = values["temperature"] == 0 and values["top_k"] is None
    if is_plain and values["top_p"] in (None, 1.0) and not extra.get("eos_annealing"):
        extra["history"] = draw(st.sampled_from([0, 0, 3]))
    return extra


@st.composite
def windows(draw, values: dict) -> dict:
    """Exact decoding, or an approximate mode."""
    extra = {"window": draw(st.sampled_from([None, None, "prefix", "dual"]))}
    if extra["window"] is not None:
        extra["refresh_every"] = draw(st.sampled_from([None, 1, 2]))
        extra["vicinity"] = draw(st.sampled_from([0, 2, 40]))
    if values.get("block_length") or values.get("frontier"):
        extra["suffix_window"] = draw(st.sampled_from([None, 0, 3]))
    return extra


@st.composite
def sampling_params(draw, **forced) -> SamplingParams:
    """Parameters over every algorithm, order, filter and noise."""
    alg = draw(st.sampled_from(sorted(STRATEGIES)))
    orders = ["confidence", "random", "left_to_right", "right_to_left"]
    values = {
        "steps": draw(st.none() | st.integers(1, 20)),
        "alg": alg,
        "alg_temp": draw(st.none() | st.sampled_from([0.0, 0.3, 2.0])),
        "temperature": draw(st.sampled_from([0.0, 0.0, 0.2, 1.0])),
        "top_p": draw(st.none() | st.sampled_from([0.0, 0.5, 0.9, 1.0])),
        "top_k": draw(st.none() | st.sampled_from([1, 5, 50, 400])),
        "order": "confidence" if alg == "origin" else draw(st.sampled_from(orders)),
        "seed": draw(st.none() | st.integers(0, 2**63 - 1)),
        "early_exit": draw(st.booleans()),
    }
    if alg != "origin":
        values |= draw(rules()) | draw(places())
        values |= draw(extras(values))
    values |= draw(windows(values))
    return SamplingParams(**(values | forced))


@st.composite
def requests(draw, min_size: int = 1, max_size: int = 5, **forced) -> list[Request]:
    """A few requests with ids r0, r1, ..."""
    pairs = st.tuples(templates(), sampling_params(**forced))
    drawn = draw(st.lists(pairs, min_size=min_size, max_size=max_size))
    return [
        Request(id=f"r{index}", template=template, params=params)
        for index, (template, params) in enumerate(drawn)
    ]
