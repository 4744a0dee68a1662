"""Tests of `cluster.errors`: what a message shows of the value it refuses."""

from __future__ import annotations

from cluster.errors import MissingSetting, SpecError


def test_an_integer_of_too_many_digits_is_named_without_them():
    assert "max_logit_rows=<int> is not valid" in str(SpecError("max_logit_rows", 16**5000, "less"))


def test_a_setting_that_was_not_given_is_named_without_a_value():
    assert str(MissingSetting("project_id", None, "say it")) == "project_id is required: say it"
