"""Which tensors an adapter holds as factors, and by what it takes the others along."""

from pathlib import Path

import pytest
import torch

from engine.projection import changed, homes, is_projection, is_transposed
from registry.errors import MissingTensor, ShapeMismatch, UnsupportedDtype
from registry.header import TensorRef


def ref(name, *shape):
    return TensorRef(name, "F32", shape, Path("model.safetensors"), 0, 0)


def table(*names):
    """A model of these tensors, matrices but for biases and norms."""
    return {n: ref(n, *((4,) if n.endswith("bias") or "norm" in n else (4, 6))) for n in names}


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.q_proj.weight",
        "bert.encoder.layer.1.attention.output.dense.weight",
        "transformer.h.0.attn.c_attn.weight",
        "bert.pooler.dense.weight",
        "model.layers.0.mlp.gate_proj.weight",
    ],
)
def test_matrices_of_linear_layers_are_projections(name):
    assert is_projection(ref(name, 4, 6))
    assert not is_projection(ref(name, 4))
    assert not is_projection(ref(name, 4, 6, 1))
    assert not is_projection(ref(name, 0, 6))


@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "transformer.wpe.weight",
        "lm_head.weight",
        "classifier.weight",
        "model.norm.weight",
        "model.layers.0.block_sparse_moe.gate.weight",
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "model.layers.0.self_attn.q_proj.weight_scale",
    ],
)
def test_vocabularies_norms_and_routers_are_not(name):
    assert not is_projection(ref(name, 4, 6))


def test_modules_of_their_own_are_saved_whole():
    tables = table("a.q_proj.weight", "norm.weight", "norm.bias", "lm_head.weight")
    home = homes(["norm.weight", "lm_head.weight"], tables)
    assert home.modules == ("lm_head", "norm")
    assert home.biases == home.homeless == ()
    assert home.hold("norm.bias")
    assert home.hold("a.pre_norm.weight")  # PEFT compares the ends of paths
    assert not home.hold("a.q_proj.weight")


def test_biases_of_projections_and_of_modules_that_hold_others_need_no_module():
    tables = table("a.q_proj.weight", "a.q_proj.bias", "cls.bias", "cls.dense.weight", "out.bias")
    home = homes(["a.q_proj.bias", "cls.bias", "out.bias"], tables)
    assert home.biases == ("a.q_proj.bias", "cls.bias")
    assert home.modules == ("out",)


def test_a_parameter_beside_modules_is_homeless():
    tables = table("vit.cls_token", "vit.patch.weight", "scale")
    assert homes(["vit.cls_token", "scale"], tables).homeless == ("scale", "vit.cls_token")


def test_only_the_matrices_of_conv1d_networks_are_turned(make_parent):
    tensors = {"x.weight": torch.ones(2, 2)}
    turned = make_parent("turned", tensors, config={"model_type": "gpt2"})
    straight = make_parent("straight", tensors, config={"model_type": "llama"})
    name = "transformer.h.0.attn.c_attn.weight"
    assert is_transposed(turned, name)
    assert not is_transposed(turned, "lm_head.weight")
    assert not is_transposed(straight, name)


def test_equal_tensors_are_passed_over(make_parent):
    same, old, new = torch.ones(4, 4), torch.zeros(4, 4), torch.full((4, 4), 2.0)
    base = make_parent("base", {"a.weight": same, "b.weight": old})
    child = make_parent("child", {"a.weight": same, "b.weight": new, "b.bias": torch.ones(4)})
    found = changed(child, base, projections_only=False)
    assert [(name, old is None) for name, _, old in found] == [
        ("b.bias", True),
        ("b.weight", False),
    ]
    assert [name for name, _, _ in changed(child, base, projections_only=True)] == ["b.weight"]


def test_models_that_do_not_fit_are_refused(make_parent):
    tensors = {"a.weight": torch.ones(4, 4), "norm.weight": torch.ones(4)}
    base = make_parent("base", tensors)
    lacking = make_parent("lacking", {"a.weight": torch.zeros(4, 4)})
    with pytest.raises(MissingTensor, match=r"norm\.weight is in base but not in lacking"):
        changed(lacking, base, projections_only=False)
    wider = make_parent("wider", {**tensors, "norm.weight": torch.ones(5)})
    with pytest.raises(ShapeMismatch, match=r"norm\.weight"):
        changed(wider, base, projections_only=False)
    assert changed(wider, base, projections_only=True) == []
    codes = make_parent("codes", {**tensors, "a.weight": torch.ones(4, 4, dtype=torch.int8)})
    with pytest.raises(UnsupportedDtype, match="codes have no delta"):
        changed(codes, base, projections_only=True)
