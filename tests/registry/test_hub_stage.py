"""A repository as a folder of headers: as long as it is, as small as it may be."""

import json
import os

import numpy as np
import pytest
from safetensors.numpy import save

from registry.checkpoint import read_checkpoint
from registry.errors import BadIndex, HeaderTooLarge, PathEscapes
from registry.hub import Hub, HubFile, Listed
from registry.hub_requests import Requests
from registry.hub_stage import stage

ONE = Listed("org/model", "0" * 40, "org/model")


def staged(hub, files, folder, **options):
    """Stage a repository of these files; the checkpoint's folder."""
    hub.add("org/model", files)
    hub.log.clear()
    folder.mkdir()
    with Requests() as requests:
        asked = Hub(requests)
        one = asked.pin("org/model")
        stage(asked, one, asked.files(one), folder, **options)
    return folder


def test_headers_are_read_and_weights_are_not(hub, tmp_path):
    weights = save({f"layers.{i}.w": np.ones((256, 256), np.float32) for i in range(8)})
    files = {"config.json": b'{"a": 1}', "model.safetensors": weights, "pytorch_model.bin": weights}
    folder = staged(hub, files, tmp_path / "x")
    checkpoint = read_checkpoint(folder)
    assert [(t.name, t.shape) for t in checkpoint.tensors] == [
        (f"layers.{i}.w", (256, 256)) for i in range(8)
    ]
    assert checkpoint.config == {"a": 1}
    assert [f.size_bytes for f in checkpoint.files] == [8, len(weights), len(weights)]
    assert sum(os.stat(f).st_blocks * 512 for f in folder.iterdir()) < 100_000
    assert hub.log.bytes_sent < 35_000


def test_long_headers_take_a_second_request(hub, tmp_path):
    tensors = {f"model.layers.{i:04}.mlp.weight": np.ones(4, np.float32) for i in range(600)}
    folder = staged(hub, {"model.safetensors": save(tensors), "config.json": b"{}"}, tmp_path / "x")
    assert len(read_checkpoint(folder).tensors) == 600
    assert len(hub.log.find("model.safetensors", "cdn")) == 2


def test_an_index_tells_how_long_the_headers_are(hub, tmp_path):
    files, where = {"config.json": b"{}"}, {}
    for shard in range(3):
        name = f"model-{shard + 1:05}-of-00003.safetensors"
        tensors = {f"model.layers.{shard}.{i}.w": np.ones(9000, np.float32) for i in range(5)}
        files[name] = save(tensors)
        where |= dict.fromkeys(tensors, name)
    files["model.safetensors.index.json"] = json.dumps({"weight_map": where}).encode()
    folder = staged(hub, files, tmp_path / "x")
    assert len(read_checkpoint(folder).tensors) == 15
    ranges = [r.range for r in hub.log.find("safetensors", "cdn")]
    assert ranges == ["bytes=0-4895"] * 3


def test_what_is_known_or_too_large_is_left_empty(hub, tmp_path):
    files = {"tokenizer.json": b'{"model": 1}', "config.json": b" " * 4_000_001}
    folder = staged(hub, files, tmp_path / "x", without=["tokenizer.json"])
    assert (folder / "tokenizer.json").read_bytes() == bytes(12)
    assert (folder / "config.json").stat().st_size == 4_000_001
    assert not hub.log.find("/resolve/")


@pytest.mark.parametrize("name", ["../x.safetensors", "/x/config.json", "a/../config.json", "a//config.json",
                                  "a\\b/config.json", "./config.json"])  # fmt: skip
def test_names_that_lead_out_are_refused(tmp_path, name):
    with pytest.raises(PathEscapes, match="hf://org/model"):
        stage(None, ONE, [HubFile(name, 2, "0" * 40, None)], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_headers_that_claim_too_much_are_refused_before_they_are_fetched(hub, tmp_path):
    raw = (30_000_000).to_bytes(8, "little") + b"{" + b" " * 31_000_000
    with pytest.raises(HeaderTooLarge, match="30000008 bytes"):
        staged(hub, {"model.safetensors": raw}, tmp_path / "x")
    assert hub.log.bytes_sent < 40_000


def test_too_many_files_are_refused(tmp_path):
    files = [HubFile(str(i), 0, "0" * 40, None) for i in range(100_001)]
    with pytest.raises(BadIndex, match="100001 files"):
        stage(None, ONE, files, tmp_path)


@pytest.mark.parametrize(
    "index", [b"", b"[]", b'{"weight_map": 3}', b'{"weight_map": {"a": 3}}', b"[" * 99_999]
)
def test_an_index_without_sense_costs_nothing(hub, tmp_path, index):
    files = {"model.safetensors.index.json": index, "model.safetensors": save({"a": np.ones(3)})}
    folder = staged(hub, files, tmp_path / "x")
    assert (folder / "model.safetensors").exists()
