"""Names: addresses in and out, and foreign text made safe to show."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import BadAddress
from registry.names import Address, parse, printable

PART = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,8}", fullmatch=True).filter(
    lambda part: ".." not in part and "--" not in part
)
REPOSITORY = st.builds("/".join, st.lists(PART, min_size=1, max_size=2))
REVISION = st.none() | st.sampled_from(["main", "refs/pr/1", "v1.0-rc_2", "0" * 40])
PATH = st.lists(
    st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1), min_size=1
).map(lambda parts: os.path.normpath("/" + "/".join(parts)))
ADDRESSES = (
    st.builds(Address, st.just("hub"), REPOSITORY, REVISION)
    | st.builds(Address, st.just("cache"), REPOSITORY, REVISION)
    | st.just(Address("cache", ""))
    | st.builds(
        Address, st.just("hub"), REPOSITORY, st.just("0" * 40), st.sampled_from(["x", "a/b c"])
    )
    | st.builds(Address, st.just("owner"), PART)
    | st.builds(Address, st.just("collection"), st.tuples(PART, PART).map("/".join))
    | st.sampled_from(["author=org", "base_model=a%2Fb&limit=3", "filter=x&filter=y+z"]).map(
        lambda asked: Address("search", asked)
    )
    | st.builds(Address, st.just("path"), PATH)
)


@settings(max_examples=150)
@given(ADDRESSES)
def test_law_an_address_survives_being_written_and_parsed(address):
    assert parse(str(address)) == address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hf://meta-llama/Llama-3.1-8B", Address("hub", "meta-llama/Llama-3.1-8B")),
        ("hf://gpt2@607a30d", Address("hub", "gpt2", "607a30d")),
        ("hf://org/name@refs/pr/3", Address("hub", "org/name", "refs/pr/3")),
        (
            "hf://org/name@" + "a" * 40 + "/unet/x.safetensors",
            Address("hub", "org/name", "a" * 40, "unet/x.safetensors"),
        ),
        ("hf://org/*", Address("owner", "org")),
        ("hf:search?limit=5&author=org", Address("search", "author=org&limit=5")),
        (
            "hf:search?filter=a&filter=license:mit",
            Address("search", "filter=a&filter=license%3Amit"),
        ),
        ("hf:collection/org/good-0a1b", Address("collection", "org/good-0a1b")),
        ("hf-cache:", Address("cache", "")),
        ("hf-cache:org/name", Address("cache", "org/name")),
        ("hf-cache:org/name@main", Address("cache", "org/name", "main")),
        ("/models/a@b", Address("path", "/models/a@b")),
        ("/models/../x/./y/", Address("path", "/x/y")),
    ],
)
def test_what_people_type_is_understood(text, address):
    assert parse(text) == address


def test_a_path_is_made_absolute_and_the_home_folder_filled_in(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert parse("~/models").path == tmp_path / "models"
    assert parse("models").path == tmp_path / "models"
    assert parse("org/name") == Address("path", str(tmp_path / "org" / "name"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\0b",
        "s3://bucket/model",
        "https://huggingface.co/org/name",
        "hf://",
        "hf://org/",
        "hf://org/name/more",
        "hf://../etc/passwd",
        "hf://org/na..me",
        "hf://org/na--me",
        "hf://-org/name",
        "hf://org/na me",
        "hf://org/name@",
        "hf://org/name@../../x",
        "hf://org/name@-x",
        "hf://org/name@a b",
        "hf://org/*@main",
        "hf://*",
        "hf://org/name@" + "a" * 40 + "/../x",
        "hf://org/name@" + "a" * 40 + "/a//b",
        "hf:search?",
        "hf:search?author=",
        "hf:search?colour=red",
        "hf:search?limit=0",
        "hf:search?limit=\u0663",
        "hf:collection/good",
        "hf:collection/../x",
        "hf-cache:../x",
        "hf-cache:org/name@\x1b[2J",
    ],
)
def test_what_cannot_be_an_address_is_refused_with_what_can(text):
    with pytest.raises(BadAddress) as caught:
        parse(text)
    assert "hf://org/name" in caught.value.hint
    assert caught.value.message.isprintable()


@settings(max_examples=200)
@given(st.text(st.characters(codec=None)) | st.binary().map(os.fsdecode))
def test_law_shown_text_is_printable_once_and_for_all(text):
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    assert "\x1b" not in shown
    if text.isprintable():
        assert shown == text
    shown.encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\u202eb", r"a\u202eb"),
        ("a\nb", r"a\nb"),
        ("\udcff", r"\udcff"),
        ("Modèle 模型 τ", "Modèle 模型 τ"),
    ],
)
def test_terminal_escapes_and_hidden_directions_are_shown_as_what_they_are(text, shown):
    assert printable(text) == shown


def test_the_path_of_an_address_is_a_path():
    assert Address("path", "/a/b").path == Path("/a/b")
