"""Adapters are read as peft reads them; what has no meaning here, or no place in the base, is refused."""

import json
import math
import re
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import (
    AdaLoraConfig,
    IA3Config,
    LoraConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
    VeraConfig,
    get_peft_model,
)
from peft.utils.other import get_pattern_key
from peft_lab import Lab, gpt2, llama
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM

from engine.adapter import wear
from engine.lora import read_lora
from engine.parent import Parent
from engine.reader import Reader
from engine.source import load
from registry.errors import (
    MissingTensor,
    NonFinite,
    NotMergeable,
    ShapeMismatch,
    UnsupportedDtype,
)
from registry.header import TensorRef

Q0 = "base_model.model.model.layers.0.self_attn.q_proj"
DOWN = "model.layers.1.mlp.down_proj"
C_ATTN = "transformer.h.0.attn.c_attn"


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


@pytest.fixture(scope="module")
def school(tmp_path_factory):
    """A base with biases and an adapter of it, which nobody changes."""
    lab = Lab(tmp_path_factory.mktemp("school"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lab.base(attention_bias=True)
        lab.adapter("adapter", 1)
    return lab


@pytest.fixture
def spoilt(school, tmp_path):
    """A base, and an adapter of it of which the config or the tensors were changed."""

    def make(change=None, **config):
        base, folder = school.read("base"), tmp_path / "spoilt"
        folder.mkdir()
        old = school.folder / "adapter"
        given = json.loads((old / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps({**given, **config}))
        tensors = load_file(old / "adapter_model.safetensors")
        if change:
            change(tensors)
        save_file(tensors, folder / "adapter_model.safetensors")
        return base, Lab(tmp_path).read("spoilt")

    return make


def renamed(tensors, old, new):
    """Rename tensors in place."""
    for name in list(tensors):
        tensors[re.sub(old, new, name)] = tensors.pop(name)


def in_memory(config, paths, ranks):
    """An adapter of which only names and shapes exist."""
    tensors = []
    for path, rank in zip(paths, ranks, strict=True):
        at = f"base_model.model.{path}.lora_"
        tensors.append(TensorRef(f"{at}A.weight", "F32", (rank, 8), None, 0, 0))
        tensors.append(TensorRef(f"{at}B.weight", "F32", (6, rank), None, 0, 0))
    checkpoint = SimpleNamespace(
        root="memory",
        kind="adapter",
        tensors=tensors,
        adapter_config={"peft_type": "LORA"} | config,
    )
    return Parent("id", "memory", checkpoint, {})


@given(
    alpha=st.one_of(st.integers(-64, 512), st.floats(-1e6, 1e6)),
    rank=st.integers(1, 256),
    stabilised=st.booleans(),
)
def test_law_the_scale_is_alpha_by_rank_or_by_its_root(alpha, rank, stabilised):
    config = {"r": rank, "lora_alpha": alpha, "use_rslora": stabilised}
    (factors,) = read_lora(in_memory(config, ["a.q_proj"], [rank])).factors
    assert factors.rank == rank
    assert factors.scale == pytest.approx(alpha / (math.sqrt(rank) if stabilised else rank))


PATHS = [f"model.layers.{i}.{m}" for i in (1, 11) for m in ("attn.q_proj", "mlp.up", "fc.q_proj")]
PATTERNS = [
    "q_proj", "proj", ".*q_proj", "layers.1.attn.q_proj", "1.mlp.up", r"layers\.1\.mlp\.up", "up",
    "^model.layers.1.mlp.up", "model.layers.11.(attn|fc).q_proj", "[a-f]+.q_proj", "mlp", "11.*",
]  # fmt: skip


@settings(max_examples=60)
@given(
    ranks=st.dictionaries(st.sampled_from(PATTERNS), st.integers(1, 9), max_size=4),
    alphas=st.dictionaries(st.sampled_from(PATTERNS), st.integers(1, 99), max_size=4),
)
def test_law_patterns_choose_as_peft_chooses(ranks, alphas):
    rank_of = {p: ranks.get(get_pattern_key(ranks, p), 4) for p in PATHS}
    alpha_of = {p: alphas.get(get_pattern_key(alphas, p), 7) for p in PATHS}
    config = {"r": 4, "lora_alpha": 7, "rank_pattern": ranks, "alpha_pattern": alphas}
    lora = read_lora(in_memory(config, PATHS, rank_of.values()))
    assert {f.path: f.rank for f in lora.factors} == rank_of
    assert {f.path: f.scale for f in lora.factors} == {p: alpha_of[p] / rank_of[p] for p in PATHS}


@pytest.mark.parametrize(
    ("network", "module", "dtype"),
    [(llama, DOWN, torch.bfloat16), (gpt2, C_ATTN, torch.float32)],
)
@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"use_dora": True}])
def test_a_weight_is_the_formula_in_float64(options, network, module, dtype, lab):
    base = lab.base(lambda: network().to(dtype))
    adapter = lab.adapter("one", 1, target_modules=[module], r=4, lora_alpha=3, **options)
    stored = load_file(lab.folder / "one" / "adapter_model.safetensors")
    at = f"base_model.model.{module}.lora_"
    a, b = (stored[f"{at}{side}.weight"].double().numpy() for side in "AB")
    weight = load_file(lab.folder / "base" / "model.safetensors")[f"{module}.weight"]
    assert (weight.dtype, a.dtype) == (dtype, np.float64)
    weight = weight.double().numpy()
    turned = network is gpt2
    new = (weight.T if turned else weight) + 3 / (2 if "use_rslora" in options else 4) * b @ a
    if "use_dora" in options:
        magnitude = stored[f"{at}magnitude_vector"].double().numpy()
        new = magnitude[:, None] * new / np.linalg.norm(new, axis=1, keepdims=True)
    expected = torch.from_numpy(np.ascontiguousarray(new.T if turned else new)).float()
    with Reader() as reader:
        found = load(reader, wear(base, adapter).tensors[f"{module}.weight"])
    torch.testing.assert_close(found, expected, rtol=3e-7, atol=1e-9)


def test_a_magnitude_may_have_the_name_that_older_versions_gave_it(lab):
    lab.base()
    new = read_lora(lab.adapter("one", 1, use_dora=True))
    longer = lab.spoilt("one", lambda t: renamed(t, "magnitude_vector$", "magnitude_vector.weight"))
    for now, then in zip(new.factors, read_lora(longer).factors, strict=True):
        assert now.magnitude.shape == then.magnitude.shape
        assert (now.path, now.scale) == (then.path, then.scale)


def test_copies_of_modules_that_are_saved_whole_are_passed_over(lab):
    lab.base(attention_bias=True)
    config = {"bias": "all", "target_modules": ["q_proj"], "modules_to_save": ["o_proj", "lm_head"]}
    adapter = lab.adapter("one", 1, **config)
    names = {t.name.removeprefix("base_model.model.") for t in adapter.checkpoint.tensors}
    assert any("original_module" in name for name in names)
    whole = read_lora(adapter).whole
    assert not [n for n in whole if "modules_to_save" in n or "original_module" in n]
    assert {"lm_head.weight", "model.layers.0.self_attn.o_proj.bias"} <= set(whole)
    alone = lab.spoilt(
        "one", lambda t: renamed(t, r"lm_head\.weight$", "lm_head.original_module.weight")
    )
    with pytest.raises(NotMergeable, match=r"lm_head\.original_module\.weight"):
        read_lora(alone)


def test_a_square_weight_is_stored_as_its_namesakes_whatever_the_config_says(lab):
    base = lab.base(gpt2)
    adapter = lab.adapter("one", 1, target_modules=["attn.c_proj", "lm_head"])
    assert adapter.checkpoint.adapter_config["fan_in_fan_out"] is False
    made = wear(base, adapter).made
    assert made["transformer.h.0.attn.c_proj.weight"].transposed
    assert not made["lm_head.weight"].transposed


def bert():
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    return BertForMaskedLM(BertConfig(**sizes, num_attention_heads=2))


@pytest.mark.parametrize("whole", [True, False])
def test_an_embedding_that_the_head_of_an_encoder_shares_cannot_change(whole, lab):
    base, shared = lab.base(bert), ["word_embeddings"]
    config = {"modules_to_save": shared} if whole else {}
    lora = LoraConfig(target_modules=["query"] if whole else shared, **config)
    get_peft_model(lab.fresh(), lora).save_pretrained(lab.folder / "one")
    with pytest.raises(NotMergeable, match=r"word_embeddings\.weight .*BertForMaskedLM"):
        wear(base, lab.read("one"))


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (IA3Config(target_modules=["k_proj"], feedforward_modules=[]), "IA3"),
        (PrefixTuningConfig(num_virtual_tokens=3), "PREFIX_TUNING"),
        (PromptTuningConfig(num_virtual_tokens=3), "PROMPT_TUNING"),
        (AdaLoraConfig(target_modules=["q_proj"], total_step=10), "ADALORA"),
        (VeraConfig(target_modules=["q_proj"], r=2), "VERA"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_adapters_of_other_kinds_are_refused_by_name(config, kind, lab):
    base = lab.base()
    config.task_type = "CAUSAL_LM"
    get_peft_model(lab.fresh(), config).save_pretrained(lab.folder / "other")
    with pytest.raises(NotMergeable, match=rf"other .*type '{kind}'; only LORA") as caught:
        wear(base, lab.read("other"))
    assert "merge_and_unload" in caught.value.hint


@pytest.mark.parametrize("text", [None, "{", "[]", "{}"])
def test_an_adapter_without_a_config_is_none(text, spoilt):
    base, adapter = spoilt()
    path = adapter.checkpoint.root / "adapter_config.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    again = Lab(path.parent.parent).read("spoilt")
    with pytest.raises(NotMergeable, match="no adapter_config") as caught:
        wear(base, again)
    assert str(path.parent) in caught.value.message


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
        ({"r": -1}, "r -1"),
        ({"r": None}, "r None"),
        ({"rank_pattern": {"q_proj": 0}}, "r 0"),
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
    base, adapter = spoilt(lambda t: renamed(t, r"layers\.1", "layers.9"))
    with pytest.raises(MissingTensor, match=r"layers\.9\.self_attn\.q_proj\.weight") as caught:
        wear(base, adapter)
    assert str(adapter.checkpoint.tensors[0].file) in caught.value.message


@pytest.mark.parametrize("where", ["layers.0.self_attn.q_proj", "layers.7.input_layernorm", "norm"])
def test_a_tensor_that_belongs_to_another_base_is_not_added(where, spoilt):
    name = f"base_model.model.model.{where}.bias"
    base, adapter = spoilt(lambda t: t.update({name: torch.ones(16)}), bias="all")
    plain = tuple(t for t in base.checkpoint.tensors if not t.name.endswith(".bias"))
    base = replace(base, checkpoint=replace(base.checkpoint, tensors=plain))
    with pytest.raises(MissingTensor, match=re.escape(f"{where}.bias")) as caught:
        wear(base, adapter)
    assert str(adapter.checkpoint.tensors[0].file) in caught.value.message
    assert str(base.checkpoint.root) in caught.value.message


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_numbers_that_are_none_are_found_when_they_are_read(value, spoilt):
    base, adapter = spoilt(lambda t: t[f"{Q0}.lora_B.weight"][3, 1].fill_(value))
    worn = wear(base, adapter).tensors["model.layers.0.self_attn.q_proj.weight"]
    with Reader() as reader, pytest.raises(NonFinite, match="NaN or infinity") as caught:
        load(reader, worn)
    assert f"{Q0}.lora_B.weight" in caught.value.message
    assert str(adapter.checkpoint.tensors[0].file) in caught.value.message


def changed(lab, name, change):
    """A copy of the base under another name, its tensors changed one by one."""
    (lab.folder / name).mkdir()
    tensors = load_file(lab.folder / "base" / "model.safetensors")
    save_file(change(tensors), lab.folder / name / "model.safetensors")
    return lab.read(name)


def test_two_tensors_of_one_name_are_a_refusal(lab):
    lab.base()
    adapter = lab.adapter("one", 1)
    twice = changed(lab, "twice", lambda t: {f"{p}.{n}": x + 0 for n, x in t.items() for p in "ab"})
    with pytest.raises(NotMergeable, match="2 tensors of that name"):
        wear(twice, adapter)


def test_codes_take_no_adapter(lab):
    lab.base()
    adapter = lab.adapter("one", 1)
    codes = changed(lab, "codes", lambda t: {n: x.to(torch.int8) for n, x in t.items()})
    with pytest.raises(UnsupportedDtype, match="I8"):
        wear(codes, adapter)


def test_only_adapters_are_put_on_and_only_on_models(school):
    base, adapter = school.read("base"), school.read("adapter")
    with pytest.raises(NotMergeable, match="is no adapter"):
        wear(base, base)
    with pytest.raises(NotMergeable, match="is an adapter"):
        wear(adapter, adapter)
