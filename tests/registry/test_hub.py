"""The Hub: lists in pages, names pinned to commits, files in parts, everything checked."""

import hashlib

import pytest

from registry.errors import DamagedDownload, HubBusy, HubMissing
from registry.hub import Hub
from registry.hub_requests import Requests
from registry.names import parse

WEIGHTS = bytes(range(256)) * 400
FILES = {"config.json": b"{}", "README.md": b"# hello\n", "model.safetensors": WEIGHTS}


@pytest.fixture
def asked(hub):
    """The Hub as our code asks it."""
    with Requests() as requests:
        yield Hub(requests)


@pytest.fixture
def one(hub, asked):
    """A repository, pinned, and its files by path."""
    hub.add("org/model", FILES)
    pinned = asked.pin("org/model")
    return pinned, {file.path: file for file in asked.files(pinned)}


def test_names_are_pinned_to_commits(hub, asked):
    first = hub.add("org/model", FILES)
    hub.tag("org/model", "v1")
    second = hub.add("org/model", {**FILES, "README.md": b"new"})
    assert asked.pin("org/model").uri == f"hf://org/model@{second}"
    assert asked.pin("org/model", "v1").commit == first
    assert asked.pin("org/model", first).commit == first


def test_renames_follow(hub, asked):
    hub.add("org/old", FILES)
    hub.rename("org/old", "org/new")
    pinned = asked.pin("org/old")
    assert (pinned.asked, pinned.name) == ("org/old", "org/new")


@pytest.mark.parametrize(("name", "revision"), [("org/none", None), ("org/model", "v9")])
def test_what_is_not_there_is_missing(hub, asked, name, revision):
    hub.add("org/model", FILES)
    with pytest.raises(HubMissing, match=f"hf://{name}"):
        asked.pin(name, revision)


def test_lists_come_in_pages(hub, asked):
    for i in range(25):
        hub.add(f"org/model-{i:02}", {"config.json": b"{}"}, link=False)
    hub.add("other/model", FILES)
    hub.page_size = 10
    names = sorted(one.name for one in asked.listed(parse("hf://org/*")))
    assert names == [f"org/model-{i:02}" for i in range(25)]
    assert len(hub.log.find("GET /api/models\\?")) == 3
    assert len(list(asked.listed(parse("hf:search?author=org&limit=12")))) == 12


def test_searches_ask_for_tags_parents_and_words(hub, asked):
    hub.add("org/base", FILES, tags=["text-generation"])
    card = b"---\nbase_model: org/base\nbase_model_relation: finetune\n---\n"
    hub.add("org/child", {**FILES, "README.md": card}, tags=["text-generation", "x"])
    assert [o.name for o in asked.listed(parse("hf:search?base_model=org/base"))] == ["org/child"]
    assert [o.name for o in asked.listed(parse("hf:search?search=chi"))] == ["org/child"]
    both = asked.listed(parse("hf:search?filter=text-generation&filter=x"))
    assert [o.name for o in both] == ["org/child"]


def test_collections_name_their_models(hub, asked):
    hub.add("org/model", FILES)
    hub.collect("org/good-ones-0123", ["org/model"])
    assert [o.name for o in asked.listed(parse("hf:collection/org/good-ones-0123"))] == [
        "org/model"
    ]
    with pytest.raises(HubMissing, match="hf:collection/org/none"):
        list(asked.listed(parse("hf:collection/org/none")))


def test_files_are_listed_with_what_the_hub_calls_them(one):
    _, files = one
    assert {path: file.size_bytes for path, file in files.items()}.items() >= {
        ("config.json", 2), ("README.md", 8), ("model.safetensors", len(WEIGHTS)),
    }  # fmt: skip
    assert files["model.safetensors"].etag == hashlib.sha256(WEIGHTS).hexdigest()
    assert files["config.json"].etag == "9e26dfeeb6e641a33dae4961196235bdb965b21b"


def test_files_are_read_in_parts_and_their_place_is_asked_once(hub, asked, one):
    pinned, files = one
    hub.log.clear()
    for start, stop in ((0, 10), (1000, 1300), (len(WEIGHTS) - 1, len(WEIGHTS))):
        assert asked.part(pinned, files["model.safetensors"], start, stop) == WEIGHTS[start:stop]
    assert [r.origin for r in hub.log] == ["api", "cdn", "cdn", "cdn"]
    assert sum(r.bytes_sent for r in hub.log.find(origin="cdn")) == 311
    assert asked.read(pinned, files["README.md"]) == b"# hello\n"
    assert asked.read(pinned, files["model.safetensors"]) == WEIGHTS


def test_of_many_places_the_last_are_remembered(hub, asked, monkeypatch):
    monkeypatch.setattr("registry.hub._MOST_PLACES", 2)
    hub.add("org/model", {f"{n}.safetensors": WEIGHTS for n in "abc"})
    pinned = asked.pin("org/model")
    files = {file.path[0]: file for file in asked.files(pinned)}
    hub.log.clear()
    for n in "abcab":
        assert asked.part(pinned, files[n], 0, 4) == WEIGHTS[:4]
    assert [r.origin for r in hub.log] == ["api", "cdn"] * 5
    asked.part(pinned, files["b"], 4, 8)
    assert [r.origin for r in hub.log][10:] == ["cdn"]


def test_places_that_expire_are_asked_for_again(hub, asked, one):
    pinned, files = one
    asked.part(pinned, files["model.safetensors"], 0, 10)
    hub.expire_urls()
    assert asked.part(pinned, files["model.safetensors"], 5, 10) == WEIGHTS[5:10]


@pytest.mark.parametrize("path", ["README.md", "model.safetensors"])
def test_damaged_files_are_told(hub, asked, one, path):
    pinned, files = one
    hub.fault(f"{path}", corrupt=True, times=None)
    with pytest.raises(DamagedDownload, match=rf"{path} has the digest"):
        asked.read(pinned, files[path])


def test_a_server_without_parts_is_told(hub, asked, one):
    pinned, files = one
    hub.fault("model.safetensors", origin="cdn", status=200, body=b"x" * 100, times=None)
    with pytest.raises(DamagedDownload, match="no parts"):
        asked.part(pinned, files["model.safetensors"], 0, 10)


def test_a_connection_that_ends_early_is_opened_again(hub, asked, one):
    pinned, files = one
    hub.fault("model.safetensors", origin="cdn", drop_after=100)
    assert asked.part(pinned, files["model.safetensors"], 0, 5000) == WEIGHTS[:5000]


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[1, 2]", b'{"id": 7}', b'{"id": "a/b", "sha": "x"}']
)
def test_nonsense_is_told(hub, asked, body):
    hub.add("org/model", FILES)
    hub.fault("GET /api/models/org/model", status=200, body=body, times=None)
    with pytest.raises(HubBusy, match="hf://org/model"):
        asked.pin("org/model")
