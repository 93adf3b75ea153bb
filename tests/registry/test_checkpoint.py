"""Checkpoints: which files of a folder are the model, and what is said about the others."""

import json

import pytest
import torch
from safetensors.torch import save_file

from registry.checkpoint import Checkpoint, list_files, read_checkpoint
from registry.errors import BadIndex, EmptyCheckpoint, UnknownTensor, Unreadable, UnsafeFormat


def tensors(*names):
    return {name: torch.full((2, 3), float(len(name))) for name in names}


def save_index(folder, shards, stem="model"):
    """Write shards, given as {file: tensor names}, and their index."""
    for file, names in shards.items():
        save_file(tensors(*names), folder / file)
    weight_map = {name: file for file, names in shards.items() for name in names}
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))


def names(checkpoint: Checkpoint):
    return [ref.name for ref in checkpoint.tensors]


def test_a_folder_of_one_file_is_read_with_its_config(family):
    checkpoint = read_checkpoint(family.base)
    assert (checkpoint.layout, checkpoint.kind) == ("folder", "model")
    assert names(checkpoint) == sorted(family.weights["base"])
    assert checkpoint.n_params == sum(t.numel() for t in family.weights["base"].values())
    assert checkpoint.n_bytes == 2 * checkpoint.n_params
    assert checkpoint.metadata == {"format": "pt"}
    assert checkpoint.config["model_type"] == "llama"
    assert checkpoint.problems == ()


def test_shards_are_read_as_one_model(family):
    whole, sharded = read_checkpoint(family.base), read_checkpoint(family.sharded)
    assert names(sharded) == names(whole)
    assert len({ref.file for ref in sharded.tensors}) == 3
    assert (sharded.n_params, sharded.n_bytes) == (whole.n_params, whole.n_bytes)
    assert sharded.problems == ()


def test_an_adapter_is_one_by_its_config_and_its_weights(family):
    checkpoint = read_checkpoint(family.adapter)
    assert checkpoint.kind == "adapter"
    assert checkpoint.adapter_config["peft_type"] == "LORA"
    assert checkpoint.config == {}


def test_a_model_beside_an_adapter_config_stays_a_model(tmp_path):
    save_file(tensors("a"), tmp_path / "model.safetensors")
    save_file(tensors("lora"), tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    checkpoint = read_checkpoint(tmp_path)
    assert (checkpoint.kind, names(checkpoint)) == ("model", ["a"])


def test_a_sharded_adapter_is_read_by_its_own_index(tmp_path):
    save_index(
        tmp_path,
        {"adapter_model-1.safetensors": "a", "adapter_model-2.safetensors": "b"},
        "adapter_model",
    )
    (tmp_path / "adapter_config.json").write_text("{}")
    checkpoint = read_checkpoint(tmp_path)
    assert (checkpoint.kind, names(checkpoint)) == ("adapter", ["a", "b"])


def test_the_only_index_counts_whatever_its_name(tmp_path):
    save_index(
        tmp_path, {"x-1.safetensors": "a", "x-2.safetensors": "b"}, "diffusion_pytorch_model"
    )
    assert names(read_checkpoint(tmp_path)) == ["a", "b"]


def test_of_several_indexes_the_usual_one_counts(tmp_path):
    save_index(tmp_path, {"x-1.safetensors": "a"}, "other")
    with_one = read_checkpoint(tmp_path)
    save_index(tmp_path, {"y-1.safetensors": "b"}, "more")
    with pytest.raises(BadIndex, match="holds 2 indexes"):
        read_checkpoint(tmp_path)
    save_index(tmp_path, {"z-1.safetensors": "c"})
    assert (names(with_one), names(read_checkpoint(tmp_path))) == (["a"], ["c"])


def test_a_config_makes_one_model_of_all_files_beside_it(tmp_path):
    save_file(tensors("b"), tmp_path / "part_2.safetensors", metadata={"format": "pt", "part": "2"})
    save_file(
        tensors("a"), tmp_path / "part_1.safetensors", metadata={"format": "np", "first": "yes"}
    )
    (tmp_path / "config.json").write_text("{}")
    checkpoint = read_checkpoint(tmp_path)
    assert names(checkpoint) == ["a", "b"]
    assert checkpoint.metadata == {"format": "np", "first": "yes", "part": "2"}


def test_files_without_a_config_are_no_model_together(tmp_path):
    save_file(tensors("a"), tmp_path / "a.safetensors")
    save_file(tensors("b"), tmp_path / "b.safetensors")
    with pytest.raises(EmptyCheckpoint, match="holds 2 safetensors files") as caught:
        read_checkpoint(tmp_path)
    assert "a.safetensors" in caught.value.hint


def test_a_bare_file_is_a_checkpoint_without_config(tmp_path):
    file = tmp_path / "a.safetensors"
    save_file(tensors("a"), file)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    checkpoint = read_checkpoint(file)
    assert (checkpoint.root, checkpoint.layout, checkpoint.config) == (file, "file", {})
    assert [ref.path for ref in checkpoint.files] == ["a.safetensors"]


def test_a_blob_without_suffix_is_read_as_a_bare_file(tmp_path):
    save_file(tensors("a"), tmp_path / "0123abcd")
    assert names(read_checkpoint(tmp_path / "0123abcd")) == ["a"]


def test_a_stale_shard_beside_an_index_is_a_problem_and_not_a_part(tmp_path):
    save_index(tmp_path, {"model-1.safetensors": "a"})
    save_file(tensors("old"), tmp_path / "model-9.safetensors")
    checkpoint = read_checkpoint(tmp_path)
    assert names(checkpoint) == ["a"]
    (problem,) = checkpoint.problems
    assert (problem.address, problem.file, problem.error) == (
        str(tmp_path),
        "model-9.safetensors",
        "BadIndex",
    )
    assert "not named by model.safetensors.index.json" in problem.detail


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1, "a": 2}', "\udcff"])
def test_a_malformed_config_is_a_problem_and_not_the_end(tmp_path, content):
    save_file(tensors("a"), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes(content.encode(errors="surrogateescape"))
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.config == {}
    assert [(p.file, p.error) for p in checkpoint.problems] == [("config.json", "BadDocument")]


def test_pickles_beside_safetensors_are_listed_only(tmp_path):
    save_file(tensors("a"), tmp_path / "model.safetensors")
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    checkpoint = read_checkpoint(tmp_path)
    assert {ref.path: ref.format for ref in checkpoint.files}["pytorch_model.bin"] == "pickle"
    assert checkpoint.problems == ()


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth", "x.ckpt", "w.pkl"]
)
def test_a_folder_of_pickles_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    (tmp_path / "config.json").write_text("{}")
    for root in (tmp_path, tmp_path / name):
        with pytest.raises(UnsafeFormat, match=name) as caught:
            read_checkpoint(root)
        assert "convert" in caught.value.hint


def test_a_trainers_state_is_not_weights(tmp_path):
    (tmp_path / "training_args.bin").write_bytes(b"x")
    with pytest.raises(EmptyCheckpoint, match="no safetensors file"):
        read_checkpoint(tmp_path)


def test_a_folder_of_gguf_is_empty_to_us(tmp_path):
    (tmp_path / "model-Q4_K.gguf").write_bytes(b"GGUF")
    with pytest.raises(EmptyCheckpoint, match="1 GGUF files, each of which is a checkpoint"):
        read_checkpoint(tmp_path)


def test_an_empty_folder_is_an_empty_checkpoint(tmp_path):
    with pytest.raises(EmptyCheckpoint, match="0 files"):
        read_checkpoint(tmp_path)


def test_a_file_without_tensors_is_an_empty_checkpoint(tmp_path):
    save_file({}, tmp_path / "model.safetensors")
    with pytest.raises(EmptyCheckpoint, match=r"model\.safetensors holds no tensor"):
        read_checkpoint(tmp_path)


def test_a_missing_folder_is_unreadable(tmp_path):
    with pytest.raises(Unreadable, match="no such file"):
        read_checkpoint(tmp_path / "nothing")
    with pytest.raises(Unreadable, match="cannot be listed"):
        read_checkpoint(tmp_path / "nothing" / "model.safetensors")


def test_a_tensor_is_found_by_name_or_missed_by_name(family):
    checkpoint = read_checkpoint(family.base)
    assert checkpoint.tensor("model.norm.weight").shape == (16,)
    with pytest.raises(UnknownTensor, match=r"has no tensor model\.norm$"):
        checkpoint.tensor("model.norm")


@pytest.mark.parametrize(
    ("config", "tied"),
    [
        ({}, True),
        ({"tie_word_embeddings": True}, True),
        ({"tie_word_embeddings": False}, False),
        ({"text_config": {"tie_word_embeddings": False}}, False),
        ({"tie_word_embeddings": True, "text_config": {"tie_word_embeddings": False}}, True),
        ({"tie_word_embeddings": "no", "text_config": []}, True),
    ],
)
def test_heads_are_tied_unless_the_config_says_no(tmp_path, config, tied):
    save_file(tensors("a"), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_checkpoint(tmp_path).tied is tied


def test_known_files_are_not_listed_again(family):
    files = list_files(family.base)
    assert read_checkpoint(family.base, files).files is files
