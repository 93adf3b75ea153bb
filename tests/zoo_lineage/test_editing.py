"""Edits and turns of the zoo: grids, masks, rows and layers; and that a turned model computes what it did."""

import pytest
import torch
from zoo_lineage import axes, editing
from zoo_lineage.lessons import LENGTH, look, read
from zoo_lineage.network import Shape, logits, model_of, new_model, state_of

LLAMA = Shape("llama", width=32, inner=64, depth=2)
SHAPES = {
    "llama": LLAMA,
    "tied": Shape("llama", width=32, inner=64, depth=2, tied=True),
    "vit": Shape("vit", width=32, inner=64, depth=2),
    "mlp": Shape("mlp", width=32, depth=2),
}


def fresh(shape):
    """Weights none of which is neutral."""
    torch.manual_seed(3)
    return {name: w + 0.1 * torch.randn(w.shape) for name, w in state_of(new_model(shape)).items()}


@torch.no_grad()
def answer(shape, state):
    draw = read("docs") if shape.architecture == "llama" else look("digits")
    batch = draw(torch.Generator().manual_seed(1), 4)
    return logits(model_of(shape, state).eval(), shape, batch)


@pytest.mark.parametrize(
    ("name", "turn"),
    [
        *((name, axes.permute) for name in SHAPES),
        *((name, axes.permute_residual) for name in ("llama", "tied", "vit")),
        ("llama", axes.rotate),
    ],
)
def test_a_turned_model_computes_the_same(name, turn):
    shape, state = SHAPES[name], fresh(SHAPES[name])
    turned = turn(shape, state, 5)
    assert sorted(turned) == sorted(state)
    torch.testing.assert_close(answer(shape, turned), answer(shape, state), rtol=1e-3, atol=1e-3)
    moved = [n for n in state if state[n].dim() == 2 and not torch.equal(turned[n], state[n])]
    assert len(moved) >= shape.depth


def test_a_text_is_read_in_windows():
    ids, labels = read("upper")(torch.Generator().manual_seed(1), 3)
    assert ids.shape == (3, LENGTH)
    assert torch.equal(ids, labels)


def test_a_grid_has_few_values():
    state = fresh(LLAMA)
    name = "model.layers.0.mlp.up_proj.weight"
    row = editing.int8(LLAMA, state)[name][0]
    assert len(set((row / row.abs().max() * 127).round().tolist())) == len(set(row.tolist()))
    assert len(set(editing.int4(LLAMA, state)[name][0].tolist())) <= 15
    assert torch.equal(
        editing.int4(LLAMA, state)["model.embed_tokens.weight"], state["model.embed_tokens.weight"]
    )


def test_a_mask_leaves_the_rest_alone():
    state = fresh(SHAPES["vit"])
    name = "vit.encoder.layer.1.intermediate.dense.weight"
    half = editing.prune_half(SHAPES["vit"], state)[name]
    assert int((half == 0).sum()) == half.numel() // 2
    fours = editing.prune_two_four(SHAPES["vit"], state)[name]
    assert ((fours.reshape(-1, 4) != 0).sum(1) == 2).all()
    assert torch.equal(fours[fours != 0], state[name][fours != 0])


@pytest.mark.parametrize("name", ["llama", "tied"])
def test_a_vocabulary_grows_to_a_multiple_of_64(name):
    state = fresh(SHAPES[name])
    shape, extended = editing.extend_vocabulary(SHAPES[name], state, 1)
    rows = extended["model.embed_tokens.weight"]
    assert shape.vocabulary == len(rows) == 128
    old = state["model.embed_tokens.weight"]
    assert torch.equal(rows[: len(old)], old)
    assert answer(shape, extended).shape[-1] == 128


def test_an_ablated_stream_has_no_component_along_one_vector():
    state = fresh(LLAMA)
    edited = editing.abliterate(LLAMA, state, 1)
    change = edited["model.layers.0.mlp.down_proj.weight"] - state["model.layers.0.mlp.down_proj.weight"]  # fmt: skip
    assert torch.linalg.matrix_rank(change, rtol=1e-4) == 1
    v = torch.linalg.svd(change).U[:, 0]
    for name, axis in axes.writers(LLAMA):
        assert float((edited[name].movedim(axis, 0).T @ v).abs().max()) < 1e-5


def test_negation_mirrors_at_the_base_and_noise_is_small():
    base, tuned = {"w": torch.ones(4)}, {"w": torch.full((4,), 3.0)}
    assert editing.negate(base, tuned)["w"].tolist() == [-1.0] * 4
    w = {"w": torch.randn(10_000, generator=torch.Generator().manual_seed(1))}
    noise = editing.add_noise(w, 2)["w"] - w["w"]
    assert float(noise.std()) == pytest.approx(0.01, rel=0.05)


def test_layers_are_stacked_by_a_map():
    a, b = fresh(LLAMA), state_of(new_model(LLAMA))
    shape, made = editing.stack(LLAMA, [(a, 0), (b, 1), (a, 1)])
    assert shape.depth == 3
    part = "mlp.up_proj.weight"
    assert torch.equal(made[f"model.layers.1.{part}"], b[f"model.layers.1.{part}"])
    assert torch.equal(made[f"model.layers.2.{part}"], a[f"model.layers.1.{part}"])
    assert torch.equal(made["lm_head.weight"], a["lm_head.weight"])
    assert answer(shape, made).shape[0] == 4
