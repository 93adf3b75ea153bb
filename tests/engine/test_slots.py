"""Recipes with slices and modules: which layer comes from where, what stands around the layers, and the config."""

import pytest
import torch

from engine.output_config import effective_config
from engine.pin import pin
from engine.planner import make_plan
from engine.recipe_file import recipe_from_text
from engine.run import run_plan
from registry.errors import BadRecipe, MissingTensor

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
CONFIG = {
    "num_hidden_layers": 3,
    "layer_types": ["full", "sliding", "full"],
    "torch_dtype": "float32",
}


def state(seed, n_layers=3):
    generator = torch.Generator().manual_seed(seed)
    names = [EMBED, "model.norm.weight", HEAD]
    for i in range(n_layers):
        names += [f"model.layers.{i}.mlp.up.weight", f"model.layers.{i}.norm.weight"]
    return {name: torch.randn((4, 3), generator=generator) for name in names}


@pytest.fixture
def parents(make_parent):
    return {name: make_parent(name, state(i), config=CONFIG) for i, name in enumerate("abc")}


@pytest.fixture
def decide():
    def of(text, parents, base=None):
        recipe = recipe_from_text(text)
        pinned = pin(
            recipe, base and parents[base].id, [parents[p.model].id for p in recipe.models]
        )
        by_id = {p.id: p for p in parents.values()}
        models = [by_id[i] for i in pinned.models]
        return make_plan(pinned, by_id[pinned.base] if pinned.base else None, models)

    return of


STACKED = """
merge_method: passthrough
slices:
- sources: [{model: a, layer_range: [0, 2]}]
- sources: [{model: b, layer_range: [1, 3]}]
- sources: [{model: a, layer_range: [0, 1]}]
"""


def test_layers_are_stacked_and_counted_anew(parents, decide, tensors_in, tmp_path):
    plan = decide(STACKED, parents)
    run_plan(plan, tmp_path, metadata={})
    made, a, b = tensors_in(tmp_path), state(0), state(1)
    origin = [(a, 0), (a, 1), (b, 1), (b, 2), (a, 0)]
    for i, (source, layer) in enumerate(origin):
        for part in ("mlp.up.weight", "norm.weight"):
            assert torch.equal(
                made[f"model.layers.{i}.{part}"], source[f"model.layers.{layer}.{part}"]
            )
    assert torch.equal(made[EMBED], a[EMBED])
    assert torch.equal(made[HEAD], a[HEAD])
    assert len(made) == 3 + 2 * 5
    config = effective_config(plan)
    assert config["num_hidden_layers"] == 5
    assert config["layer_types"] == ["full", "sliding", "sliding", "full", "full"]


def test_what_follows_the_layers_comes_from_the_last_slice(parents, decide, tensors_in, tmp_path):
    text = STACKED.replace("- sources: [{model: a, layer_range: [0, 1]}]\n", "")
    run_plan(decide(text, parents), tmp_path, metadata={})
    made = tensors_in(tmp_path)
    assert torch.equal(made[EMBED], state(0)[EMBED])
    assert torch.equal(made[HEAD], state(1)[HEAD])
    assert torch.equal(made["model.norm.weight"], state(1)["model.norm.weight"])


def test_depth_growth_repeats_the_whole_stack(parents, decide, tensors_in, tmp_path):
    text = (
        "merge_method: passthrough\nslices:\n"
        + "- sources: [{model: a, layer_range: [0, 3]}]\n" * 2
    )
    run_plan(decide(text, parents), tmp_path, metadata={})
    made = tensors_in(tmp_path)
    for i in range(6):
        name = "model.layers.{}.mlp.up.weight"
        assert torch.equal(made[name.format(i)], state(0)[name.format(i % 3)])


def test_gradients_run_over_the_layers_of_a_slice(parents, decide):
    text = """
merge_method: linear
slices:
- sources:
  - {model: a, layer_range: [0, 3], parameters: {weight: [0, 1]}}
  - {model: b, layer_range: [0, 3], parameters: {weight: [{filter: norm, value: 3}, {value: [1, 0]}]}}
- sources:
  - {model: a, layer_range: [2, 3], parameters: {weight: [0, 1]}}
  - {model: c, layer_range: [0, 1]}
"""
    plan = decide(text, parents)
    weights = {step.name: step.values["weight"] for step in plan.steps}
    mlp = [weights[f"model.layers.{i}.mlp.up.weight"] for i in range(4)]
    assert mlp == [(0.0, 1.0), (0.5, 0.5), (1.0, 0.0), (1.0, 1.0)]
    assert weights["model.layers.1.norm.weight"] == (0.5, 3.0)
    assert weights[EMBED] == (0.0, 1.0)
    assert weights[HEAD] == (0.0, 1.0)


def test_slices_of_task_vectors_take_the_base_s_layer(parents, decide):
    text = """
merge_method: task_arithmetic
base_model: a
slices:
- sources:
  - {model: b, layer_range: [1, 2]}
- sources:
  - {model: a, layer_range: [0, 1]}
  - {model: b, layer_range: [1, 2]}
  - {model: c, layer_range: [2, 3]}
"""
    steps = {step.name: step for step in decide(text, parents, base="a").steps}
    first, second = (steps[f"model.layers.{i}.norm.weight"] for i in range(2))
    assert first.base.name == "model.layers.1.norm.weight"
    assert [s.name for s in second.sources] == [
        "model.layers.1.norm.weight",
        "model.layers.2.norm.weight",
    ]
    assert second.base.name == "model.layers.0.norm.weight"


def test_different_layers_without_the_base_s_are_refused(parents, decide):
    text = """
merge_method: task_arithmetic
base_model: a
slices:
- sources: [{model: b, layer_range: [0, 1]}, {model: c, layer_range: [1, 2]}]
"""
    with pytest.raises(BadRecipe, match="none is the base's"):
        decide(text, parents, base="a")


def test_layers_that_are_not_there_are_named(parents, decide):
    with pytest.raises(MissingTensor, match="there is no layer 3"):
        decide(STACKED.replace("[1, 3]", "[1, 4]"), parents)


def test_modules_are_merged_each_in_its_way(make_parent, decide, tensors_in, tmp_path):
    def two(seed):
        text = {f"text.{name}": t for name, t in state(seed, 1).items()}
        return text | {f"vision.{name}": t for name, t in state(seed + 10, 2).items()}

    parents = {name: make_parent(name, two(i)) for i, name in enumerate("ab")}
    text = """
merge_method: linear
modules:
  vision:
    slices:
    - sources: [{model: a, layer_range: [1, 2]}, {model: b, layer_range: [0, 1]}]
  text:
    models: [{model: a, parameters: {weight: 3}}, b]
"""
    run_plan(decide(text, parents), tmp_path, metadata={})
    made, a, b = tensors_in(tmp_path), two(0), two(1)
    up = "model.layers.{}.mlp.up.weight"
    expected = (3 * a["text." + up.format(0)] + b["text." + up.format(0)]) / 4
    torch.testing.assert_close(made["text." + up.format(0)], expected)
    expected = (a["vision." + up.format(1)] + b["vision." + up.format(0)]) / 2
    torch.testing.assert_close(made["vision." + up.format(0)], expected)
    assert "vision." + up.format(1) not in made
    with pytest.raises(BadRecipe, match="belong to no module"):
        decide(text[: text.index("  text:")], parents)
    with pytest.raises(BadRecipe, match="there is no module 'audio'"):
        decide(text.replace("  text:", "  audio:"), parents)
    with pytest.raises(BadRecipe, match="have 2 stacks of layers"):
        decide(STACKED, parents)
