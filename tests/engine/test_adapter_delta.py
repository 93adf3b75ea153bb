"""What adapters of every kind add, with and without their base, judged by real peft."""

import warnings

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft_lab import TOKENS, Lab, close, dense, gpt2, run, sum_in_peft

from engine.adapter import wear
from engine.methods import all_methods
from engine.reader import Reader
from engine.source import load
from registry.errors import NotMergeable, ShapeMismatch


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


NEEDY = {
    "dora": ({}, {"use_dora": True}, "lora_magnitude_vector", "DoRA"),
    "norms": ({}, {"modules_to_save": ["norm", "lm_head"]}, "lm_head", "in place of the base's"),
    "biases": (
        {"attention_bias": True}, {"bias": "all"}, r"k_proj\.bias", "in place of the base's",
    ),
    "adapted biases": (
        {"attention_bias": True}, {"bias": "lora_only"}, "bias", "in place of the base's",
    ),
    "a bias of the adapter": ({"attention_bias": True}, {"lora_bias": True}, "bias", "a bias"),
    "rows": ({}, {"trainable_token_indices": [7, 2]}, "token_adapter", "replaces rows"),
    "rows, tied": (
        {"tie_word_embeddings": True}, {"trainable_token_indices": [7, 2]}, "token", "replaces rows",
    ),
    "embeddings": (
        {}, {"target_modules": ["embed_tokens", "lm_head", "q_proj"]}, "base_layer", "in place of",
    ),
}  # fmt: skip


@pytest.mark.parametrize("variety", NEEDY)
def test_what_needs_the_base_is_merged_with_it(variety, lab):
    options, config, tensor, why = NEEDY[variety]
    base = lab.base(**options)
    adapters = [lab.adapter("one", 1, **config), lab.adapter("two", 2, r=2)]
    with pytest.raises(NotMergeable, match=rf"{tensor}.* of adapter one .*{why}") as caught:
        run("task_arithmetic", adapters)
    assert "give --base" in caught.value.hint
    new, _, _ = run("task_arithmetic", adapters, base, rank=1000, weight=[0.5, 1.5])
    lab.write(new)
    expected = sum_in_peft(lab, ["one", "two"], [0.5, 1.5])(TOKENS).logits
    torch.testing.assert_close(lab.in_peft("merged")(TOKENS).logits, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(expected, lab.fresh()(TOKENS).logits, atol=1e-2)


def test_dora_is_merged_as_what_it_changes(lab):
    base = lab.base()
    adapters = [lab.adapter("one", 1, use_dora=True), lab.adapter("two", 2)]
    new, changes, _ = run("task_arithmetic", adapters, base, rank=1000)
    plain = lab.fresh().state_dict()
    each = [lab.in_peft(n).merge_and_unload().state_dict() for n in ("one", "two")]
    for name, product in dense(new).items():
        close(product, sum(own[name] - plain[name] for own in each))
    assert {c.action for c in changes} == {"low_rank"}
    _, changes, _ = run("task_arithmetic", adapters, base)
    assert {c.rank for c in changes} == {8}
    assert max(c.relative_error for c in changes) > 1e-3


def test_a_lora_whose_own_weight_is_the_base_s_stays_a_lora(lab):
    base = lab.base()
    targets = ["embed_tokens", "lm_head", "q_proj"]
    adapters = [lab.adapter(n, i, target_modules=targets) for i, n in enumerate(("one", "two"))]
    assert any("base_layer" in t.name for t in adapters[0].checkpoint.tensors)
    new, changes, _ = run("task_arithmetic", adapters, base)
    assert not new.whole
    assert {c.rank for c in changes} == {8}


def test_a_lora_with_a_weight_of_its_own_is_stored_whole(lab):
    base = lab.base()
    lab.adapter("one", 1, target_modules=["embed_tokens", "q_proj"])

    def moved(tensors):
        at = next(name for name in tensors if "base_layer" in name)
        tensors[at] = tensors[at] + 1

    adapters = [lab.spoilt("one", moved), lab.adapter("two", 2)]
    new, changes, _ = run("task_arithmetic", adapters, base, rank=1)
    name = "model.embed_tokens.weight"
    assert [c.tensor for c in changes if c.action == "whole"] == [name]
    with Reader() as reader:
        close(new.whole[name], load(reader, wear(base, adapters[0]).made[name]))
    assert new.modules_to_save == ["model.embed_tokens"]


@pytest.mark.parametrize("tied", [False, True])
def test_loras_of_embeddings_and_heads_need_no_base(tied, lab):
    base = lab.base(tie_word_embeddings=tied)
    for i, targets in enumerate((["embed_tokens", "q_proj"], ["embed_tokens", "lm_head"])):
        lab.adapter(str(i), i, target_modules=targets)

        def without_weights(tensors):
            for name in [n for n in tensors if "base_layer" in n]:
                del tensors[name]

        lab.spoilt(str(i), without_weights)
    names = ["spoilt-0", "spoilt-1"]
    adapters = [lab.read(name) for name in names]
    new, _, _ = run("task_arithmetic", adapters)
    lab.write(new)
    again, _, _ = run("task_arithmetic", adapters, base)
    assert all(torch.equal(again.tensors[n], t) for n, t in new.tensors.items())
    model = lab.in_peft(*names)
    model.add_weighted_adapter(names, [1.0, 1.0], "cat", combination_type="cat")
    model.set_adapter("cat")
    expected = model(TOKENS).logits
    found = lab.in_peft("merged")(TOKENS).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_networks_that_store_weights_transposed(lab):
    base = lab.base(gpt2)
    targets = ["c_attn", "c_proj"]
    for i, name in enumerate(("one", "two")):
        lab.adapter(name, i, target_modules=targets, fan_in_fan_out=True)
    adapters = [lab.read("one"), lab.read("two")]
    plain = lab.fresh().state_dict()
    each = [lab.in_peft(n).merge_and_unload().state_dict() for n in ("one", "two")]
    for ground in (None, base):
        for rank in (0, 1000):
            new, _, _ = run("task_arithmetic", adapters, ground, rank=rank)
            for name, product in dense(new).items():
                close(product, sum(own[name] - plain[name] for own in each))
    lab.write(new)
    expected = sum_in_peft(lab, ["one", "two"])(TOKENS).logits
    torch.testing.assert_close(lab.in_peft("merged")(TOKENS).logits, expected, rtol=1e-4, atol=1e-5)
    for method in ("magmax", "iso_cts"):
        turned, _, _ = run(method, adapters, rank=1000)
        like, _, _ = run(method, adapters, base, rank=1000)
        assert all(torch.equal(like.tensors[n], t) for n, t in turned.tensors.items())
    lab.spoilt("one", fan_in_fan_out=False)
    other = lab.spoilt("two", fan_in_fan_out=False)
    for method in ("iso_c", "tsv_merge"):  # which do not care
        straight = run(method, [lab.read("spoilt-one"), other])[0]
        for name, product in dense(run(method, adapters)[0]).items():
            close(dense(straight)[name].T, product)
    with pytest.raises(NotMergeable, match="differ in fan_in_fan_out: one true, spoilt-two false"):
        run("task_arithmetic", [adapters[0], other])
    told, taken = (
        run("task_arithmetic", [adapters[0], last], base)[0] for last in (adapters[1], other)
    )
    for name, product in dense(told).items():  # the base's own bias says how they are stored
        close(dense(taken)[name], product)


def test_convolutions(tmp_path):
    class Eye(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.one = torch.nn.Conv1d(3, 5, 3)
            self.two = torch.nn.Conv2d(4, 6, 3)

    lab = Lab(tmp_path)
    for seed in (1, 2):
        adapted = get_peft_model(Eye(), LoraConfig(target_modules=["one", "two"], r=2))
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn(parameter.shape))
        adapted.save_pretrained(tmp_path / str(seed))
    adapters = [lab.read("1"), lab.read("2")]
    plain = Eye().state_dict()
    load_on = lambda name: (  # noqa: E731
        PeftModel.from_pretrained(Eye(), tmp_path / name).merge_and_unload().state_dict()
    )
    each = [load_on("1"), load_on("2")]
    for method in ("task_arithmetic", "ram", "iso_c"):
        new, _, _ = run(method, adapters, rank=0 if method == "task_arithmetic" else 1000)
        lab.write(new, method)
        found = load_on(method)
        for name in ("one.weight", "two.weight"):
            expected = [own[name] - plain[name] for own in each]
            if method == "ram":
                expected = [all_methods()["ram"].function(expected)]
            scale = 0.5 if method == "iso_c" else 1.0
            close(found[name] - plain[name], scale * sum(expected), 1e-5)


def test_adapters_of_different_bases_are_refused_unless_the_base_is_given(lab):
    base = lab.base()
    lab.adapter("one", 1)
    lab.adapter("two", 2)
    one = lab.spoilt("one", base_model_name_or_path="org/a")
    two = lab.spoilt("two", base_model_name_or_path="org/b")
    with pytest.raises(
        NotMergeable, match="different bases: spoilt-one of org/a, spoilt-two of org/b"
    ) as caught:
        run("task_arithmetic", [one, two])
    assert "--base" in caught.value.hint
    assert run("task_arithmetic", [one, two], base)[0].base == "base"


def test_a_module_of_two_shapes_or_names_is_refused(lab):
    lab.base()
    one, two = lab.adapter("one", 1), lab.adapter("two", 2)
    at = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"

    def wider(tensors):
        tensors[at] = torch.ones(20, 4)

    def renamed(tensors):
        for name in list(tensors):
            tensors[name.replace("base_model.model.model.", "base_model.model.")] = tensors.pop(
                name
            )

    with pytest.raises(ShapeMismatch, match=rf"{at}.* \[20, 4\] .*spoilt-one.* do not fit .*two"):
        run("task_arithmetic", [two, lab.spoilt("one", wider)])
    with pytest.raises(NotMergeable, match="may be one module by two names"):
        run("task_arithmetic", [one, lab.spoilt("two", renamed)])
    both = run("task_arithmetic", [one, lab.read("spoilt-two")], lab.read("base"))[0]
    assert {pair.path.partition(".")[0] for pair in both.pairs} == {"model"}


def test_modules_that_the_base_does_not_have_are_refused(lab):
    base = lab.base()
    lab.adapter("one", 1)

    def headed(tensors):
        tensors["base_model.model.score.weight"] = torch.ones(3, 16)

    headed_one = lab.spoilt("one", headed, modules_to_save=["score"])
    with pytest.raises(
        NotMergeable, match=r"score\.weight of adapter spoilt-one .* no counterpart"
    ):
        run("task_arithmetic", [headed_one], base)
