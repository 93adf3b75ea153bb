"""Finding checkpoints: what counts, in which order, and what a user's word guarantees."""

import os
import shutil

import pytest
import torch
from safetensors.torch import save_file

from registry.checkpoint import list_files, read_checkpoint
from registry.errors import BadAddress, EmptyCheckpoint, MissingShard, Offline, UnsafeFormat
from registry.names import Address, parse
from registry.sources import find


def weights(file, name="a"):
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: torch.ones(2)}, file)


def model(folder):
    weights(folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    return folder


def found(path):
    return list(find(Address("path", str(path))))


def paths(path):
    return [str(f.root.relative_to(path)) for f in found(path)]


def test_a_folder_is_found_with_its_name_and_files(tmp_path):
    folder = model(tmp_path / "llama")
    (one,) = found(folder)
    assert (one.uri, one.root, one.name) == (str(folder), folder, "llama")
    assert one.files == list_files(folder)
    assert read_checkpoint(one.root, one.files).config == {}


def test_a_tree_is_walked_in_order_into_the_checkpoints_of_checkpoints(tmp_path):
    for name in ("b", "a", "a/checkpoint-20", "a/checkpoint-100", "deep/er/c", "."):
        model(tmp_path / name)
    assert paths(tmp_path) == [".", "a", "a/checkpoint-100", "a/checkpoint-20", "b", "deep/er/c"]
    assert found(tmp_path) == found(tmp_path)


def test_what_makes_a_folder_a_checkpoint(tmp_path):
    makers = {
        "adapter": ["adapter_config.json", "adapter_model.safetensors"],
        "adapter without weights": ["adapter_config.json"],
        "config": ["config.json", "x.safetensors", "y.safetensors"],
        "index": ["model.safetensors.index.json"],
        "pickles": ["pytorch_model-00001-of-00002.bin", "config.json"],
        "plain": ["model.safetensors"],
    }
    for name, files in makers.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).touch()
    assert paths(tmp_path) == sorted(makers)


def test_what_does_not_make_a_checkpoint(tmp_path):
    model(tmp_path / "model")
    for file in ("config.json", "notes.txt", "training_args.bin", "optimizer.pt", "tokenizer.json"):
        (tmp_path / file.split(".")[0]).mkdir()
        (tmp_path / file.split(".")[0] / file).touch()
    assert paths(tmp_path) == ["model"]


def test_loose_files_are_checkpoints_each(tmp_path):
    weights(tmp_path / "loras" / "b.safetensors")
    weights(tmp_path / "loras" / "a.safetensors")
    (tmp_path / "loras" / "old.ckpt").touch()
    assert paths(tmp_path) == ["loras/a.safetensors", "loras/b.safetensors"]
    one = found(tmp_path)[0]
    assert (one.name, one.uri) == ("a", str(tmp_path / "loras" / "a.safetensors"))
    assert [ref.path for ref in one.files] == ["a.safetensors"]
    assert read_checkpoint(one.root, one.files).layout == "file"


def test_gguf_files_are_checkpoints_each_beside_whatever_there_is(tmp_path):
    model(tmp_path / "model")
    (tmp_path / "pickles").mkdir()
    (tmp_path / "pickles" / "pytorch_model.bin").touch()
    for file in ("model/m.gguf", "pickles/m.gguf", "a-Q4.gguf", "a-Q8.GGUF", "s-00001-of-00002.gguf",
                 "s-00002-of-00002.gguf", "config.json"):  # fmt: skip
        (tmp_path / file).touch()
    assert paths(tmp_path) == [
        "a-Q4.gguf", "a-Q8.GGUF", "s-00001-of-00002.gguf", "model", "model/m.gguf", "pickles",
        "pickles/m.gguf",
    ]  # fmt: skip
    split = found(tmp_path)[2]
    assert (split.name, [f.path for f in split.weights]) == (
        "s",
        ["s-00001-of-00002.gguf", "s-00002-of-00002.gguf"],
    )
    (named,) = found(tmp_path / "s-00002-of-00002.gguf")
    assert named == split


def test_hidden_and_unfinished_folders_are_not_entered(tmp_path):
    model(tmp_path / "model")
    for name in (".git", ".cache", "merged.partial", "model/.hidden"):
        model(tmp_path / name)
    assert paths(tmp_path) == ["model"]


def test_a_hidden_folder_that_is_named_is_entered(tmp_path):
    model(tmp_path / ".models" / "m")
    assert paths(tmp_path / ".models") == ["m"]


def test_links_to_folders_are_not_followed(tmp_path):
    model(tmp_path / "outside")
    tree = tmp_path / "tree"
    model(tree / "model")
    (tree / "model" / "up").symlink_to(tree)
    (tree / "again").symlink_to("model")
    (tree / "out").symlink_to(tmp_path / "outside")
    assert paths(tree) == ["model"]


def test_a_link_that_is_named_is_followed_to_one_stable_place(tmp_path):
    model(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    assert found(tmp_path / "link") == found(tmp_path / "real")


def test_an_empty_folder_is_found_so_that_it_can_be_reported(tmp_path):
    (one,) = found(tmp_path)
    with pytest.raises(EmptyCheckpoint):
        read_checkpoint(one.root, one.files)


def test_an_empty_folder_among_good_ones_is_found_too(tmp_path):
    model(tmp_path / "good")
    (tmp_path / "empty").mkdir()
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    assert paths(tmp_path) == ["empty", "good", "outer/inner"]


def test_a_folder_without_any_checkpoint_is_found_itself(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "README.md").touch()
    assert paths(tmp_path) == ["."]


def test_a_file_that_is_named_is_found_whatever_it_is(tmp_path):
    model(tmp_path / "m")
    (one,) = found(tmp_path / "m" / "model.safetensors")
    assert (one.name, one.root) == ("model", tmp_path / "m" / "model.safetensors")
    (tmp_path / "x.ckpt").touch()
    (pickle,) = found(tmp_path / "x.ckpt")
    with pytest.raises(UnsafeFormat):
        read_checkpoint(pickle.root, pickle.files)


def test_a_broken_link_that_is_named_is_found_and_missing(tmp_path):
    (tmp_path / "x.safetensors").symlink_to("nothing")
    (one,) = found(tmp_path / "x.safetensors")
    with pytest.raises(MissingShard):
        read_checkpoint(one.root, one.files)


def test_a_path_that_does_not_exist_names_the_nearest_that_does(tmp_path):
    model(tmp_path / "llama-chat")
    with pytest.raises(BadAddress, match="no such folder or file") as caught:
        found(tmp_path / "llama-caht")
    assert str(tmp_path / "llama-chat") in caught.value.hint
    with pytest.raises(BadAddress) as caught:
        found(tmp_path / "a" / "b")
    assert "hf-cache:" in caught.value.hint


def test_names_with_terminal_escapes_are_shown_safely_and_still_read(tmp_path):
    model(tmp_path / "evil\x1b[2J")
    (one,) = found(tmp_path)
    assert one.name == r"evil\x1b[2J"
    assert parse(one.uri).path == one.root
    assert read_checkpoint(one.root, one.files).tensors


def test_names_that_are_not_utf8_can_be_stored_and_read(tmp_path):
    model(tmp_path / os.fsdecode(b"caf\xe9"))
    (one,) = found(tmp_path)
    one.uri.encode()
    assert one.name == r"caf\udce9"
    assert read_checkpoint(one.root, one.files).tensors


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    for repository, commit, files in [
        ("models--org--full", "aaa", ["model.safetensors", "config.json"]),
        ("models--org--full", "bbb", ["model.safetensors"]),
        ("models--org--tokenizer", "ccc", ["tokenizer.json", "config.json"]),
        ("models--org--broken", "ddd", ["model.safetensors", "config.json", "README.md"]),
    ]:
        snapshot = folder / repository / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (folder / repository / "blobs").mkdir(exist_ok=True)
        for file in files:
            blob = folder / repository / "blobs" / f"{commit}{file}"
            save_file({"a": torch.ones(2)}, blob)
            if not file.endswith("safetensors"):
                blob.write_text("{}")
            (snapshot / file).symlink_to(f"../../blobs/{commit}{file}")
    (folder / "models--org--full" / "refs").mkdir()
    (folder / "models--org--full" / "refs" / "main").write_text("bbb")
    (folder / "models--org--broken" / "blobs" / "dddREADME.md").unlink()
    (folder / "blobs" / "ab").mkdir(parents=True)
    (folder / "blobs" / "ab" / "ab12").touch()
    return folder


def test_the_whole_cache_gives_every_snapshot_with_weights(cache):
    everything = list(find(parse("hf-cache:")))
    assert [one.uri for one in everything] == [
        "hf-cache:org/broken@ddd",
        "hf-cache:org/full@aaa",
        "hf-cache:org/full@bbb",
    ]
    assert [one.name for one in everything] == ["org/broken", "org/full", "org/full"]
    for one in everything:
        assert list(find(parse(one.uri))) == [one]
        assert read_checkpoint(one.root, one.files).tensors


def test_a_broken_link_is_a_problem_of_its_checkpoint_alone(cache):
    (one,) = find(parse("hf-cache:org/broken"))
    checkpoint = read_checkpoint(one.root, one.files)
    assert [(p.file, p.error) for p in checkpoint.problems] == [("README.md", "Unreadable")]


def test_a_cached_repository_that_is_named_is_found_even_without_weights(cache):
    (one,) = find(parse("hf-cache:org/tokenizer"))
    with pytest.raises(EmptyCheckpoint):
        read_checkpoint(one.root, one.files)


@pytest.mark.parametrize("prefix", ["hf-cache:", "hf://"])
def test_a_repository_is_found_in_the_cache_by_revision(cache, prefix):
    assert [one.uri for one in find(parse(f"{prefix}org/full@main"))] == ["hf-cache:org/full@bbb"]
    assert len(list(find(parse(f"{prefix}org/full")))) == 2


def test_what_is_not_in_the_cache_needs_the_network_or_is_wrong(cache):
    with pytest.raises(BadAddress, match="not in the cache"):
        list(find(parse("hf-cache:org/other")))
    with pytest.raises(Offline, match="not in the cache") as caught:
        list(find(parse("hf://org/full@dev")))
    assert "HF_HUB_OFFLINE=0 reg scan hf://org/full@dev" in caught.value.hint


def test_an_empty_cache_is_no_error(cache):
    shutil.rmtree(cache)
    assert list(find(parse("hf-cache:"))) == []


def test_a_cache_walked_as_a_tree_gives_its_snapshots_under_their_repositories(cache):
    walked = found(cache)
    assert [one.name for one in walked] == ["org/broken", "org/full", "org/full"]
    assert read_checkpoint(walked[0].root, walked[0].files).tensors
