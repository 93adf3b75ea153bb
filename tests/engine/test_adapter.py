"""A model that wears an adapter is what peft makes of the two."""

import json
import re
import shutil
import warnings

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
)

from engine.adapter import wear
from engine.reader import Reader
from engine.source import load
from registry.errors import MissingTensor, NotMergeable, ShapeMismatch, UnsupportedDtype

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


def gpt2():
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    )


def classifier():
    torch.manual_seed(0)
    return LlamaForSequenceClassification(LlamaConfig(**SIZES, num_labels=3, pad_token_id=0))


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
        again = auto.from_pretrained(tmp_path / "base")
        adapted = get_peft_model(again, LoraConfig(task_type=task, **config))
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        adapted.save_pretrained(tmp_path / "adapter")

        def in_peft():
            fresh = auto.from_pretrained(tmp_path / "base")
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
    "some layers": (llama, {"target_modules": ATTENTION, "layers_to_transform": [1]}),
    "dora": (llama, {"target_modules": "all-linear", "r": 4, "use_dora": True}),
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
        lambda: llama(tie_word_embeddings=True),
        {"target_modules": ATTENTION, "modules_to_save": ["lm_head"]},
    ),
    "tied": (lambda: llama(tie_word_embeddings=True), {"target_modules": ATTENTION}),
    "all biases": (
        lambda: llama(attention_bias=True),
        {"target_modules": ATTENTION, "bias": "all"},
    ),
    "biases of the adapted": (
        lambda: llama(attention_bias=True),
        {"target_modules": ATTENTION, "bias": "lora_only"},
    ),
    "a bias of the adapter": (
        lambda: llama(attention_bias=True),
        {"target_modules": ATTENTION, "lora_bias": True, "lora_alpha": 3},
    ),
    "rows of tokens": (
        llama,
        {"target_modules": ATTENTION, "trainable_token_indices": [7, 2, 39]},
    ),
    "rows of tokens by module": (
        llama,
        {"target_modules": ATTENTION, "trainable_token_indices": {"embed_tokens": [3, 1]}},
    ),
    "rows of tokens, tied": (
        lambda: llama(tie_word_embeddings=True),
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
    assert_same(worn, in_peft().merge_and_unload().state_dict())


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
    "config",
    [
        {"target_modules": ["embed_tokens"], "r": 4},
        {"target_modules": ["lm_head"], "r": 4},
        {"target_modules": ["embed_tokens"], "r": 4, "ensure_weight_tying": True},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    ],
)
def test_tied_models_compute_what_they_computed_with_the_adapter_on(config, trained):
    base, adapter, in_peft = trained(llama(tie_word_embeddings=True), **config)
    worn = wear(base, adapter)
    network = llama(tie_word_embeddings=worn.checkpoint.tied)
    network.load_state_dict(weights_of(worn), strict=True)
    tokens = torch.arange(10)[None]
    expected = in_peft()(tokens).logits
    torch.testing.assert_close(network.eval()(tokens).logits, expected, rtol=1e-5, atol=1e-5)


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


@pytest.fixture
def spoilt(trained, tmp_path, parent_at):
    """An adapter of which the config or the tensors were changed."""
    base, adapter, _ = trained(llama(attention_bias=True), target_modules=ATTENTION, r=4)

    def make(change=None, rename=None, **config):
        folder = tmp_path / "spoilt"
        shutil.copytree(adapter.checkpoint.root, folder)
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
        tensors = load_file(folder / "adapter_model.safetensors")
        if change:
            change(tensors)
        if rename:
            tensors = {re.sub(*rename, name): tensor for name, tensor in tensors.items()}
        save_file(tensors, folder / "adapter_model.safetensors")
        return base, parent_at(folder)

    return make


Q0 = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"peft_type": "IA3"}, "type 'IA3'"),
        ({"peft_type": "LOHA"}, "type 'LOHA'"),
        ({"peft_type": "PROMPT_TUNING"}, "PROMPT_TUNING"),
        ({"peft_type": None}, "type None"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
        ({"target_parameters": ["experts.gate_up_proj"]}, "target_parameters"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
        ({"use_dora": True}, "magnitude"),
        ({"lora_alpha": "much"}, "lora_alpha 'much'"),
        ({"lora_alpha": True}, "lora_alpha True"),
        ({"r": 0}, "r 0"),
        ({"rank_pattern": [4]}, "rank_pattern"),
        ({"rank_pattern": {"q_proj": 2.5}}, "r 2.5"),
        ({"alpha_pattern": {"(a+)+$": 3}}, "could take forever"),
        ({"alpha_pattern": {"a*" * 30: 3}}, "could take forever"),
        ({"alpha_pattern": {"q" * 600: 3}}, "could take forever"),
        ({"alpha_pattern": {"(": 3}}, "no regular expression"),
    ],
)
def test_a_config_without_meaning_here_is_refused(config, words, spoilt):
    base, adapter = spoilt(**config)
    with pytest.raises(NotMergeable, match=re.escape(words)) as caught:
        wear(base, adapter)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda t: t.update({f"{Q0}.lora_C.weight": torch.ones(2)}), NotMergeable, "lora_C"),
        (lambda t: t.update({"stray": torch.ones(2)}), NotMergeable, "stray"),
        (lambda t: t.update({f"{Q0}.bias": torch.ones(16)}), NotMergeable, "q_proj.bias"),
        (lambda t: t.pop(f"{Q0}.lora_B.weight"), NotMergeable, "lacks factor B"),
        (lambda t: t.update({f"{Q0}.lora_A.weight": torch.ones(4, 17)}), ShapeMismatch, "q_proj"),
        (lambda t: t.update({f"{Q0}.lora_A.weight": torch.ones(3, 16)}), ShapeMismatch, "rank 4"),
        (lambda t: t.update({f"{Q0}.lora_A.weight": torch.ones(4)}), ShapeMismatch, "rank 4"),
        (lambda t: t.update({f"{Q0}.lora_B.weight": torch.ones(15, 4)}), ShapeMismatch, "q_proj"),
        (
            lambda t: t.update({f"{Q0}.lora_B.weight": torch.ones(16, 4, dtype=torch.int8)}),
            UnsupportedDtype,
            "I8",
        ),
    ],
)
def test_a_tensor_without_meaning_here_is_refused(change, error, words, spoilt):
    base, adapter = spoilt(change)
    with pytest.raises(error, match=re.escape(words)):
        wear(base, adapter)


def test_shapes_that_do_not_fit_name_both_files(spoilt):
    base, adapter = spoilt(lambda t: t.update({f"{Q0}.lora_B.weight": torch.ones(15, 4)}))
    with pytest.raises(ShapeMismatch) as caught:
        wear(base, adapter)
    for parent in (base, adapter):
        assert str(parent.checkpoint.tensors[0].file) in caught.value.message


def test_a_module_the_base_lacks_is_named(spoilt):
    base, adapter = spoilt(rename=(r"layers\.1", "layers.9"))
    with pytest.raises(MissingTensor, match=r"layers\.9\.self_attn\.q_proj\.weight"):
        wear(base, adapter)


def test_two_tensors_of_one_name_are_a_refusal(trained, make_parent):
    base, adapter, _ = trained(llama(), target_modules=["q_proj"])
    plain = weights_of(base)
    twice = make_parent("twice", {f"{p}.{n}": t.clone() for n, t in plain.items() for p in "ab"})
    with pytest.raises(NotMergeable, match="2 tensors of that name"):
        wear(twice, adapter)


def test_codes_take_no_adapter(trained, make_parent):
    base, adapter, _ = trained(llama(), target_modules=["q_proj"])
    codes = make_parent("codes", {n: t.to(torch.int8) for n, t in weights_of(base).items()})
    with pytest.raises(UnsupportedDtype, match="I8"):
        wear(codes, adapter)


def test_only_adapters_are_put_on_and_only_on_models(trained):
    base, adapter, _ = trained(llama(), target_modules=["q_proj"])
    with pytest.raises(NotMergeable, match="is no adapter"):
        wear(base, base)
    with pytest.raises(NotMergeable, match="is an adapter"):
        wear(adapter, adapter)
