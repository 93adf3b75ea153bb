"""Checkpoints of the Hub, read where they lie: the same as from a copy on disk, but for the bytes of the weights."""

import json

import numpy as np
import pytest
from safetensors.numpy import save

from registry.entry import read_entry
from registry.errors import HubBusy
from registry.hub import Hub
from registry.hub_requests import Requests
from registry.hub_source import read_repository
from registry.names import Address
from registry.progress import SILENT
from registry.sources import find

WEIGHTS = save({"layers.0.w": np.ones((80, 80), np.float32)})
CONFIG = json.dumps({"model_type": "tiny"}).encode()


@pytest.fixture
def read(hub):
    """Read a repository through the client."""

    def at(name, revision=None, tokenizers=None):
        with Requests() as requests:
            asked = Hub(requests)
            return read_repository(asked, asked.pin(name, revision), tokenizers or {})

    return at


def test_a_repository_says_what_its_copy_on_disk_says(hub, read, family):
    commit = hub.add("org/chat", family.chat)
    (entry,) = read("org/chat")
    (found,) = find(Address("path", str(family.chat)))
    local = read_entry(found, headers_only=True, jobs=1, progress=SILENT)
    assert entry.found.uri == f"hf://org/chat@{commit}"
    assert (entry.found.name, entry.found.source) == ("org/chat", "hub")
    assert entry.reading.signature == local.reading.signature
    assert entry.reading.claims == local.reading.claims
    assert entry.reading.tokenizer == local.reading.tokenizer
    assert entry.reading.checkpoint.config == local.reading.checkpoint.config
    assert [(f.path, f.size_bytes, f.format) for f in entry.found.files] == [
        (f.path, f.size_bytes, f.format) for f in found.files
    ]
    assert entry.problems == ()


def test_every_folder_with_weights_is_a_checkpoint(hub, read):
    commit = hub.add("org/many", {
        "model.safetensors": WEIGHTS, "config.json": CONFIG, "onnx/model.onnx": b"x",
        "checkpoint-5/model.safetensors": WEIGHTS, "checkpoint-5/config.json": CONFIG,
        "extra/lora.safetensors": WEIGHTS,
    })  # fmt: skip
    entries = {e.found.uri: e for e in read("org/many")}
    at = f"hf://org/many@{commit}"
    assert entries.keys() == {at, f"{at}/checkpoint-5", f"{at}/extra/lora.safetensors"}
    assert entries[f"{at}/checkpoint-5"].found.name == "org/many/checkpoint-5"
    assert [f.path for f in entries[f"{at}/checkpoint-5"].found.files] == [
        "config.json", "model.safetensors",
    ]  # fmt: skip
    assert [f.path for f in entries[f"{at}/extra/lora.safetensors"].found.files] == [
        "lora.safetensors"
    ]


def test_copies_are_one_model(hub, read):
    hub.add("org/one", {"model.safetensors": WEIGHTS, "config.json": CONFIG})
    hub.add("org/two", {"model.safetensors": WEIGHTS, "config.json": CONFIG, "README.md": b"copy"})
    hub.add("org/three", {"model.safetensors": WEIGHTS[:-1] + b"\1", "config.json": CONFIG})
    one, two, three = (read(f"org/{name}")[0].reading.model for name in ("one", "two", "three"))
    assert one == two != three


def test_problems_say_where_on_the_hub(hub, read):
    hub.add("org/bad", {"model.safetensors": WEIGHTS[:-1], "config.json": CONFIG})
    (entry,) = read("org/bad")
    assert entry.reading is None
    (problem,) = entry.problems
    assert (problem.error, problem.file) == ("TruncatedFile", "model.safetensors")
    assert problem.detail.startswith(f"{entry.found.uri}/model.safetensors: ")


def test_without_weights_there_is_a_problem(hub, read):
    hub.add("org/card", {"README.md": b"# soon"})
    (entry,) = read("org/card")
    assert [p.error for p in entry.problems] == ["EmptyCheckpoint"]


def test_tokenizers_that_are_known_are_not_read_again(hub, read, family):
    hub.add("org/chat", family.chat)
    (entry,) = read("org/chat")
    files = {(f.path, f.etag) for f in entry.found.files if f.format == "tokenizer"}
    assert files
    hub.log.clear()
    (again,) = read("org/chat", tokenizers={frozenset(files): entry.reading.tokenizer})
    assert again.reading.tokenizer == entry.reading.tokenizer
    assert not hub.log.find("resolve/.*tokenizer")


def test_a_renamed_repository_is_read_under_its_new_name(hub, read):
    hub.add("org/old", {"model.safetensors": WEIGHTS, "config.json": CONFIG})
    hub.rename("org/old", "org/new")
    new, old = read("org/old")
    assert (new.found.name, new.problems) == ("org/new", ())
    assert (old.found.name, [p.error for p in old.problems]) == ("org/old", ["HubRenamed"])
    assert "org/new" in old.problems[0].detail


def test_gated_and_damaged_repositories_are_problems_and_a_busy_hub_is_none(hub, read, monkeypatch):
    hub.add("org/gated", {"model.safetensors": WEIGHTS, "config.json": CONFIG}, gated=True)
    (entry,) = read("org/gated")
    assert [p.error for p in entry.problems] == ["HubRefused"]
    hub.add("org/damaged", {"model.safetensors": WEIGHTS, "config.json": CONFIG})
    hub.fault("damaged.*config.json", corrupt=True)
    (entry,) = read("org/damaged")
    assert [p.error for p in entry.problems] == ["DamagedDownload"]
    monkeypatch.setattr("registry.hub_requests._LONGEST_WAIT_SECONDS", 0.01)
    hub.fault("damaged.*config.json", status=503, times=None)
    with pytest.raises(HubBusy):
        read("org/damaged")
