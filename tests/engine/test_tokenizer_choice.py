"""Tokenizer choices, read from both spellings of a recipe."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.tokenizer_choice import TokenizerChoice, TokenRule, as_document, parse_choice
from registry.errors import BadRecipe

text = st.text(min_size=1, max_size=5)
rules = st.one_of(
    st.builds(TokenRule, force=st.booleans()),
    st.builds(TokenRule, model=text, force=st.booleans()),
    st.builds(TokenRule, model=text, token=text, force=st.booleans()),
    st.builds(TokenRule, model=text, token_id=st.integers(0, 99), force=st.booleans()),
    st.builds(TokenRule, zero=st.just(True), force=st.booleans()),
)
choices = st.builds(
    TokenizerChoice, text, st.dictionaries(text, rules, max_size=4), st.integers(0, 128)
)


@settings(max_examples=60)
@given(choices)
def test_a_choice_is_read_back_from_its_document(choice):
    assert parse_choice(as_document(choice), "tokenizer") == choice


def test_both_spellings_say_the_same():
    assert parse_choice("union", "tokenizer_source") == parse_choice({"source": "union"}, "it")
    assert parse_choice({}, "tokenizer") == TokenizerChoice("union")
    empty = {"source": "base", "tokens": None, "pad_to_multiple_of": None}
    assert parse_choice(empty, "tokenizer") == TokenizerChoice("base")


def test_models_can_be_renamed():
    choice = parse_choice(
        {
            "source": "a",
            "tokens": {"x": {"source": "b", "force": True}, "y": {"source": {"kind": "zero"}}},
        },
        "tokenizer",
    )
    renamed = choice.renamed({"a": "1", "b": "2"}.__getitem__)
    assert (renamed.source, renamed.tokens["x"]) == ("1", TokenRule("2", force=True))
    assert renamed.tokens["y"] == choice.tokens["y"]
    assert TokenizerChoice("union").renamed({}.__getitem__) == TokenizerChoice("union")


TOKEN = {"kind": "model_token", "model": "m"}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"sources": "union"}, "unknown key 'sources'"),
        ({"source": 3}, "source is 3"),
        ("", "source is ''"),
        (7, "must be a mapping"),
        ({"pad_to_multiple_of": -1}, "pad_to_multiple_of is -1"),
        ({"pad_to_multiple_of": True}, "pad_to_multiple_of is True"),
        ({"pad_to_multiple_of": 1 << 40}, "pad_to_multiple_of is"),
        ({"tokens": ["a"]}, "tokens is"),
        ({"tokens": {"": {}}}, "the empty text"),
        ({"tokens": {"a": "m"}}, "must be a mapping"),
        ({"tokens": {"a": {"forced": True}}}, "unknown key 'forced'"),
        ({"tokens": {"a": {"force": 1}}}, "force is 1"),
        ({"tokens": {"a": {"source": {"kind": "one"}}}}, "kind is 'one'"),
        ({"tokens": {"a": {"source": {"kind": []}}}}, "kind is"),
        ({"tokens": {"a": {"source": {"kind": "zero", "model": "m"}}}}, "unknown key 'model'"),
        ({"tokens": {"a": {"source": {"kind": "model_token", "token": "b"}}}}, "model is None"),
        ({"tokens": {"a": {"source": TOKEN}}}, "must have one of them"),
        ({"tokens": {"a": {"source": {**TOKEN, "token": "b", "token_id": 1}}}}, "one of them"),
        ({"tokens": {"a": {"source": {**TOKEN, "token_id": -1}}}}, "one of them"),
        ({"tokens": {"a": {"source": {**TOKEN, "token": 5}}}}, "one of them"),
    ],
)
def test_what_cannot_be_meant_is_refused(document, message):
    with pytest.raises(BadRecipe, match=message):
        parse_choice(document, "tokenizer")


def test_the_nearest_key_is_named():
    with pytest.raises(BadRecipe) as caught:
        parse_choice({"pad_to_multiple": 8}, "tokenizer")
    assert caught.value.hint == "did you mean pad_to_multiple_of?"
