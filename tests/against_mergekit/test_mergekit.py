"""The same recipes, unchanged, by mergekit and by us: with `compat: mergekit` in float32 the weights agree."""

import json

import pytest
import torch
from against_mergekit.recipes import ADD, BASE, RECIPES, REVERSE, SORT, recipe
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from engine.merge import merge, plan
from engine.methods import all_methods
from engine.options import Options
from engine.recipe_file import recipe_from_text
from engine.run import run_plan
from registry.catalog import Catalog
from registry.scan import scan

NAMES = [
    "linear",
    "slerp",
    "nuslerp",
    "multislerp",
    "karcher",
    "model_stock",
    "passthrough",
    "task_arithmetic",
    "ties",
    "dare_ties",
    "dare_linear",
    "breadcrumbs",
    "breadcrumbs_ties",
    "della",
    "della_linear",
    "sce",
    "nearswap",
    "arcee_fusion",
    "ram",
    "ramplus_tl",
]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """A catalog that knows the trained family."""
    catalog = Catalog(tmp_path_factory.mktemp("zoo") / "catalog.duckdb")
    scan(catalog, [BASE, ADD, REVERSE, SORT], jobs=1)
    return catalog


def ours(catalog, text, folder):
    """The tensors that we make of a recipe, registered nowhere."""
    folder.mkdir()
    run_plan(plan(catalog, recipe_from_text(text), allow_unrelated=True), folder, metadata={})
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= load_file(file)
    return found


def base_tensors(folder=BASE):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()


def test_every_method_of_mergekit_is_one_of_ours_and_is_compared():
    compat = {name for name, method in all_methods().items() if "mergekit" in method.compat}
    assert compat == {name.removesuffix("_tl") for name in NAMES}
    assert {recipe_from_text(text).method for text in RECIPES.values()} == set(NAMES)


@pytest.mark.parametrize("name", RECIPES)
def test_the_weights_agree_within_rounding(name, zoo, theirs, mergekit_outputs, tmp_path):
    expected = theirs(name)
    text = recipe(name, mergekit_outputs) + "compat: mergekit\n"
    found = ours(zoo, text, tmp_path / "out")
    expected.pop("lm_head.weight", None)  # a copy of the embedding, to which the family ties it
    assert found.keys() == expected.keys()
    rtol = 2**-7 if name == "bfloat16" else 2e-5  # there they round twice
    for tensor, right in expected.items():
        left = found[tensor]
        assert left.dtype == right.dtype
        near = torch.isclose(left.float(), right.float(), rtol=rtol, atol=2e-6)
        assert float((~near).float().mean()) <= NOISE.get(name, 0.0), tensor


NOISE = {"arcee_fusion": 0.01, "ties-alike": 1e-3, "ties-uneven": 1e-3, "breadcrumbs-alike": 1e-3}
"""Share of entries that may differ: mergekit's divergences of small task vectors are float32 noise, and so are cuts; of equal
entries at a cut its sort decides."""


@pytest.mark.parametrize("name", ["stack", "slices", "stack-scaled"])
def test_stacked_models_load_and_have_as_many_layers(name, zoo, mergekit_outputs, theirs, tmp_path):
    theirs(name)
    made = recipe_from_text(RECIPES[name] + "compat: mergekit\n")
    merge(zoo, made, tmp_path / "out", options=Options(allow_unrelated=True))
    configs = [
        json.loads((f / "config.json").read_text())
        for f in (tmp_path / "out", mergekit_outputs / name)
    ]
    assert configs[0]["num_hidden_layers"] == configs[1]["num_hidden_layers"]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert model(torch.arange(8)[None]).logits.isfinite().all()


RANDOM = {
    "dare_linear": "density: 0.4", "dare_ties": "density: 0.4", "della": "density: 0.5, epsilon: 0.2",
    "della_linear": "density: 0.5, epsilon: 0.2",
}  # fmt: skip


@pytest.mark.parametrize("method", RANDOM)
def test_random_masks_keep_the_l1_norm_of_each_tensor_as_mergekit_does(method, zoo, tmp_path):
    text = f"""
merge_method: {method}
base_model: {BASE}
models: [{{model: {ADD}, parameters: {{weight: 1.0, {RANDOM[method]}}}}}]
dtype: float32
compat: mergekit
"""
    made, base, expert = ours(zoo, text, tmp_path / "out"), base_tensors(), base_tensors(ADD)
    for name, tensor in made.items():
        before = (expert[name] - base[name]).abs().sum()
        after = (tensor - base[name]).abs().sum()
        assert float(before) == pytest.approx(float(after), rel=1e-3)
