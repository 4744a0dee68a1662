"""Templates: what is given, what is to be filled."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dream import Fixed, Hole, InvalidRequest, Template


def test_holes_know_their_place_and_are_named_by_index_unless_named():
    template = Template([Hole(2), Fixed([7, 8, 9]), Hole(1, id="end")])

    assert [(h.id, h.start, h.end) for h in template.holes] == [("0", 0, 2), ("end", 5, 6)]
    assert (template.num_tokens, template.num_masked) == (6, 3)


def test_token_ids_may_be_numpys():
    assert Fixed(np.array([3, 4])).token_ids == (3, 4)


@given(st.lists(st.integers(0, 3), min_size=1))
def test_runs_of_masks_become_holes_and_everything_else_stays(ids):
    template = Template.from_masked(ids, mask_id=0)

    rebuilt: list[int] = []
    for segment in template.segments:
        rebuilt += [0] * segment.num_tokens if isinstance(segment, Hole) else segment.token_ids
    assert rebuilt == ids
    kinds = [isinstance(segment, Hole) for segment in template.segments]
    assert all(a != b for a, b in pairwise(kinds))


@pytest.mark.parametrize(
    ("build", "field"),
    [
        (lambda: Hole(0), "num_tokens"),
        (lambda: Hole(True), "num_tokens"),
        (lambda: Hole(2.0), "num_tokens"),
        (lambda: Fixed([1, -1]), "token_ids"),
        (lambda: Fixed([1.5]), "token_ids"),
        (lambda: Template([]), "segments"),
        (lambda: Template([Fixed([])]), "segments"),
        (lambda: Template(["text"]), "segments"),
        (lambda: Template([Hole(1, id="a"), Hole(1, id="a")]), "id"),
        (lambda: Template([Hole(1), Fixed([3]), Hole(1, id="0")]), "id"),
    ],
)
def test_a_bad_template_names_the_field(build, field):
    with pytest.raises(InvalidRequest) as error:
        build()

    assert error.value.field == field
    assert field in str(error.value)
