"""Adapters as PEFT stores them, judged by PEFT."""

import json
import warnings

import pytest
import torch
from huggingface_hub import ModelCard
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from engine.adapter import wear
from engine.lora_writer import NewAdapter, Pair
from engine.reader import Reader
from engine.source import load

SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 12,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "tie_word_embeddings": False,
}


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A tiny Llama of twelve layers: layer 1 and layer 11 end alike."""
    folder = tmp_path_factory.mktemp("network") / "base"
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**SIZES)).save_pretrained(folder)
    return folder


@pytest.fixture
def written(tmp_path):
    """Write an adapter and give its folder."""

    def write(adapter, made_by="# Made\n", **metadata):
        folder = tmp_path / "lora"
        folder.mkdir()
        adapter.write(folder, made_by=made_by, metadata=metadata)
        return folder

    return write


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pair(path, n_out, n_in, rank, *, seed=0):
    return Pair(path, random(rank, n_in, seed=seed), random(n_out, rank, seed=seed + 1))


def merged(base, folder):
    """What PEFT makes of base and adapter: name → tensor."""
    network = AutoModelForCausalLM.from_pretrained(base)
    return PeftModel.from_pretrained(network, folder).merge_and_unload().state_dict()


def test_ranks_differ_by_module_and_the_scale_is_one(base, written, parent_at):
    pairs = [
        pair("model.layers.1.self_attn.q_proj", 16, 16, 3),
        pair("model.layers.11.self_attn.q_proj", 16, 16, 5, seed=2),
        pair("model.layers.2.mlp.up_proj", 24, 16, 3, seed=4),
        pair("model.layers.10.mlp.down_proj", 16, 24, 1, seed=6),
    ]
    folder = written(NewAdapter(pairs, "base", task="CAUSAL_LM"))
    old, new = load_file(base / "model.safetensors"), merged(base, folder)
    changes = {f"{p.path}.weight": p.b @ p.a for p in pairs}
    for name, tensor in old.items():
        torch.testing.assert_close(new[name], tensor + changes.get(name, 0.0))
    worn = wear(parent_at(base), parent_at(folder))
    with Reader() as reader:
        for name in changes:
            torch.testing.assert_close(load(reader, worn.tensors[name]), new[name])


def test_embeddings_have_factors_of_their_own(base, written):
    embedding = Pair("model.embed_tokens", random(2, 40), random(16, 2, seed=1), embedding=True)
    folder = written(NewAdapter([embedding], "base"))
    old, new = load_file(base / "model.safetensors"), merged(base, folder)
    name = "model.embed_tokens.weight"
    torch.testing.assert_close(new[name], old[name] + (embedding.b @ embedding.a).T)


def test_whole_tensors_replace_those_of_the_base(base, written):
    norm, head = random(16), random(40, 16)
    adapter = NewAdapter(
        [pair("model.layers.0.self_attn.v_proj", 8, 16, 2)],
        "base",
        whole={"model.norm.weight": norm, "lm_head.weight": head},
        modules_to_save=["model.norm", "lm_head"],
    )
    new = merged(base, written(adapter))
    assert torch.equal(new["model.norm.weight"], norm)
    assert torch.equal(new["lm_head.weight"], head)


def test_a_bias_of_an_adapted_module_stands_inside_it():
    adapter = NewAdapter(
        [pair("a.q_proj", 4, 4, 1)],
        "base",
        whole={"a.q_proj.bias": torch.ones(4), "a.k_proj.bias": torch.ones(4)},
        biases=True,
    )
    assert adapter.config["bias"] == "all"
    assert [name.removeprefix("base_model.model.") for name in adapter.tensors] == [
        "a.k_proj.bias",
        "a.q_proj.base_layer.bias",
        "a.q_proj.lora_A.weight",
        "a.q_proj.lora_B.weight",
    ]


def test_dtypes_stay_and_the_bytes_are_counted(written):
    whole = {
        "norm.weight": torch.ones(3, dtype=torch.bfloat16),
        "scale.weight": torch.ones(2, dtype=torch.float64),
    }
    adapter = NewAdapter([pair("a", 4, 6, 2)], "base", whole=whole)
    held = load_file(written(adapter) / "adapter_model.safetensors")
    assert held["base_model.model.norm.weight"].dtype == torch.bfloat16
    assert held["base_model.model.scale.weight"].dtype == torch.float64
    assert adapter.n_bytes == sum(t.nbytes for t in held.values()) == 80 + 6 + 16


def test_the_commonest_rank_is_the_adapters_and_of_two_the_larger():
    two, three = pair("a.x", 8, 8, 2), pair("a.y", 8, 8, 3)
    assert NewAdapter([two, three], "base").config["r"] == 3
    config = NewAdapter([two, three, pair("b", 8, 8, 2)], "base").config
    assert (config["r"], config["lora_alpha"]) == (2, 2)
    assert config["rank_pattern"] == config["alpha_pattern"] == {r"a\.y": 3}


def test_the_same_adapter_gives_the_same_bytes(tmp_path):
    pairs = [pair("a", 4, 4, 2), pair("b", 4, 4, 1)]
    found = []
    for i, order in enumerate((pairs, pairs[::-1])):
        folder = tmp_path / str(i)
        folder.mkdir()
        NewAdapter(order, "base").write(folder, made_by="# Made\n", metadata={"b": "2", "a": "1"})
        found.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert found[0] == found[1]
    assert set(found[0]) == {"README.md", "adapter_config.json", "adapter_model.safetensors"}


@pytest.mark.parametrize("name", ["base", "owner/base"])
def test_the_card_names_the_base_and_the_file_says_who_made_it(name, written):
    folder = written(NewAdapter([pair("a", 4, 4, 1)], name), made_by="# A story\n", made="here")
    card = ModelCard.load(folder / "README.md")
    assert card.data.base_model == name
    assert card.data.library_name == "peft"
    assert card.text.strip() == "# A story"
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "made": "here"}
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == name


@pytest.mark.parametrize("name", ["a/b/c", "../up", "with space", "x" * 97, "é/b"])
def test_a_name_that_is_no_repository_is_no_base_of_a_card(name, written):
    folder = written(NewAdapter([pair("a", 4, 4, 1)], name))
    assert ModelCard.load(folder / "README.md").data.base_model is None
