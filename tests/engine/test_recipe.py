"""Recipes as Python objects: dtypes, another tool's defaults, and what a mapping is."""

import pytest

from engine.recipe import DTYPES, Part, Recipe, mapping, out_dtype
from registry.errors import BadRecipe


def test_every_dtype_has_its_code():
    assert [out_dtype(name) for name in DTYPES] == list(DTYPES.values())
    assert out_dtype(None) is None


def test_the_defaults_of_a_tool_are_those_of_earlier_recipes_too():
    first = Recipe("linear", (Part("a"),))
    second = Recipe("ties", (Part("first"),), stages={"first": first}).like("mergekit")
    assert (second.compat, second.stages["first"].compat) == ("mergekit", "mergekit")
    assert first.compat is None


@pytest.mark.parametrize("value", [None, [], "text", {1: 2}])
def test_a_mapping_has_text_for_keys(value):
    with pytest.raises(BadRecipe, match="the thing is"):
        mapping(value, "the thing")
