"""Documents: JSON and YAML in and out, and the words of YAML that we take for text."""

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.documents import (
    dump_yaml,
    open_file,
    parse_json,
    parse_yaml,
    parse_yaml_all,
    read_json,
    read_yaml,
    read_yaml_all,
)
from registry.errors import BadDocument, Unreadable

TEXT = st.text(st.characters(codec="utf-8", categories=["L", "M", "N", "P", "S", "Zs", "Cc"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150)
@given(VALUES)
def test_law_dumped_yaml_parses_to_the_same_value(value):
    assert parse_yaml(dump_yaml(value)) == value


@settings(max_examples=100)
@given(VALUES)
def test_law_json_parses_as_the_standard_library_does(value):
    text = json.dumps(value)
    assert parse_json(text) == json.loads(text) == value


def test_dumped_yaml_keeps_the_order_of_keys_and_is_read_by_others():
    value = {
        "models": [{"model": "a", "weight": 0.5}],
        "base": "b",
        "added": {"x": "no", "y": "2024-01-01"},
    }
    text = dump_yaml(value)
    assert text.startswith("models:\n")
    assert yaml.safe_load(text) == value


def test_a_value_used_twice_is_written_twice():
    shared = [1, 2]
    assert parse_yaml(dump_yaml({"a": shared, "b": shared})) == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("language: no", {"language": "no"}),
        ("x: on", {"x": "on"}),
        ("x: true", {"x": True}),
        ("x: False", {"x": False}),
        ("date: 2024-02-30", {"date": "2024-02-30"}),
        ("x: =", {"x": "="}),
        ("x: .inf", {"x": float("inf")}),
        ("x: 1e3", {"x": "1e3"}),
        ("x: !!str 1", {"x": "1"}),
        ("1: a", {1: "a"}),
        ("", None),
    ],
)
def test_yaml_words_are_read_as_plain_values(text, value):
    assert parse_yaml(text) == value


def test_infinity_is_allowed_since_real_configs_hold_it(tmp_path):
    (tmp_path / "config.json").write_text('{"time_step_limit": [0.0, Infinity]}')
    assert read_json(tmp_path / "config.json") == {"time_step_limit": [0.0, float("inf")]}


def test_a_byte_order_mark_is_passed_over(tmp_path):
    (tmp_path / "config.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    (tmp_path / "recipe.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_json(tmp_path / "config.json") == read_yaml(tmp_path / "recipe.yaml") == {"a": 1}


def test_errors_name_the_file_and_the_line(tmp_path):
    (tmp_path / "recipe.yaml").write_text("a: 1\nb: [\n")
    with pytest.raises(BadDocument, match=r"recipe\.yaml: is not valid YAML: line 3"):
        read_yaml(tmp_path / "recipe.yaml")
    (tmp_path / "config.json").write_text('{\n"a": }')
    with pytest.raises(BadDocument, match=r"config\.json: is not valid JSON: .*line 2"):
        read_json(tmp_path / "config.json")


def test_a_missing_document_is_named(tmp_path):
    with pytest.raises(Unreadable, match=r"config\.json: cannot be read: No such file"):
        read_json(tmp_path / "config.json")


def test_a_file_is_closed_after_use(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"x")
    with open_file(file) as (first, status):
        assert status.st_size == 1
    with open_file(file) as (second, _):
        assert first == second


def test_a_folder_is_not_opened_as_a_file(tmp_path):
    with pytest.raises(Unreadable, match="not a regular file"), open_file(tmp_path):
        pass


def test_documents_that_people_write_may_be_several_and_repeat_themselves(tmp_path):
    text = "a: &x {k: [1, 2]}\nb: *x\nc:\n  <<: *x\n  d: 1\n---\nz: 1\n"
    same = {"k": [1, 2]}
    expected = [{"a": same, "b": same, "c": {**same, "d": 1}}, {"z": 1}]
    assert parse_yaml_all(text) == expected
    (tmp_path / "recipe.yaml").write_text(text)
    assert read_yaml_all(tmp_path / "recipe.yaml") == expected
    assert parse_yaml_all("") == []


TENFOLD = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TENFOLD, "aliases make more than 100000 values"),
        ("a: &a [*a]", "not read inside themselves"),
        ("a: *nowhere", "not read inside themselves|nowhere"),
        ("a: 1\na: 2", "comes twice"),
        ("a: !!python/object:os.system x", "tag"),
    ],
)
def test_aliases_that_grow_or_never_end_are_refused_at_once(text, message):
    with pytest.raises(BadDocument, match=message):
        parse_yaml_all(text)
