"""Recorded recipes: read back as they were written, or refused by name."""

import pytest

from engine.pin import pin
from engine.pinned import ZERO
from engine.recipe import AdapterSize, Part, Recipe
from engine.recorded import from_canonical
from registry.errors import BadRecipe, UnknownMethod

IDS = [f"{i:064x}" for i in range(1, 4)]


def recorded(**fields):
    recipe = Recipe("ties", (Part("a"), Part("b")), parameters={"density": 0.5})
    return pin(recipe, IDS[2], IDS[:2]).canonical() | fields


def test_what_was_written_is_read_back():
    assert from_canonical(recorded()).canonical() == recorded()
    adapters = Recipe("ties", (Part("a"), Part("b")), adapter=AdapterSize(4, 0.9))
    pinned = pin(adapters, ZERO, IDS[:2])
    assert from_canonical(pinned.canonical()) == pinned


def test_the_first_format_is_still_read():
    old = {
        "format": "homolog-recipe-1", "method": "task_arithmetic", "base": IDS[2], "models": IDS[:2],
        "parameters": {"weight": [0.25, 0.5], "lambda": 1.0}, "out_dtype": "BF16", "seed": 3,
    }  # fmt: skip
    found = from_canonical(old)
    assert found.values == {"weight": (0.25, 0.5), "lambda": 1.0, "normalize": False}
    assert (found.out_dtype, found.seed, found.models) == ("BF16", 3, tuple(IDS[:2]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "homolog-recipe-9"}, "has the format 'homolog-recipe-9'; this version reads"),
        ({"models": [1]}, r"has the models \[1\]"),
        ({"base": None}, "works on task vectors and needs a base"),
        ({"out_dtype": "I8"}, "has the out_dtype 'I8'"),
        ({"seed": "0"}, "and the seed '0'"),
        ({"chat_template": 3}, "and the chat_template 3"),
        ({"adapter": {"rank": -1}}, "rank is -1"),
        ({"align": {"method": "rotate"}}, "method is 'rotate'"),
        ({"stages": [1]}, "stages is"),
    ],
)
def test_what_cannot_be_read_is_named(fields, message):
    with pytest.raises(BadRecipe, match=message):
        from_canonical(recorded(**fields))


def test_a_method_that_is_gone_is_named():
    with pytest.raises(UnknownMethod, match="tise"):
        from_canonical(recorded(method="tise"))
