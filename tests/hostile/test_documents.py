"""JSON and YAML made to harm: bombs, tags, duplicates, text that is no text."""

import os
import time

import pytest

from registry import documents
from registry.documents import parse_json, parse_yaml, read_json, read_yaml
from registry.errors import BadDocument, Unreadable

LAUGHS = "a0: &a0 [x,x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1},*a{i - 1}]\n" for i in range(1, 40))

YAML = {
    "a billion laughs": (LAUGHS, r"aliases \(\*a0\)"),
    "an endless circle": ("&a [*a]", "aliases"),
    "a nesting bomb": ("[" * 100_000, "nested deeper than 100"),
    "a nesting bomb in block style": ("- " * 5_000 + "x", "nested deeper than 100"),
    "an object of Python": ("!!python/object/apply:os.system ['true']", "the tag"),
    "a name of Python": ("!!python/name:os.system", "the tag"),
    "a private tag": ("!evil x", "the tag '!evil'"),
    "bytes": ("!!binary aGk=", "the tag"),
    "a set": ("!!set {a}", "the tag"),
    "a key twice": ("a: 1\nb: 2\na: 3", "line 3: the key 'a' comes twice"),
    "a key twice in the depth": ("x:\n  - {a: 1, a: 2}", "the key 'a' comes twice"),
    "a list as key": ("[a]: 1", "a key is not plain text"),
    "a merge key": ("<<: {a: 1}\nb: 2", "merge"),
    "two documents": ("a: 1\n---\nb: 2", "another document"),
    "a control character": ("a: \x1b[2J", "control characters"),
    "a number that is none": ("a: 0b_", "cannot be read"),
    "a false number": ("a: !!int x", "cannot be read"),
    "an endless number": ("a: " + "9" * 10_000, "cannot be read"),
    "a cut string": ('a: "x', "not valid YAML"),
}

JSON = {
    "a nesting bomb": ("[" * 1_000_000, "nested too deeply"),
    "an object bomb": ('{"a":' * 100_000, "nested too deeply"),
    "deeper than anything that walks it": ("[" * 150 + "]" * 150, "nested too deeply"),
    "a key twice": ('{"a": 1, "b": 2, "a": 3}', "the key 'a' comes twice"),
    "a key twice in the depth": ('[{"x": {"a": 1, "a": 1}}]', "the key 'a' comes twice"),
    "half a surrogate pair": ('{"a": "\\ud800"}', "not Unicode"),
    "half a surrogate pair as key": ('{"\\udfff": 1}', "not Unicode"),
    "an endless number": ("1" * 10_000, "not valid JSON"),
    "a control character": ('"\x00"', "not valid JSON"),
    "two values": ("{}{}", "not valid JSON"),
    "nothing": ("", "not valid JSON"),
}


@pytest.mark.parametrize("case", YAML)
def test_hostile_yaml_is_refused_at_once(case):
    text, words = YAML[case]
    start = time.process_time()
    with pytest.raises(BadDocument, match=words) as caught:
        parse_yaml(text, where="card")
    assert caught.value.message.startswith("card: ")
    assert time.process_time() - start < 2


@pytest.mark.parametrize("case", JSON)
def test_hostile_json_is_refused_at_once(case):
    text, words = JSON[case]
    start = time.process_time()
    with pytest.raises(BadDocument, match=words) as caught:
        parse_json(text, where="config")
    assert caught.value.message.startswith("config: ")
    assert time.process_time() - start < 2


def test_the_deepest_allowed_nesting_is_read_the_same_in_both():
    text = "[" * documents.MAX_DEPTH + "]" * documents.MAX_DEPTH
    assert parse_json(text) == parse_yaml(text)
    with pytest.raises(BadDocument):
        parse_json(f"[{text}]")
    with pytest.raises(BadDocument):
        parse_yaml(f"[{text}]")


@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_a_document_over_its_limit_is_not_read(tmp_path, read):
    file = tmp_path / "huge"
    with file.open("wb") as out:
        out.truncate(1 << 40)
    with pytest.raises(BadDocument, match="at most"):
        read(file)


def test_a_yaml_text_over_the_limit_is_not_parsed():
    with pytest.raises(BadDocument, match="at most 4000000"):
        parse_yaml("x" * 4_000_001)


@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_what_is_not_utf8_is_refused(tmp_path, read):
    (tmp_path / "latin").write_bytes(b'{"a": "\xe4"}')
    with pytest.raises(BadDocument, match=r"not UTF-8: .* at byte 7"):
        read(tmp_path / "latin")


@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_a_pipe_or_a_folder_is_refused_without_waiting(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(Unreadable, match="not a regular file"):
            read(path)
