"""A model that was pushed is known where it is now, as if it had been scanned there."""

import os
import time

import pytest
from conftest import save_model
from hub.server import LocalHub
from huggingface_hub import constants
from scanned import orphans

from registry.catalog import Catalog
from registry.errors import BadAddress, FileChanged, HubBusy, HubRefused, Offline
from registry.hub_push import Target
from registry.publication import Asked, publication
from registry.push import push, refuse_changed, target_of
from registry.scan import scan

TARGET = Target("me/model")


@pytest.fixture
def owner(hub: LocalHub, monkeypatch):
    """The hub, asked by one who may write."""
    monkeypatch.setenv("HF_TOKEN", hub.token)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    return hub


def send(catalog, folder, target=TARGET, **named):
    scan(catalog, [str(folder)])
    return push(catalog, publication(catalog, catalog.find(str(folder)), target), **named)


def known(catalog, uri):
    """All that is known of a place, times left out."""
    place = catalog.rows(
        "select * exclude (known_since, seen_at, model_number) from store.address where uri = ?",
        [uri],
    )
    files = catalog.rows("select * from store.file where uri = ? order by path", [uri])
    claims = catalog.rows("select * from store.claim where uri = ? order by id", [uri])
    problems = catalog.rows("select * exclude (seen_at) from store.problem where uri = ?", [uri])
    return place, files, claims, problems


def addresses(catalog):
    rows = catalog.rows("select uri, name from store.address where source = 'hub' order by uri")
    return [(row["uri"], row["name"]) for row in rows]


def edges(catalog):
    return catalog.rows(
        "select child, parent, relation, role, status, coefficient from store.edge order by all"
    )


@pytest.mark.parametrize("shards", [1, 3])
def test_the_catalog_holds_what_a_scan_would_have_found(catalog, family, tmp_path, owner, shards):
    card = "license: apache-2.0\nbase_model: base\nbase_model_relation: finetune"
    folder = save_model(tmp_path / "mine", family.weights["chat"], card=card, shards=shards)
    scan(catalog, [str(family.base)])
    done = send(catalog, folder)
    (place,) = known(catalog, done.uri)[0]
    assert (place["model_id"], place["name"], place["source"]) == (
        catalog.find(str(folder)),
        "me/model",
        "hub",
    )
    assert catalog.find("me/model") == catalog.find(done.uri) == catalog.find(str(folder))
    assert done.noted
    assert catalog.rows("select status from models where id = ?", [place["model_id"]]) == [
        {"status": "full"}
    ]
    other = Catalog(tmp_path / "other.duckdb")
    scan(other, [str(family.base), str(folder)])
    scan(other, ["hf://me/model"])
    assert known(other, done.uri) == known(catalog, done.uri)
    assert edges(other) == edges(catalog)
    assert not orphans(catalog)
    owner.log.clear()
    report = scan(catalog, ["hf://me/model"])
    assert (report.unchanged, report.n_requests) == (1, 1)


def test_a_second_push_has_the_place_of_the_first(catalog, family, tmp_path, owner):
    folder = save_model(tmp_path / "mine", family.weights["chat"], card="license: mit")
    first = send(catalog, folder)
    assert send(catalog, folder).pushed.unchanged
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Other words\n")
    second = send(catalog, folder)
    assert first.uri != second.uri
    assert addresses(catalog) == [(second.uri, "me/model")]
    branch = send(catalog, folder, Target("me/model", "trial"))
    proposed = send(catalog, folder, Target("me/other"))
    assert addresses(catalog) == sorted([
        (second.uri, "me/model"), (proposed.uri, "me/other")
    ])  # fmt: skip
    assert branch.uri == second.uri
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Third words\n")
    branch = send(catalog, folder, Target("me/model", "trial"))
    opened = send(catalog, folder, Target("me/model", pull_request=True), message="Mine")
    assert addresses(catalog) == sorted([
        (second.uri, "me/model"), (proposed.uri, "me/other"), (branch.uri, "me/model@trial"),
        (opened.uri, "me/model@refs/pr/1"),
    ])  # fmt: skip


def test_another_model_under_the_same_name_leaves_nothing_of_the_first(
    catalog, family, tmp_path, owner
):
    sharded = save_model(tmp_path / "sharded", family.weights["chat"], shards=2)
    send(catalog, sharded)
    done = send(catalog, family.math)
    assert done.pushed.removed == (
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json",
    )  # fmt: skip
    assert catalog.find("me/model") == catalog.find("math")
    fresh = Catalog(tmp_path / "fresh.duckdb")
    report = scan(fresh, ["hf://me/model"])
    assert not report.problems


def test_what_an_earlier_push_said_binds_no_later_one(catalog, family, tmp_path, owner):
    folder = save_model(
        tmp_path / "mine", family.weights["chat"], card="license: mit\nbase_model: org/wrong"
    )
    send(catalog, folder)
    assert owner.repo("me/model").head.card["base_model"] == ["org/wrong"]
    (folder / "README.md").write_text("---\nlicense: apache-2.0\nbase_model: org/right\n---\n")
    send(catalog, folder)
    card = owner.repo("me/model").head.card
    assert (card["license"], card["base_model"]) == ("apache-2.0", ["org/right"])


def test_weights_that_are_not_those_that_were_scanned_are_refused(catalog, family, tmp_path):
    folder = save_model(tmp_path / "mine", family.weights["chat"])
    scan(catalog, [str(folder)])
    planned = publication(catalog, catalog.find("mine"), TARGET)
    refuse_changed(catalog, planned)
    file = folder / "model.safetensors"
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(FileChanged, match=r"in model\.safetensors .* holds other bytes"):
        refuse_changed(catalog, planned)


def test_a_file_that_changes_while_it_is_sent_is_not_committed(catalog, family, tmp_path, owner):
    folder = save_model(tmp_path / "mine", family.weights["chat"])
    scan(catalog, [str(folder)])
    planned = publication(catalog, catalog.find("mine"), TARGET)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(FileChanged, match=r"tokenizer\.json changed while it was sent"):
        push(catalog, planned)
    assert not addresses(catalog)
    assert list(owner.repo("me/model").head.entries) == [".gitattributes"]


def test_parents_that_readers_cannot_see_are_told(catalog, family, tmp_path, owner):
    owner.add("org/hidden", {"config.json": b"{}"}, private=True)
    owner.add("org/open", {"config.json": b"{}"}, gated=True)
    card = "license: mit\nbase_model: [org/hidden, org/open, org/absent]"
    folder = save_model(tmp_path / "mine", family.weights["chat"], card=card)
    told = []
    send(catalog, folder, told=told.append)
    assert told == [
        "org/absent is not on the Hub, or private, and the card names it",
        "org/hidden is private, and the card names it",
    ]
    told.clear()
    send(catalog, folder, Target("me/secret", private=True), told=told.append)
    assert not told


def test_a_push_that_the_hub_does_not_list_is_said_and_costs_nothing(catalog, family, owner):
    owner.add("me/model", {"config.json": b"{}"})
    owner.fault("GET .*/tree/", after=1, times=None, status=404, body=b"{}")
    done = send(catalog, family.chat)
    assert not done.noted
    assert not addresses(catalog)
    owner.clear_faults()
    scan(catalog, ["hf://me/model"])
    assert catalog.find("me/model") == catalog.find("chat")


def test_a_push_that_fails_writes_no_row(catalog, family, owner):
    owner.fault("/commit/", times=None, status=500)
    with pytest.raises(HubBusy):
        send(catalog, family.chat)
    assert not addresses(catalog)


def test_why_a_conflict_was_allowed_is_kept_with_the_edges(catalog, family, tmp_path, owner):
    base = save_model(tmp_path / "base", family.weights["base"], card="license: llama3.1")
    card = "license: gpl-3.0\nbase_model: base\nbase_model_relation: finetune"
    child = save_model(tmp_path / "child", family.weights["chat"], card=card)
    scan(catalog, [str(base), str(child)])
    planned = publication(catalog, catalog.find(str(child)), TARGET, Asked("a test of it"))
    done = push(catalog, planned)
    push(catalog, planned)
    (found,) = catalog.rows("select * from evidence where method = 'license'")
    assert (found["child_name"], found["parent_name"], found["relation"]) == (
        "child",
        "base",
        "finetune",
    )
    assert found["detail"].startswith(f"licence conflict allowed for {done.uri}: a test of it (")
    assert not orphans(catalog)


def test_offline_and_without_a_token_nothing_is_asked(catalog, family, hub, monkeypatch):
    with pytest.raises(HubRefused, match="no token"):
        send(catalog, family.chat)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(Offline, match="nothing was written"):
        send(catalog, family.chat)
    assert not hub.log.find()


@pytest.mark.parametrize(
    ("text", "branch", "found"),
    [
        ("me/model", None, Target("me/model")),
        ("hf://me/model", None, Target("me/model")),
        ("hf://me/model@trial", None, Target("me/model", "trial")),
        ("me/model", "a/b", Target("me/model", "a/b")),
        ("hf://me/model@trial", "trial", Target("me/model", "trial")),
    ],
)
def test_a_target_is_a_repository_and_a_branch(text, branch, found):
    assert target_of(text, branch=branch) == found


@pytest.mark.parametrize(
    ("text", "branch"),
    [("model", None), ("me/*", None), ("a/b/c", None), ("../x", None), ("", None), ("me/model", "../x"),
     ("me/model", "0" * 40), (f"hf://me/model@{'a' * 40}", None), ("hf://me/model@a", "b")],
)  # fmt: skip
def test_other_targets_are_refused(text, branch):
    with pytest.raises(BadAddress):
        target_of(text, branch=branch)


def test_a_pull_request_is_for_main():
    with pytest.raises(BadAddress):
        target_of("me/model", branch="trial", pull_request=True)
    assert target_of("me/model", pull_request=True).pull_request
