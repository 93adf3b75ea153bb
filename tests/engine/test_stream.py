"""Streams: the result is that of downloaded files, byte for byte, and what is held stays within the window."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from engine import stream
from engine.merge import merge
from engine.options import Options
from engine.recipe import Part, Recipe
from engine.stream import Window, merge_streamed, streamed
from registry.catalog import Catalog
from registry.errors import HubBusy, Offline
from registry.hub_cache import location, snapshots

TIES = Recipe("ties", (Part("hf://org/chat"), Part("hf://org/math")), base="hf://org/base")
KARCHER = Recipe("karcher", (Part("hf://org/chat"), Part("hf://org/math")))


@pytest.fixture
def on_the_hub(hub, family, tmp_path):
    """Base in three shards, chat and math, with small files that are carried over, and chat with others beside it."""
    for folder, name in ((family.sharded, "base"), (family.chat, "chat"), (family.math, "math")):
        made = tmp_path / name
        shutil.copytree(folder, made)
        (made / "generation_config.json").write_text('{"do_sample": true}')
        (made / "notes.txt").write_text("carried over")
        if name == "chat":
            (made / "chat.gguf").write_bytes(b"GGUF" + bytes(60))
            shutil.copytree(family.base, made / "checkpoint-5")
        hub.add(f"org/{name}", made)
    return hub


def content(folder):
    return {f.name: f.read_bytes() for f in sorted(folder.iterdir())}


@pytest.mark.parametrize("recipe", [TIES, KARCHER], ids=["slices", "whole"])
def test_the_result_is_that_of_downloaded_files_byte_for_byte(
    on_the_hub, tmp_path, catalog, recipe, monkeypatch
):
    monkeypatch.setattr(stream, "BLOCK_BYTES", 1000)  # so that tensors lie in several
    other = Catalog(tmp_path / "other.duckdb")
    done = merge_streamed(catalog, recipe, tmp_path / "streamed", options=Options(jobs=2))
    assert not list(location().glob("**/*.safetensors"))
    expected = merge(other, recipe, tmp_path / "downloaded")
    assert len(list(snapshots("org/chat"))) == 1
    assert done.model == expected.model
    assert content(tmp_path / "streamed") == content(tmp_path / "downloaded")
    assert {"generation_config.json", "notes.txt", "tokenizer.json"} <= content(tmp_path / "streamed").keys()  # fmt: skip


def test_the_second_merge_reads_everything_once(on_the_hub, tmp_path, catalog, monkeypatch):
    merge_streamed(catalog, TIES, tmp_path / "first")
    for name in ("base", "chat", "math"):
        known = catalog.rows("select status from store.model where id = ?", [catalog.find(f"org/{name}")])  # fmt: skip
        assert known == [{"status": "full"}]
    on_the_hub.log.clear()
    monkeypatch.setattr(stream, "BLOCK_BYTES", 1024)
    with streamed(catalog, TIES, 1 << 20) as window:
        merge(catalog, TIES, tmp_path / "second", options=Options(jobs=2))
        assert not list(location().glob("**/*.safetensors"))
        shards = [f for f in window.files if f.suffix == ".safetensors"]
        n_blocks = sum(-(-f.stat().st_size // 1024) for f in shards)
    assert len(shards) == 5
    assert window.n_fetched <= n_blocks
    assert window.peak_bytes <= 1 << 20
    assert catalog.staged == {}
    assert content(tmp_path / "first") == content(tmp_path / "second")


Held = namedtuple("Held", "staged part")  # noqa: PYI024 - stands for a Remote
Listed = namedtuple("Listed", "size_bytes")  # noqa: PYI024 - stands for a HubFile


def test_a_window_gives_any_bytes_and_keeps_the_last_blocks(monkeypatch):
    monkeypatch.setattr(stream, "BLOCK_BYTES", 10)
    file, raw, asked = Path("f"), bytes(range(95)), []

    def part(_, start, stop):
        asked.append(start)
        return raw[start:stop]

    window = Window(25)
    window.add(Held({file: Listed(95)}, part))
    for start, stop in ((0, 95), (3, 4), (7, 12), (89, 95), (50, 50)):
        found = bytearray(stop - start)
        window.fill(memoryview(found), file, start)
        assert found == raw[start:stop]
        assert window.held_bytes <= window.peak_bytes <= 25
    assert asked[:10] == list(range(0, 100, 10))
    n = len(asked)
    window.fill(memoryview(bytearray(5)), file, 90)
    assert len(asked) == n


def test_a_block_that_could_not_be_had_is_asked_for_again():
    file, tries = Path("f"), []

    def part(_, start, stop):
        tries.append(start)
        if len(tries) == 1:
            message = "busy"
            raise HubBusy(message)
        return bytes(stop - start)

    window = Window(100)
    window.add(Held({file: Listed(50)}, part))
    with pytest.raises(HubBusy):
        window.fill(memoryview(bytearray(5)), file, 0)
    assert window.held_bytes == 0
    window.fill(memoryview(bytearray(5)), file, 0)
    assert tries == [0, 0]


def test_without_a_network_nothing_is_streamed(on_the_hub, tmp_path, catalog, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(Offline, match="nothing can be streamed"):
        merge_streamed(catalog, TIES, tmp_path / "out")
    assert not (tmp_path / "out").exists()
