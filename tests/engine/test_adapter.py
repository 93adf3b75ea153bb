"""A model that wears an adapter is what peft makes of the two."""

import warnings

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
)

from engine.adapter import wear
from engine.merge import merge, reproduce
from engine.reader import Reader
from engine.recipe_file import recipe_from_text
from engine.source import load

SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def llama(**options):
    torch.manual_seed(0)
    options = {"tie_word_embeddings": False, **options}
    return LlamaForCausalLM(LlamaConfig(**SIZES, **options))


def tied_llama():
    return llama(tie_word_embeddings=True)


def biased():
    return llama(attention_bias=True)


def gpt2(**options):
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
    return GPT2LMHeadModel(GPT2Config(**sizes, **options))


def bert(kind=BertForMaskedLM, **options):
    torch.manual_seed(0)
    sizes = {k: v for k, v in SIZES.items() if k != "num_key_value_heads"}
    return kind(BertConfig(**sizes, max_position_embeddings=32, num_labels=3, **options))


def classifier():
    torch.manual_seed(0)
    return LlamaForSequenceClassification(LlamaConfig(**SIZES, num_labels=3, pad_token_id=0))


TOKENS = torch.arange(10)[None]


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def trained(tmp_path, parent_at):
    """Train, that is shake, a real peft adapter of a real model: ``(base, adapter, load_in_peft)``."""

    def make(network, auto=AutoModelForCausalLM, task="CAUSAL_LM", **config):
        network.save_pretrained(tmp_path / "base")
        again = auto.from_pretrained(tmp_path / "base", dtype=torch.float32)
        adapted = get_peft_model(again, LoraConfig(task_type=task, **config))
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        adapted.save_pretrained(tmp_path / "adapter")

        def in_peft():
            fresh = auto.from_pretrained(tmp_path / "base", dtype=torch.float32)
            return PeftModel.from_pretrained(fresh, tmp_path / "adapter").eval()

        return parent_at(tmp_path / "base"), parent_at(tmp_path / "adapter"), in_peft

    return make


def weights_of(parent):
    """Every tensor of a parent, computed."""
    with Reader() as reader:
        return {name: load(reader, source) for name, source in parent.tensors.items()}


def assert_same(worn, expected):
    found = weights_of(worn)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=1e-6)
    lacking = set(expected) - set(found)
    assert not lacking or (lacking <= {"lm_head.weight"} and worn.checkpoint.tied)


def assert_computes_the_same(worn, expected):
    """A network with the weights of ``worn`` computes what one of peft's does with its adapter on."""
    inner = expected.get_base_model()
    config = inner.config.to_dict() | {"tie_word_embeddings": worn.checkpoint.tied}
    network = type(inner)(type(inner.config)(**config))
    missing, unexpected = network.load_state_dict(weights_of(worn), strict=False)
    tied = set(network._tied_weights_keys or {}) if worn.checkpoint.tied else set()
    assert (set(missing) - tied, unexpected) == (set(), [])
    network.tie_weights()
    with torch.no_grad():
        found, wanted = (each.eval()(TOKENS).logits for each in (network, expected))
        with expected.disable_adapter():
            assert not torch.allclose(expected(TOKENS).logits, wanted, atol=1e-4)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


ATTENTION = ["q_proj", "v_proj"]
VARIETIES = {
    "plain": (llama, {"target_modules": ATTENTION, "r": 4, "lora_alpha": 16}),
    "every linear": (llama, {"target_modules": "all-linear", "r": 3, "lora_alpha": 5}),
    "rank-stabilised": (llama, {"target_modules": ATTENTION, "r": 4, "use_rslora": True}),
    "patterns": (
        llama,
        {
            "target_modules": ATTENTION,
            "r": 4,
            "lora_alpha": 7,
            "rank_pattern": {"q_proj": 2, r"layers\.1\.self_attn\.v_proj": 6, "proj": 5},
            "alpha_pattern": {"^model.layers.0.self_attn.v_proj": 3, "1.self_attn.(q|k)_proj": 11},
        },
    ),
    "patterns, rank-stabilised": (
        llama,
        {"target_modules": ATTENTION, "use_rslora": True, "rank_pattern": {"v_proj": 2}},
    ),
    "a pattern of modules": (llama, {"target_modules": r".*\.1\..*(down|k)_proj", "r": 3}),
    "all but some": (llama, {"target_modules": "all-linear", "exclude_modules": ["up_proj"]}),
    "some layers": (llama, {"target_modules": ATTENTION, "layers_to_transform": [1]}),
    "dora": (llama, {"target_modules": "all-linear", "r": 4, "use_dora": True}),
    "dora, rank-stabilised": (
        llama,
        {"target_modules": ATTENTION, "use_dora": True, "use_rslora": True, "lora_alpha": 3},
    ),
    "dora of embeddings": (
        llama,
        {"target_modules": ["embed_tokens", "q_proj"], "r": 4, "use_dora": True},
    ),
    "embeddings": (llama, {"target_modules": ["embed_tokens", "lm_head", "k_proj"], "r": 4}),
    "whole modules": (
        llama,
        {"target_modules": ATTENTION, "modules_to_save": ["lm_head", "embed_tokens", "norm"]},
    ),
    "tied head saved whole": (
        tied_llama,
        {"target_modules": ATTENTION, "modules_to_save": ["lm_head"]},
    ),
    "tied": (tied_llama, {"target_modules": ATTENTION}),
    "all biases": (biased, {"target_modules": ATTENTION, "bias": "all"}),
    "biases of the adapted": (biased, {"target_modules": ATTENTION, "bias": "lora_only"}),
    "a bias of the adapter": (
        biased,
        {"target_modules": ATTENTION, "lora_bias": True, "lora_alpha": 3},
    ),
    "rows of tokens": (llama, {"target_modules": ATTENTION, "trainable_token_indices": [7, 2, 39]}),
    "rows of tokens by module": (
        llama,
        {"target_modules": ATTENTION, "trainable_token_indices": {"embed_tokens": [3, 1]}},
    ),
    "rows of tokens, tied": (
        tied_llama,
        {"target_modules": ATTENTION, "trainable_token_indices": [7, 2]},
    ),
    "stored transposed": (
        gpt2,
        {"target_modules": ["c_attn", "c_proj", "c_fc"], "r": 4, "fan_in_fan_out": True},
    ),
    "stored transposed, dora": (
        gpt2,
        {"target_modules": ["c_attn", "c_proj"], "use_dora": True, "fan_in_fan_out": True},
    ),
}


@pytest.mark.parametrize("variety", VARIETIES)
def test_every_tensor_is_what_peft_merges(variety, trained):
    network, config = VARIETIES[variety]
    base, adapter, in_peft = trained(network(), **config)
    worn = wear(base, adapter)
    assert worn.made
    expected = in_peft()
    assert_computes_the_same(worn, expected)
    assert_same(worn, expected.merge_and_unload().state_dict())


@pytest.mark.parametrize(
    ("network", "auto", "task", "config"),
    [
        (bert, AutoModelForMaskedLM, None, {"target_modules": ["query", "value"]}),
        (bert, AutoModelForMaskedLM, None, {"target_modules": "all-linear", "use_dora": True}),
        (
            lambda: bert(BertForSequenceClassification),
            AutoModelForSequenceClassification,
            "SEQ_CLS",
            {"target_modules": ["query"], "bias": "all", "modules_to_save": ["pooler"]},
        ),
    ],
)
def test_an_encoder_is_what_peft_merges(network, auto, task, config, trained):
    base, adapter, in_peft = trained(network(), auto, task, **config)
    worn, expected = wear(base, adapter), in_peft()
    assert set(worn.tensors) == set(base.tensors)
    assert_computes_the_same(worn, expected)
    merged = expected.merge_and_unload().state_dict()
    assert_same(worn, {name: merged[name] for name in worn.tensors})


def test_a_classifier_brings_its_own_head(trained):
    base, adapter, in_peft = trained(
        classifier(),
        AutoModelForSequenceClassification,
        "SEQ_CLS",
        target_modules=ATTENTION,
    )
    worn = wear(base, adapter)
    assert "score.weight" in worn.made
    assert_same(worn, in_peft().merge_and_unload().state_dict())


@pytest.mark.parametrize(
    ("network", "config"),
    [
        (llama, {"target_modules": ["embed_tokens"], "r": 4}),
        (llama, {"target_modules": ["lm_head"], "r": 4}),
        (llama, {"target_modules": ["embed_tokens"], "r": 4, "ensure_weight_tying": True}),
        (llama, {"target_modules": ["embed_tokens", "lm_head"]}),
        (llama, {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}),
        (llama, {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}),
        (gpt2, {"target_modules": ["c_proj", "lm_head"], "fan_in_fan_out": True}),
        (gpt2, {"target_modules": ["attn.c_proj", "lm_head"]}),
        (gpt2, {"target_modules": ["attn.c_proj", "wte"]}),
    ],
)
def test_tied_models_compute_what_they_computed_with_the_adapter_on(network, config, trained):
    base, adapter, in_peft = trained(network(tie_word_embeddings=True), **config)
    assert_computes_the_same(wear(base, adapter), in_peft())


def test_convolutions_are_what_peft_merges(tmp_path, parent_at):
    class Eye(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.one = torch.nn.Conv1d(3, 5, 3)
            self.two = torch.nn.Conv2d(4, 6, 3)
            self.point = torch.nn.Conv2d(4, 6, 1)

    torch.manual_seed(0)
    eye = Eye()
    (tmp_path / "base").mkdir()
    save_file(eye.state_dict(), tmp_path / "base" / "model.safetensors")
    for dora in (False, True):
        adapted = get_peft_model(
            Eye(), LoraConfig(target_modules=["one", "two", "point"], r=2, use_dora=dora)
        )
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn(parameter.shape))
                else:
                    own = name.removeprefix("base_model.model.").replace(".base_layer", "")
                    parameter.copy_(eye.state_dict()[own])
        folder = tmp_path / f"adapter-{dora}"
        adapted.save_pretrained(folder)
        worn = wear(parent_at(tmp_path / "base"), parent_at(folder))
        assert_same(worn, adapted.merge_and_unload().state_dict())


def test_names_may_lack_or_have_a_prefix(trained, make_parent):
    base, adapter, _ = trained(llama(), target_modules=ATTENTION)
    expected = weights_of(wear(base, adapter))
    plain = weights_of(base)
    for change in (lambda n: n.removeprefix("model."), lambda n: f"language_model.{n}"):
        renamed = make_parent(
            f"renamed-{change('model.a')}", {change(n): t for n, t in plain.items()}
        )
        found = weights_of(wear(renamed, adapter))
        assert all(torch.equal(found[change(name)], tensor) for name, tensor in expected.items())


def test_adapters_are_put_on_one_after_another(trained, tmp_path, parent_at):
    base, adapter, in_peft = trained(llama(), target_modules=ATTENTION, use_dora=True)
    network = in_peft().merge_and_unload()
    second = get_peft_model(network, LoraConfig(target_modules=["q_proj"], r=3))
    with torch.no_grad():
        for parameter in second.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    second.save_pretrained(tmp_path / "second")
    other = parent_at(tmp_path / "second")
    worn = wear(wear(base, adapter), other)
    assert worn.id == f"{base.id}+{adapter.id}+{other.id}"
    assert worn.name == "base+adapter+second"
    assert worn.adapters == (adapter, other)
    assert_same(worn, second.merge_and_unload().state_dict())


def test_what_is_unchanged_keeps_its_digest_and_its_file(trained):
    base, adapter, _ = trained(llama(), target_modules=["q_proj"])
    worn = wear(base, adapter)
    changed = {f"model.layers.{i}.self_attn.q_proj.weight" for i in range(2)}
    assert set(worn.made) == changed
    assert set(base.digests) - set(worn.digests) == changed
    assert {
        n: t for n, t in base.tensors.items() if n not in changed
    }.items() <= worn.tensors.items()


def test_the_number_of_threads_changes_nothing(trained):
    base, adapter, _ = trained(llama(), target_modules="all-linear", use_dora=True)
    before = torch.get_num_threads()
    try:
        found = []
        for n in (1, 2):
            torch.set_num_threads(n)
            found.append(weights_of(wear(base, adapter)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def tree(folder):
    """Every file below a folder but those of catalogs."""
    return {p for p in folder.rglob("*") if p.is_file() and ".duckdb" not in p.name}


@pytest.mark.parametrize(
    ("tied", "config"),
    [(False, {"use_dora": True}), (True, {}), (True, {"modules_to_save": ["embed_tokens"]})],
)
def test_a_merge_of_one_computes_what_peft_computes_and_leaves_no_expert(
    config, tied, trained, catalog, tmp_path
):
    network = llama(tie_word_embeddings=tied)
    base, adapter, in_peft = trained(network, target_modules=ATTENTION, **config)
    before = tree(tmp_path)
    worn = f"{base.checkpoint.root}+{adapter.checkpoint.root}"
    text = f"merge_method: linear\nmodels:\n- model: {worn}\n  parameters: {{weight: 1}}\n"
    merge(catalog, recipe_from_text(text), tmp_path / "out")
    assert {p.parent for p in tree(tmp_path) - before} == {tmp_path / "out"}
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        torch.testing.assert_close(
            again(TOKENS).logits, in_peft()(TOKENS).logits, rtol=1e-5, atol=1e-5
        )


def test_experts_are_merged_without_being_written(trained, catalog, tmp_path):
    base, adapter, in_peft = trained(llama().to(torch.bfloat16), target_modules=ATTENTION)
    other = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base.checkpoint.root, dtype=torch.float32),
        LoraConfig(target_modules="all-linear", r=3, use_dora=True, init_lora_weights=False),
    )
    other.save_pretrained(tmp_path / "other")
    before = tree(tmp_path)
    text = f"""
merge_method: linear
models:
- {{model: "{base.checkpoint.root}+{adapter.checkpoint.root}", parameters: {{weight: 0.25}}}}
- {{model: "{base.checkpoint.root}+{tmp_path / "other"}", parameters: {{weight: 0.75}}}}
out_dtype: float32
"""
    made = merge(catalog, recipe_from_text(text), tmp_path / "out")
    assert {p.parent for p in tree(tmp_path) - before} == {tmp_path / "out"}
    expected, again = reproduce(catalog, made.model, tmp_path / "again")
    assert again.model == expected == made.model
    one, two = (p.merge_and_unload().state_dict() for p in (in_peft(), other))
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert set(found) == set(one)
    for name, tensor in found.items():
        expected = 0.25 * one[name] + 0.75 * two[name]
        torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-6)
