"""Downloads: what is needed and no more, checked, into the library's cache; what is here is not fetched."""

import os
import shutil
from collections import namedtuple

import pytest
from conftest import save_model

from registry.errors import (
    AmbiguousModel,
    BadAddress,
    CorruptCheckpoint,
    DamagedDownload,
    HubMissing,
    NotEnoughDisk,
    Offline,
)
from registry.hub_cache import location, snapshots
from registry.scan import ensure, scan


@pytest.fixture
def repository(hub, family, tmp_path):
    """A repository with much beside its weights that nobody reads."""
    folder = tmp_path / "chat"
    shutil.copytree(family.chat, folder)
    for name in (
        "pytorch_model.bin", "consolidated.safetensors", "model.gguf", "onnx/model.onnx", "notes.pdf", "training_args.bin",
        "fp16/model.safetensors",
    ):  # fmt: skip
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(os.urandom(64))
    (folder / "generation_config.json").write_text("{}")
    return hub.add("org/chat", folder)


def test_what_is_read_is_downloaded_and_nothing_else(hub, repository, family, catalog):
    model = ensure(catalog, "hf://org/chat")
    (snapshot,) = snapshots("org/chat")
    assert snapshot.commit == repository
    assert sorted(p.name for p in snapshot.root.iterdir()) == [
        "README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip
    rows = catalog.rows("select uri, m.status from store.address a join store.model m on m.id = a.model_id order by uri")  # fmt: skip
    assert [(r["uri"].split("@")[0], r["status"]) for r in rows] == [
        ("hf-cache:org/chat", "full"), ("hf://org/chat", "full"), ("hf://org/chat", "header"),
    ]  # fmt: skip
    assert rows[2]["uri"].endswith("/model.gguf")
    assert catalog.rows("select count(*) as n from store.model where status <> 'latent'") == [
        {"n": 2}
    ]
    scan(catalog, [str(family.chat)])
    assert catalog.find(str(family.chat)) == model
    assert catalog.checkpoint(model).tensors


def test_the_second_time_only_the_commit_is_asked_for(hub, repository, catalog):
    model = ensure(catalog, "hf://org/chat")
    hub.log.clear()
    assert ensure(catalog, "hf://org/chat") == model
    assert [r.line for r in hub.log] == ["GET /api/models/org/chat?expand=sha"]
    hub.log.clear()
    assert ensure(catalog, f"hf://org/chat@{repository}") == model
    assert ensure(catalog, "org/chat") == model
    assert len(hub.log) == 0


def test_what_is_here_under_another_name_is_not_downloaded(hub, family, catalog):
    hub.add("org/chat", family.chat)
    scan(catalog, [str(family.chat)])
    assert ensure(catalog, "hf://org/chat") == catalog.find(str(family.chat))
    assert list(snapshots("org/chat")) == []


def test_shards_come_by_the_index(hub, family, catalog):
    hub.add("org/sharded", family.sharded)
    ensure(catalog, "hf://org/sharded")
    (snapshot,) = snapshots("org/sharded")
    assert len(list(snapshot.root.glob("*.safetensors"))) == 3


def test_a_checkpoint_in_a_folder_is_one(hub, family, catalog):
    files = {f"deep/{f.name}": f.read_bytes() for f in family.math.iterdir()}
    commit = hub.add("org/nested", files)
    model = ensure(catalog, f"hf://org/nested@{commit}/deep")
    scan(catalog, [str(family.math)])
    assert model == catalog.find(str(family.math))
    more = {f"other/{f.name}": f.read_bytes() for f in family.chat.iterdir()}
    commit = hub.add("org/nested", files | more)
    with pytest.raises(AmbiguousModel, match="holds 2 checkpoints") as refused:
        ensure(catalog, "hf://org/nested")
    assert f"hf://org/nested@{commit}/other" in refused.value.hint


def test_a_body_of_the_right_length_and_other_bytes_is_refused_and_removed(hub, repository, catalog):  # fmt: skip
    scan(catalog, ["hf://org/chat"])
    hub.fault("^GET /repos/", origin="cdn", corrupt=True, after=1)
    with pytest.raises(DamagedDownload, match=r"model.safetensors came with the SHA-256"):
        ensure(catalog, "hf://org/chat")
    (snapshot,) = snapshots("org/chat")
    assert not (snapshot.root / "model.safetensors").exists()
    big = [b for b in (location() / "models--org--chat" / "blobs").iterdir() if len(b.name) == 64]
    assert big == []
    model = ensure(catalog, "hf://org/chat")
    assert catalog.checkpoint(model).root == snapshot.root


def test_what_cannot_be_had_is_named(hub, repository, catalog, monkeypatch):
    with pytest.raises((HubMissing, CorruptCheckpoint), match="no such repository"):
        ensure(catalog, "hf://org/none")
    with pytest.raises(BadAddress, match="means many repositories"):
        ensure(catalog, "hf://org/*")
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - as shutil's
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 0, 10))
    with pytest.raises(NotEnoughDisk, match="10 are free"):
        ensure(catalog, "hf://org/chat")


def test_without_a_network_the_cache_stands_in(hub, repository, catalog, monkeypatch):
    model = ensure(catalog, "hf://org/chat")
    hub.log.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert ensure(catalog, "hf://org/chat") == model
    with pytest.raises(Offline, match="is not in the cache"):
        ensure(catalog, "hf://org/math")
    assert len(hub.log) == 0


def test_a_small_repository_without_large_files_comes_too(hub, catalog, tmp_path):
    import torch  # noqa: PLC0415 - one tensor

    folder = save_model(tmp_path / "small", {"w": torch.ones(2, 2)}, tokenizer=False)
    hub.add("org/small", folder)
    assert catalog.checkpoint(ensure(catalog, "hf://org/small")).tensor("w").shape == (2, 2)
