"""Judged by others: transformers loads what was merged, and it computes what plain torch says it must."""

import json

import pytest
import safetensors
import torch
from conftest import shapes
from peft import PeftModel
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from engine.merge import merge
from engine.options import Options
from engine.verify import verify
from registry.scan import scan

LLAMA = {
    "vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
BERT = {
    "vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 40,
}  # fmt: skip
TOKENS = torch.arange(24).reshape(2, 12) % 61


def moved(network, seed, scale=0.01):
    """A fine-tune of a network: a random task vector on all of its weights."""
    child = type(network)(network.config).to(network.dtype)
    child.load_state_dict(network.state_dict())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in child.parameters():
            weight.add_((scale * torch.randn(weight.shape, generator=generator)).to(weight.dtype))
    return child


def saved(network, folder, *, base="", **options):
    network.save_pretrained(folder, **options)
    if base:
        (folder / "README.md").write_text(f"---\nbase_model: {base}\n---\n", encoding="utf-8")
    return folder


def seeded(kind, config, dtype):
    torch.manual_seed(0)
    return kind(config).to(dtype)


def make_family(catalog, kind, config, folder, dtype=torch.float32, **options):
    """A base and two children, in memory, on disk and in the catalog."""
    base = seeded(kind, config, dtype)
    networks = {"base": base, "one": moved(base, 1), "two": moved(base, 2)}
    for name, network in networks.items():
        saved(network, folder / name, base="" if name == "base" else "base", **options)
    scan(catalog, [str(folder)])
    return networks


def averaged(networks):
    """The mean of two children, in float32, cast once."""
    one, two = (networks[name].state_dict() for name in ("one", "two"))
    return {
        name: (one[name].float() * 0.5 + two[name].float() * 0.5).to(one[name].dtype)
        if one[name].is_floating_point() else one[name]
        for name in one
    }  # fmt: skip


def summed(networks, scale):
    """The base plus both task vectors times ``scale``, in float32, cast once."""
    base, one, two = (networks[name].state_dict() for name in ("base", "one", "two"))

    def merged(name):
        b = base[name].float()
        return b + ((one[name].float() - b) * scale + (two[name].float() - b) * scale)

    return {name: merged(name).to(base[name].dtype) for name in base}


@pytest.mark.parametrize(("method", "tied"), [("linear", True), ("task_arithmetic", False)])
def test_a_merged_llama_computes_what_plain_torch_says(method, tied, catalog, recipe_of, tmp_path):
    config = LlamaConfig(**LLAMA, tie_word_embeddings=tied)
    networks = make_family(
        catalog, LlamaForCausalLM, config, tmp_path, torch.bfloat16, max_shard_size="20kB"
    )
    assert len(list((tmp_path / "one").glob("*.safetensors"))) > 2
    parameters = {} if method == "linear" else {"lambda_": 0.5}
    recipe = recipe_of(method, tmp_path / "one", tmp_path / "two", **parameters)
    options = Options(shard_bytes=15_000)
    folder = merge(catalog, recipe, tmp_path / "out", options=options).folder
    assert len(list(folder.glob("*.safetensors"))) > 2
    assert verify(catalog, str(folder)).ok
    loaded, info = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", output_loading_info=True
    )
    assert loaded.dtype == torch.bfloat16
    assert not any(info.values()), info
    plain = seeded(LlamaForCausalLM, config, torch.bfloat16)
    plain.load_state_dict(averaged(networks) if method == "linear" else summed(networks, 0.5))
    expected = AutoModelForCausalLM.from_pretrained(saved(plain, tmp_path / "plain"), dtype="auto")
    with torch.inference_mode():
        assert torch.equal(loaded.eval()(TOKENS).logits, expected.eval()(TOKENS).logits)


def test_a_tied_and_an_untied_llama_make_an_untied_one(catalog, recipe_of, tmp_path):
    tied = seeded(LlamaForCausalLM, LlamaConfig(**LLAMA, tie_word_embeddings=True), torch.float32)
    untied = LlamaForCausalLM(LlamaConfig(**LLAMA, tie_word_embeddings=False))
    untied.load_state_dict(moved(tied, 3).state_dict())
    with torch.no_grad():
        untied.lm_head.weight.add_(0.1)
    folders = [saved(tied, tmp_path / "tied"), saved(untied, tmp_path / "untied")]
    options = Options(allow_unrelated=True)
    merged = merge(catalog, recipe_of("linear", *folders), tmp_path / "out", options=options)
    assert "stands for it" in merged.notes[0]
    loaded = AutoModelForCausalLM.from_pretrained(merged.folder)
    assert loaded.config.tie_word_embeddings is False
    expected = LlamaForCausalLM(untied.config)
    one, two = tied.state_dict(), untied.state_dict()
    expected.load_state_dict({name: one[name] * 0.5 + two[name] * 0.5 for name in two})
    with torch.inference_mode():
        assert torch.equal(loaded.eval()(TOKENS).logits, expected.eval()(TOKENS).logits)


def test_a_tied_llama_that_stores_its_head_is_merged_without_it(catalog, recipe_of, tmp_path):
    config = LlamaConfig(**LLAMA, tie_word_embeddings=True)
    networks = make_family(catalog, LlamaForCausalLM, config, tmp_path)
    for name in ("base", "one", "two"):
        state = {k: v.contiguous().clone() for k, v in networks[name].state_dict().items()}
        assert "lm_head.weight" in state
        safetensors.torch.save_file(
            state, tmp_path / name / "model.safetensors", metadata={"format": "pt"}
        )
    scan(catalog, [str(tmp_path)])
    merged = merge(catalog, recipe_of("ties", tmp_path / "one", tmp_path / "two"), tmp_path / "out")
    with safetensors.safe_open(merged.folder / "model.safetensors", "pt") as opened:
        assert "lm_head.weight" not in opened.keys()  # noqa: SIM118 - not a dict
    loaded = AutoModelForCausalLM.from_pretrained(merged.folder)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight


@pytest.mark.parametrize("method", ["linear", "task_arithmetic"])
def test_a_merged_bert_computes_what_plain_torch_says(method, catalog, recipe_of, tmp_path):
    networks = make_family(catalog, BertModel, BertConfig(**BERT), tmp_path)
    parameters = {} if method == "linear" else {"lambda_": 0.25}
    recipe = recipe_of(method, tmp_path / "one", tmp_path / "two", **parameters)
    merged = merge(catalog, recipe, tmp_path / "out")
    loaded = AutoModel.from_pretrained(merged.folder)
    expected = BertModel(BertConfig(**BERT))
    expected.load_state_dict(averaged(networks) if method == "linear" else summed(networks, 0.25))
    with torch.inference_mode():
        got, right = (net.eval()(TOKENS).last_hidden_state for net in (loaded, expected))
    assert torch.equal(got, right)


def test_output_in_another_dtype_loads_in_that_dtype(catalog, recipe_of, tmp_path):
    make_family(catalog, LlamaForCausalLM, LlamaConfig(**LLAMA), tmp_path)
    recipe = recipe_of("ties", tmp_path / "one", tmp_path / "two", dtype="BF16")
    merged = merge(catalog, recipe, tmp_path / "out")
    loaded = AutoModelForCausalLM.from_pretrained(merged.folder, dtype="auto")
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    config = json.loads((merged.folder / "config.json").read_text(encoding="utf-8"))
    assert config.get("dtype", config.get("torch_dtype")) == "bfloat16"


def test_an_adapter_still_fits_the_merge_of_its_bases_family(shelf, family, recipe_of, tmp_path):
    merged = merge(shelf, recipe_of("linear", "chat", "math"), tmp_path / "out")
    network = AutoModelForCausalLM.from_pretrained(merged.folder, dtype=torch.float32)
    assert network.state_dict().keys() >= shapes().keys()
    adapted = PeftModel.from_pretrained(network, family.adapter)
    with torch.inference_mode():
        assert adapted(torch.arange(8)[None]).logits.isfinite().all()
