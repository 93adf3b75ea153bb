"""Adapters with more tokens than their base: as PEFT saves them and computes with them."""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft_lab import Lab, tokenizer
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.adapter import wear
from engine.merge import merge
from engine.reader import Reader
from engine.recipe_file import recipe_from_text
from engine.source import load
from registry.errors import ShapeMismatch
from registry.scan import scan

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:Setting `save_embedding_layers`"
    ),  # it says what it is about to do
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`"),
]

N_BASE, N_MORE = 271, 273
TOKENS = torch.tensor([[3, 4, N_BASE, N_MORE - 1]])


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def room(request, tmp_path):
    """A base, an adapter of it that was trained with two more tokens, and its network in PEFT."""
    lab = Lab(tmp_path)
    lab.base(vocab_size=N_BASE, tie_word_embeddings=request.param)
    tokenizer(["<|end|>"]).save_pretrained(tmp_path / "base")
    made = []

    def make(name="wide", **config):
        network = lab.fresh()
        network.name_or_path = str(tmp_path / "base")
        network.resize_token_embeddings(N_MORE)
        made.append(network)
        adapted = get_peft_model(
            network, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], r=2, **config)
        )
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        adapted.save_pretrained(tmp_path / name)
        tokenizer(["<|end|>", "<|user|>", "<|bot|>"]).save_pretrained(tmp_path / name)
        return adapted.eval()

    return lab, make


CONFIGS = [{}, {"modules_to_save": ["embed_tokens", "lm_head"]}]


@pytest.mark.parametrize("config", CONFIGS, ids=["resized", "trained"])
def test_a_model_that_wears_it_has_its_tokens_and_computes_what_peft_does(config, room, catalog):
    lab, make = room
    adapted = make(**config)
    scan(catalog, [str(lab.folder)])
    text = f"merge_method: passthrough\nmodels: ['{lab.folder}/base+{lab.folder}/wide']\n"
    merge(catalog, recipe_from_text(text), lab.folder / "out")
    made = AutoModelForCausalLM.from_pretrained(lab.folder / "out").eval()
    assert made.config.vocab_size == N_MORE
    with torch.no_grad():
        expected = adapted(TOKENS).logits
        torch.testing.assert_close(made(TOKENS).logits, expected, rtol=1e-4, atol=1e-5)
    spoken = AutoTokenizer.from_pretrained(lab.folder / "out")
    assert spoken.convert_tokens_to_ids(["<|user|>", "<|bot|>"]) == [N_BASE, N_BASE + 1]


def test_with_its_base_it_merges_by_token(room, catalog):
    lab, make = room
    make(modules_to_save=["embed_tokens", "lm_head"])
    lab.adapter("plain", 5)
    scan(catalog, [str(lab.folder)])
    here = lab.folder
    text = f"""
merge_method: task_arithmetic
base_model: {here}/base
models: ['{here}/base+{here}/wide', '{here}/base+{here}/plain']
"""
    with pytest.raises(
        ShapeMismatch, match=f"{N_BASE}.*and.*{N_MORE}|{N_MORE}.*and.*{N_BASE}"
    ) as bare:
        merge(catalog, recipe_from_text(text), here / "out")
    assert "tokenizer_source" in bare.value.hint
    merge(catalog, recipe_from_text(text + "tokenizer_source: union\n"), here / "out")
    stored = load_file(here / "out" / "model.safetensors")
    worn = wear(lab.read("base"), lab.read("wide")).tensors["model.embed_tokens.weight"]
    with Reader() as reader:
        row = load(reader, worn)[N_BASE]
    torch.testing.assert_close(stored["model.embed_tokens.weight"][N_BASE], row)
    assert len(AutoTokenizer.from_pretrained(here / "out")) == N_MORE


def test_more_tokens_in_one_table_only_are_refused(room):
    lab, make = room
    make()
    file = lab.folder / "wide" / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors["base_model.model.lm_head.weight"] = tensors["base_model.model.lm_head.weight"][
        :N_BASE
    ].clone()
    save_file(tensors, file)
    with pytest.raises(ShapeMismatch, match="brings more tokens to some tables only"):
        wear(lab.read("base"), lab.read("wide"))


def test_peft_loads_what_it_saved(room):
    lab, make = room
    adapted = make()
    network = lab.fresh()
    network.resize_token_embeddings(N_MORE)
    again = PeftModel.from_pretrained(network, lab.folder / "wide").eval()
    with torch.no_grad():
        torch.testing.assert_close(again(TOKENS).logits, adapted(TOKENS).logits)
    assert json.loads((lab.folder / "wide" / "adapter_config.json").read_text())["r"] == 2


def test_as_an_adapter_among_adapters_it_is_refused_with_the_way_out(room, catalog):
    lab, make = room
    make()
    lab.adapter("plain", 5)
    scan(catalog, [str(lab.folder)])
    text = f"merge_method: task_arithmetic\nmodels: ['{lab.folder}/wide', '{lab.folder}/plain']\n"
    with pytest.raises(ShapeMismatch, match="it has other tokens") as refused:
        merge(catalog, recipe_from_text(text), lab.folder / "out")
    assert "tokenizer_source: union" in refused.value.hint
