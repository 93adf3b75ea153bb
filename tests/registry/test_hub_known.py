"""What is on the Hub and here is one model, whichever was seen first, and nothing is fetched to find out."""

import os

import pytest
from scanned import statuses

from registry.alias import alias_events, set_alias
from registry.hub_known import recognise
from registry.scan import scan


@pytest.fixture
def org(hub, family):
    """The family on the Hub."""
    for name in ("base", "chat", "sharded"):
        hub.add(f"org/{name}", getattr(family, name))
    return hub


@pytest.mark.parametrize("here_first", [True, False])
def test_a_copy_here_tells_who_it_is(org, family, catalog, here_first):
    addresses = [str(family.chat)], ["hf://org/*"]
    for each in addresses if here_first else reversed(addresses):
        scan(catalog, each)
    assert catalog.find("org/chat") == catalog.find(str(family.chat))
    status = statuses(catalog)
    assert sorted(status.values()) == ["full", "header", "header"]
    assert max(r.bytes_sent for r in org.log) < 40_000


def test_aliases_follow_who_is_recognised(org, family, catalog):
    scan(catalog, ["hf://org/chat", "hf://org/base"])
    headers = {name: catalog.find(f"org/{name}") for name in ("chat", "base")}
    for name, model in headers.items():
        set_alias(catalog, f"my-{name}", model)
    scan(catalog, [str(family.chat)])
    assert catalog.find("@my-chat") == catalog.find(str(family.chat)) != headers["chat"]
    assert catalog.find("@my-base") == headers["base"]
    last = alias_events(catalog, "my-chat")[-1]
    assert (last.step, last.old_id, last.old_model) == (2, headers["chat"], "org/chat")
    assert (last.new_model, last.why) == ("chat", "the same files, read whole")


def test_shards_count_together(org, family, catalog):
    scan(catalog, ["hf://org/*", str(family.sharded)])
    assert catalog.find("org/sharded") == catalog.find(str(family.sharded))


def test_a_file_of_the_same_length_is_not_the_same(org, family, catalog, tmp_path):
    copy = tmp_path / "chat"
    copy.mkdir()
    for file in family.chat.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    with (copy / "model.safetensors").open("r+b") as weights:
        weights.seek(-1, os.SEEK_END)
        weights.write(b"\x7f")
    scan(catalog, [str(copy), "hf://org/chat"])
    assert catalog.find("org/chat") != catalog.find(str(copy))
    etags = catalog.rows(
        "select etag from store.file where format = 'safetensors' and etag is not null"
    )
    assert len(etags) == 2  # it was hashed once


def test_files_that_changed_since_are_not_believed(org, family, catalog, tmp_path):
    copy = tmp_path / "chat"
    copy.mkdir()
    for file in family.chat.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    scan(catalog, [str(copy)])
    os.utime(copy / "model.safetensors", ns=(1, 1))
    scan(catalog, ["hf://org/chat"])
    assert recognise(catalog) == 0
    assert catalog.find("org/chat") != catalog.find(str(copy))


def test_what_the_cache_holds_is_known_by_its_blobs(org, family, catalog):
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    folder = snapshot_download("org/base", endpoint=org.endpoint)
    scan(catalog, ["hf-cache:"])
    org.log.clear()
    scan(catalog, ["hf://org/base"])
    assert statuses(catalog) == {"org/base": "full"}
    assert catalog.find("hf://org/base@" + org.repo("org/base").branches["main"]) == catalog.find(
        folder
    )
