"""Optimal-transport fusion: onto the same, fewer and more units."""

import pytest
import torch
import transformers as tf
from networks import NETWORKS, network, outputs, shuffled
from safetensors.torch import load_file, save_file

from engine.ot_fusion import fuse
from engine.reader import Reader
from engine.source import load
from engine.symmetry import groups
from registry.errors import MissingTensor, ShapeMismatch


def tensors_of(parent):
    with Reader() as reader:
        return {name: load(reader, source) for name, source in parent.tensors.items()}


def fused(anchor, other, **options):
    with Reader() as reader:
        return fuse(reader, anchor, other, **options)


W0 = torch.tensor([[1.0, 0], [0, 2], [3, 3]])
B0 = torch.tensor([1.0, 2, 3])
OUT = torch.tensor([[1.0, 2, 3]])


def layer(order):
    return {
        "mlp.fc1.weight": W0[order], "mlp.fc1.bias": B0[order], "mlp.fc2.weight": OUT[:, order],
    }  # fmt: skip


@pytest.mark.parametrize(("solver", "tolerance"), [("exact", 0.0), ("sinkhorn", 2e-3)])
def test_the_published_code_s_example(solver, tolerance, make_parent):
    anchor, other = make_parent("a", layer([2, 0, 1])), make_parent("b", layer([0, 1, 2]))
    made = fused(anchor, other, solver=solver, regularization=0.06)
    found = tensors_of(made)
    for name, value in layer([2, 0, 1]).items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=tolerance)
    assert tensors_of(made)["mlp.fc1.bias"].round().tolist() == [3, 1, 2]
    plan = dict(made.made["mlp.fc1.weight"].maps)[0]
    expected = torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    torch.testing.assert_close(plan, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", [n for n in NETWORKS if n != "mixtral"])
def test_a_copy_in_another_order_becomes_what_it_was(name, tmp_path, parent_at):
    made = network(name)
    for folder in ("one", "other"):
        made.save_pretrained(tmp_path / folder)
    file = tmp_path / "other" / "model.safetensors"
    tensors = load_file(file)
    shapes = {n: tuple(t.shape) for n, t in tensors.items()}
    moved = shuffled(tensors, groups(made.config.to_dict(), shapes), seed=7)
    save_file(moved, file, metadata={"format": "pt"})
    found = tensors_of(fused(parent_at(tmp_path / "one"), parent_at(tmp_path / "other")))
    for tensor, value in tensors.items():
        torch.testing.assert_close(found[tensor], value, rtol=1e-6, atol=1e-7)


def doubled(tensors):
    """The same function with every neuron there twice."""
    made = {}
    for name, tensor in tensors.items():
        if "gate_proj" in name or "up_proj" in name:
            made[name] = tensor.repeat_interleave(2, 0)
        elif name.endswith("down_proj.weight"):
            made[name] = tensor.repeat_interleave(2, 1) / 2
        else:
            made[name] = tensor
    return made


def sized(width=12, hidden=16, groups_=2, heads=4, seed=0):
    torch.manual_seed(seed)
    config = tf.LlamaConfig(
        vocab_size=20, hidden_size=hidden, intermediate_size=width, num_hidden_layers=2,
        num_attention_heads=heads, num_key_value_heads=groups_, head_dim=4, initializer_range=0.3,
    )  # fmt: skip
    return tf.LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("wider", [True, False], ids=["narrowing", "widening"])
def test_doubled_neurons_and_single_ones_compute_the_same(wider, tmp_path, parent_at):
    small, wide = sized(12), sized(24)
    wide.load_state_dict(doubled(small.state_dict()))
    for name, made in (("small", small), ("wide", wide)):
        made.save_pretrained(tmp_path / name)
    anchor, other = (small, wide) if wider else (wide, small)
    names = ("small", "wide") if wider else ("wide", "small")
    made = fused(*(parent_at(tmp_path / name) for name in names))
    before = outputs_of(other)
    anchor.load_state_dict(tensors_of(made))
    torch.testing.assert_close(outputs_of(anchor), before, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def outputs_of(made):
    return made(torch.arange(9)[None]).logits


@pytest.mark.parametrize(
    ("marginals", "sums"), [("preserve", (1.0, 2 / 3)), ("paper", (1.0, 1.0)), ("code", (1.5, 1.5))]
)
def test_marginals_from_three_neurons_to_two(marginals, sums, make_parent):
    anchor = make_parent("a", {"mlp.fc1.weight": torch.eye(2), "mlp.fc2.weight": torch.ones(1, 2)})
    other = make_parent("b", {"mlp.fc1.weight": W0, "mlp.fc2.weight": torch.ones(1, 3)})
    made = fused(anchor, other, marginals=marginals).made
    makes, reads = dict(made["mlp.fc1.weight"].maps)[0], dict(made["mlp.fc2.weight"].maps)[1]
    torch.testing.assert_close(makes.sum(0), torch.full((2,), sums[0]))
    rows = reads.sum(1)
    expected = {"preserve": 1.0, "paper": 2 / 3, "code": 1.0}[marginals]
    torch.testing.assert_close(rows, torch.full((3,), expected))


def test_other_numbers_of_heads_and_widths_take_the_anchor_s_shapes(tmp_path, parent_at):
    sized().save_pretrained(tmp_path / "a")
    shapes = {n: t.shape for n, t in tensors_of(parent_at(tmp_path / "a")).items()}
    kinds = {
        "groups": {"groups_": 4}, "heads": {"heads": 2, "groups_": 1},
        "all": {"hidden": 24, "width": 20, "groups_": 1, "heads": 2},
    }  # fmt: skip
    for name, sizes in kinds.items():
        sized(**sizes, seed=1).save_pretrained(tmp_path / name)
        anchor, other = parent_at(tmp_path / "a"), parent_at(tmp_path / name)
        made = tensors_of(fused(anchor, other, residual=name == "all", solver="sinkhorn"))
        assert {n: t.shape for n, t in made.items()} == shapes
        assert all(bool(t.isfinite().all()) for t in made.values())
    with pytest.raises(
        ShapeMismatch,
        match=r"mlp.gate_proj.weight: each unit has 16 weights in the anchor and 24 in the",
    ):
        fused(parent_at(tmp_path / "a"), parent_at(tmp_path / "all"))


def test_a_permuted_stream_is_carried_back(tmp_path, parent_at):
    made = network("llama")
    for folder in ("one", "other"):
        made.save_pretrained(tmp_path / folder)
    file = tmp_path / "other" / "model.safetensors"
    tensors = load_file(file)
    shapes = {n: tuple(t.shape) for n, t in tensors.items()}
    found = groups(made.config.to_dict(), shapes, residual=True)
    save_file(shuffled(tensors, found, seed=2), file, metadata={"format": "pt"})
    one, other = parent_at(tmp_path / "one"), parent_at(tmp_path / "other")
    back = tensors_of(fused(one, other, residual=True))
    for tensor, value in tensors.items():
        torch.testing.assert_close(back[tensor], value, rtol=1e-6, atol=1e-7)
    made.load_state_dict(back)
    assert outputs(made).isfinite().all()


def test_heads_of_another_size_and_other_depths_are_refused(tmp_path, parent_at):
    sized().save_pretrained(tmp_path / "a")
    config = sized().config
    config.head_dim, config.num_attention_heads, config.num_key_value_heads = 8, 2, 1
    tf.LlamaForCausalLM(config).save_pretrained(tmp_path / "b")
    with pytest.raises(ShapeMismatch, match=r"self_attn\.heads is built otherwise"):
        fused(parent_at(tmp_path / "a"), parent_at(tmp_path / "b"))
    config = sized().config
    config.num_hidden_layers = 1
    tf.LlamaForCausalLM(config).save_pretrained(tmp_path / "c")
    with pytest.raises(MissingTensor, match=r"layers\.1.* is in a but not in c"):
        fused(parent_at(tmp_path / "a"), parent_at(tmp_path / "c"))
