"""Plans: every decision made, and every refusal said, before a byte is read."""

import pytest
import torch

from engine.output_config import effective_config
from registry.errors import MissingTensor, NotMergeable, ShapeMismatch, UnsupportedDtype

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def state(seed=0, **more):
    generator = torch.Generator().manual_seed(seed)
    made = {
        EMBED: torch.randn((6, 4), generator=generator),
        "w": torch.randn(5, generator=generator),
    }
    return {**made, **{name.replace("__", "."): tensor for name, tensor in more.items()}}


def steps(plan):
    return {step.name: step for step in plan.steps}


def test_a_plan_lists_every_tensor_once_and_what_it_costs(make_parent, planned):
    base = make_parent("base", state(ids=torch.arange(3)))
    models = [make_parent(str(i), state(i, ids=torch.arange(3))) for i in (1, 2)]
    plan = planned("ties", models, base=base)
    assert [s.name for s in plan.steps] == [
        "ids",
        HEAD.replace("lm_head", "model.embed_tokens"),
        "w",
    ]
    assert [s.action for s in plan.steps] == ["copy", "merge", "merge"]
    assert plan.read_bytes == 24 + 3 * 4 * (24 + 5)
    assert plan.write_bytes == 24 + 4 * (24 + 5)
    assert plan.parents == (base, *models)
    assert plan.reference is base
    assert not plan.notes


def test_the_same_parents_give_the_same_plan(make_parent, planned):
    models = [make_parent(str(i), state(i)) for i in (1, 2)]
    assert planned("linear", models) == planned("linear", models)


def test_tensors_no_architecture_knows_are_kept(make_parent, planned):
    extra = {"some__unheard_of__thing": torch.ones(3)}
    plan = planned(
        "linear", [make_parent("a", state(1, **extra)), make_parent("b", state(2, **extra))]
    )
    assert steps(plan)["some.unheard_of.thing"].action == "merge"


@pytest.mark.parametrize("method", ["linear", "ties"])
def test_a_tensor_that_only_one_has_is_refused(method, make_parent, planned):
    base, one = make_parent("base", state()), make_parent("one", state(1))
    two = make_parent("two", state(2, extra=torch.ones(2)))
    with pytest.raises(MissingTensor, match=r"tensor extra is in two but not in .*one") as caught:
        planned(method, [one, two], base=base)
    assert "reg mergeable" in caught.value.hint


def test_one_name_with_two_shapes_is_refused(make_parent, planned):
    one, two = make_parent("one", state()), make_parent("two", state(1) | {"w": torch.ones(6)})
    with pytest.raises(
        ShapeMismatch, match=r"tensor w has shape \[5\] in one and \[6\] in two"
    ) as caught:
        planned("linear", [one, two])
    assert caught.value.hint == "reg mergeable says what else differs"
    grown = make_parent("grown", state(1) | {EMBED: torch.ones(8, 4)})
    with pytest.raises(ShapeMismatch, match=r"\[6, 4\] in one and \[8, 4\] in grown") as caught:
        planned("linear", [one, grown])
    assert "vocabularies differ" in caught.value.hint


def test_an_adapter_is_refused(make_parent, planned, family, parent_at):
    with pytest.raises(NotMergeable, match="adapter is an adapter; this merge takes whole models"):
        planned("linear", [make_parent("one", state()), parent_at(family.adapter)])


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("whose", ["one", "both", "base"])
def test_8_bit_floats_are_refused_and_not_averaged(whose, dtype, make_parent, planned):
    def quantised(seed):
        plain = state(seed)
        return plain | {"w": plain["w"].to(dtype), "w_scale_inv": torch.ones(1)}

    base = make_parent("base", quantised(0) if whose == "base" else state())
    one = make_parent("one", quantised(1) if whose != "base" else state(1))
    two = make_parent("two", quantised(2) if whose == "both" else state(2))
    parents = {"base": [base, one], "one": [base, one], "both": [one, two]}[whose]
    with pytest.raises(
        UnsupportedDtype, match=r"tensor w of .* has dtype F8_E.*codes and not values"
    ) as caught:
        planned("linear", parents)
    assert "dequantise" in caught.value.hint


def test_packed_whole_numbers_are_refused(make_parent, planned):
    packed = [
        torch.randint(0, 9, (4, 4), dtype=torch.int32, generator=torch.Generator().manual_seed(i))
        for i in (1, 2)
    ]
    one, two = (make_parent(str(i), state(i, w__qweight=p)) for i, p in enumerate(packed))
    with pytest.raises(UnsupportedDtype, match=r"w\.qweight of .* has dtype I32"):
        planned("linear", [one, two])


def test_weights_in_one_model_and_numbers_in_the_other_are_refused(make_parent, planned):
    one, two = make_parent("one", state()), make_parent("two", state() | {"w": torch.arange(5)})
    with pytest.raises(UnsupportedDtype, match="dtype I64"):
        planned("linear", [one, two])


def test_counters_that_differ_are_kept_from_the_first_and_told(make_parent, planned):
    one = make_parent("one", state(1, bn__num_batches_tracked=torch.tensor(3)))
    two = make_parent("two", state(2, bn__num_batches_tracked=torch.tensor(4)))
    plan = planned("linear", [one, two])
    step = steps(plan)["bn.num_batches_tracked"]
    assert (step.action, step.sources[0].file.parent.name, step.dtype) == ("copy", "one", "I64")
    assert plan.notes == ("bn.num_batches_tracked (I64) differs between parents; one's is kept",)


def test_buffers_are_copied_and_may_be_missing(make_parent, planned):
    table = torch.rand(4)
    one = make_parent(
        "one", state(1, rotary_emb__inv_freq=table, h__attn__bias=torch.ones(1, 1, 2, 2))
    )
    two = make_parent(
        "two", state(2, h__attn__bias=torch.ones(1, 1, 3, 3), position_ids=torch.arange(3)[None])
    )
    plan = planned("linear", [one, two])
    assert steps(plan)["rotary_emb.inv_freq"].why == "a buffer, computed from the config"
    assert steps(plan)["h.attn.bias"].shape == (1, 1, 2, 2)
    assert "position_ids" not in steps(plan)
    assert "rotary_emb.inv_freq is not in two; copied" in plan.notes
    assert "position_ids is not in one; left out" in plan.notes
    assert "h.attn.bias (F32) differs between parents; one's is kept" in plan.notes


@pytest.mark.parametrize("name", ["h.0.attn.c_attn.bias", "h.0.attn.bias", "my_inv_freq"])
def test_biases_are_no_buffers(name, make_parent, planned):
    one, two = (make_parent(str(i), state(i) | {name: torch.rand(4)}) for i in (1, 2))
    assert steps(planned("linear", [one, two]))[name].action == "merge"
    with pytest.raises(MissingTensor):
        planned("linear", [one, make_parent("bare", state(3))])


def test_what_all_parents_share_is_copied_for_task_vectors_only(make_parent, planned):
    base, one, two = (make_parent(str(i), state(i) | {"w": torch.ones(5)}) for i in range(3))
    assert steps(planned("dare_linear", [one, two], base=base))["w"].why == "equal in all parents"
    assert steps(planned("linear", [one, two]))["w"].action == "merge"
    widened = planned("dare_linear", [one, two], base=base, dtype="F16")
    assert steps(widened)["w"].action == "merge"
    assert steps(widened)["w"].dtype == "F16"


def test_mixed_dtypes_follow_the_reference_and_are_told(make_parent, planned):
    base = make_parent(
        "base", {n: t.bfloat16() for n, t in state().items()}, config={"torch_dtype": "bfloat16"}
    )
    one = make_parent("one", state(1), config={"torch_dtype": "float32"})
    plan = planned("ties", [one], base=base)
    assert {s.dtype for s in plan.steps} == {"BF16"}
    assert effective_config(plan)["torch_dtype"] == "bfloat16"
    assert plan.notes[0].startswith(
        "the parents hold BF16, F32; each tensor keeps the dtype of base;"
    )
    chosen = planned("ties", [one], base=base, dtype="F32")
    assert effective_config(chosen)["torch_dtype"] == "float32"
    assert not chosen.notes


def test_float64_is_told_to_be_merged_in_float32(make_parent, planned):
    one, two = (make_parent(str(i), {n: t.double() for n, t in state(i).items()}) for i in (1, 2))
    assert planned("linear", [one, two]).notes == (
        "F64 weights are merged in float32, as all others",
    )


def test_a_tied_and_an_untied_head_make_an_untied_model(make_parent, planned):
    tied = make_parent("tied", state(1), config={"tie_word_embeddings": True})
    own = make_parent(
        "own", state(2, lm_head__weight=torch.ones(6, 4)), config={"tie_word_embeddings": False}
    )
    for models in ([tied, own], [own, tied]):
        plan = planned("linear", models)
        assert {EMBED, HEAD} <= steps(plan).keys()
        assert plan.tie is False
        assert effective_config(plan)["tie_word_embeddings"] is False
        assert plan.notes == (
            f"tied has no {HEAD} of its own: its {EMBED} stands for it; the output has both",
        )


def test_heads_that_are_copies_are_left_out_and_the_config_says_so(make_parent, planned):
    def tied(seed, name, config):
        plain = state(seed)
        return make_parent(name, plain | {HEAD: plain[EMBED].clone()}, config=config)

    plan = planned(
        "linear",
        [tied(1, "a", {"x": 1, "text_config": {"tie_word_embeddings": True}}), tied(2, "b", {})],
    )
    assert HEAD not in steps(plan)
    config = effective_config(plan)
    assert config["tie_word_embeddings"] is True
    assert config["text_config"]["tie_word_embeddings"] is True
    plain = planned("linear", [make_parent("c", state(3)), make_parent("d", state(4))])
    assert plain.tie is None
