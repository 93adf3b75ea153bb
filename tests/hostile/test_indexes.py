"""Folders made to harm: indexes and links that lead out, shards that lie, missing pieces."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from registry.checkpoint import read_checkpoint
from registry.errors import (
    BadHeader,
    BadIndex,
    CorruptCheckpoint,
    DuplicateTensor,
    EmptyCheckpoint,
    HeaderTooLarge,
    MissingShard,
    PathEscapes,
    TruncatedFile,
    Unreadable,
)

INDEX = "model.safetensors.index.json"


def save(file, *names):
    save_file({name: torch.ones(3) for name in names}, file)


def index(folder, weight_map):
    text = weight_map if isinstance(weight_map, str) else json.dumps({"weight_map": weight_map})
    (folder / INDEX).write_text(text)


ESCAPES = [
    "../../etc/passwd",
    "../model.safetensors",
    "/etc/passwd",
    "sub/model.safetensors",
    "./model.safetensors",
    "..",
    "",
    "..\\model.safetensors",
    "C:\\model.safetensors",
    "model.safetensors\0.txt",
]


@pytest.mark.parametrize("name", ESCAPES)
def test_an_index_that_names_a_file_elsewhere_is_refused(tmp_path, name):
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    for place in (tmp_path, folder, folder / "sub"):
        save(place / "model.safetensors", "a")
    index(folder, {"a": name})
    with pytest.raises(PathEscapes):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", BadIndex),
        ("[]", BadIndex),
        ("{}", BadIndex),
        ('{"weight_map": []}', BadIndex),
        ('{"weight_map": {"a": 1}}', BadIndex),
        ('{"weight_map": {"a": null}}', BadIndex),
        ('{"weight_map": {}}', EmptyCheckpoint),
        ('{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}', BadIndex),
        ("[" * 100_000, BadIndex),
    ],
)
def test_a_malformed_index_is_refused(tmp_path, text, error):
    index(tmp_path, text)
    with pytest.raises(error, match=r"model\.safetensors\.index\.json"):
        read_checkpoint(tmp_path)


def test_a_shard_that_is_not_there_is_named(tmp_path):
    save(tmp_path / "model-1.safetensors", "a")
    index(tmp_path, {"a": "model-1.safetensors", "b": "model-2.safetensors"})
    with pytest.raises(MissingShard, match=r"'model-2\.safetensors', which is not there"):
        read_checkpoint(tmp_path)


def test_a_shard_that_is_a_broken_link_is_missing(tmp_path):
    (tmp_path / "model.safetensors").symlink_to("nothing")
    with pytest.raises(MissingShard, match="leads nowhere"):
        read_checkpoint(tmp_path)


def test_a_tensor_that_no_shard_holds_is_refused(tmp_path):
    save(tmp_path / "model-1.safetensors", "a")
    index(tmp_path, {"a": "model-1.safetensors", "b": "model-1.safetensors"})
    with pytest.raises(
        BadIndex, match=r"on 1 tensors; 'b' is by the index in .* and in truth in 'no shard'"
    ):
        read_checkpoint(tmp_path)


def test_a_tensor_that_the_index_conceals_is_refused(tmp_path):
    save(tmp_path / "model-1.safetensors", "a", "hidden")
    index(tmp_path, {"a": "model-1.safetensors"})
    with pytest.raises(BadIndex, match="'hidden' is by the index in 'no shard'"):
        read_checkpoint(tmp_path)


def test_a_tensor_in_another_shard_than_the_index_says_is_refused(tmp_path):
    save(tmp_path / "model-1.safetensors", "a")
    save(tmp_path / "model-2.safetensors", "b")
    index(tmp_path, {"a": "model-2.safetensors", "b": "model-1.safetensors"})
    with pytest.raises(BadIndex, match="on 2 tensors"):
        read_checkpoint(tmp_path)


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    save(tmp_path / "model-1.safetensors", "a", "b")
    save(tmp_path / "model-2.safetensors", "b", "c")
    weight_map = {
        "a": "model-1.safetensors",
        "b": "model-1.safetensors",
        "c": "model-2.safetensors",
    }
    index(tmp_path, weight_map)
    with pytest.raises(
        DuplicateTensor, match=r"tensor b is both in model-1\.safetensors and in model-2"
    ):
        read_checkpoint(tmp_path)


def test_a_tensor_in_two_files_without_an_index_is_refused(tmp_path):
    save(tmp_path / "fp16.safetensors", "a")
    save(tmp_path / "fp32.safetensors", "a")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DuplicateTensor, match="tensor a"):
        read_checkpoint(tmp_path)


def test_an_index_that_names_a_pickle_is_refused_unopened(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    index(tmp_path, {"a": "pytorch_model.bin"})
    with pytest.raises(BadIndex, match="no safetensors file"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", INDEX])
def test_weights_that_are_a_link_out_of_the_folder_are_refused(tmp_path, name):
    folder = tmp_path / "model"
    folder.mkdir()
    save(tmp_path / "model.safetensors", "a")
    index(tmp_path, {"a": "model.safetensors"})
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(PathEscapes, match="leaves the folder"):
        read_checkpoint(folder)


def test_a_bare_file_that_is_a_link_out_of_its_folder_is_refused(tmp_path):
    (tmp_path / "sub").mkdir()
    save(tmp_path / "a.safetensors", "a")
    (tmp_path / "sub" / "b.safetensors").symlink_to("../a.safetensors")
    with pytest.raises(PathEscapes, match="leaves the folder"):
        read_checkpoint(tmp_path / "sub" / "b.safetensors")


def test_other_files_that_are_links_out_of_the_folder_are_problems_and_stay_unread(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    save(folder / "model.safetensors", "a")
    (tmp_path / "secret.json").write_text('{"password": 1}')
    for name in ("config.json", "tokenizer.json"):
        (folder / name).symlink_to("../secret.json")
    (folder / "README.md").symlink_to("nothing")
    checkpoint = read_checkpoint(folder)
    assert checkpoint.config == {}
    assert [(p.file, p.error) for p in checkpoint.problems] == [
        ("README.md", "Unreadable"),
        ("config.json", "PathEscapes"),
        ("tokenizer.json", "PathEscapes"),
    ]


def test_a_pipe_in_the_place_of_weights_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(Unreadable, match="not a regular file"):
        read_checkpoint(tmp_path)


def test_a_folder_in_the_place_of_weights_holds_no_tensor(tmp_path):
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(EmptyCheckpoint):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("n_lost", [1, 11, 12, 13, 60, 70])
def test_a_truncated_shard_is_refused(tmp_path, n_lost):
    file = tmp_path / "model.safetensors"
    save(file, "a")
    os.truncate(file, file.stat().st_size - n_lost)
    with pytest.raises(CorruptCheckpoint, match=r"model\.safetensors"):
        read_checkpoint(tmp_path)


def test_trailing_bytes_are_refused(tmp_path):
    file = tmp_path / "model.safetensors"
    save(file, "a")
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(TruncatedFile):
        read_checkpoint(tmp_path)


def test_a_pickle_under_the_name_of_weights_is_refused_unopened(tmp_path):
    torch.save({"a": torch.ones(3)}, tmp_path / "model.safetensors")
    with pytest.raises(CorruptCheckpoint):
        read_checkpoint(tmp_path)


def test_a_pointer_of_git_lfs_is_refused_with_the_command_that_helps(tmp_path):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
    (tmp_path / "model.safetensors").write_text(pointer)
    with pytest.raises(HeaderTooLarge) as caught:
        read_checkpoint(tmp_path)
    assert "git lfs pull" in caught.value.hint


def test_text_under_the_name_of_weights_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(
        (20).to_bytes(8, "little") + b"a text of some length"
    )
    with pytest.raises(BadHeader, match="not valid JSON"):
        read_checkpoint(tmp_path)
