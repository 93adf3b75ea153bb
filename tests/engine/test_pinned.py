"""Pinning recipes: nothing left open, one digest for one meaning."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.methods import all_methods
from engine.pin import pin
from engine.pinned import as_yaml
from engine.recipe import DTYPES, Part, Recipe
from engine.recipe_file import recipe_from_text
from engine.recorded import from_canonical
from registry.errors import BadParameter, BadRecipe, UnknownMethod

METHODS = all_methods()
IDS = [f"{i:064x}" for i in range(1, 6)]
BASE_ID = "b" * 64
NUMBERS = [-3.0, -0.25, 0.0, 1e-5, 0.1, 0.5, 1.0, 2.5, 1e6]


@st.composite
def pinned_recipes(draw):
    """A valid recipe of any method, pinned."""
    method = draw(st.sampled_from(list(METHODS.values())))
    low, high = method.n_models
    n = draw(st.integers(low, min(high, 4)))
    shared, own = {}, [{} for _ in range(n)]
    for parameter in method.parameters:
        if parameter.kind == "count":
            values = st.sampled_from([int(x) for x in (0, 1, 3, 40) if x in parameter.range])
        elif parameter.kind != "number":
            values = st.sampled_from(list(parameter.choices or (False, True)))
        elif parameter.name == "weight":
            values = st.sampled_from([0.1, 0.5, 1.0, 2.5])  # whose sums are not 0
        else:
            values = st.sampled_from([x for x in NUMBERS if x in parameter.range])
        if draw(st.booleans()) or parameter.default is None:
            shared[parameter.name] = draw(values)
        if parameter.per_model and draw(st.booleans()):
            for each in own:
                each[parameter.name] = draw(values)
    models = draw(st.lists(st.sampled_from(IDS), min_size=n, max_size=n))
    parts = tuple(Part(f"m{i}", each) for i, each in enumerate(own))
    dtype = draw(st.sampled_from([None, *DTYPES.values()]))
    recipe = Recipe(method.name, parts, None, shared, dtype, draw(st.integers(-5, 2**70)))
    return pin(recipe, BASE_ID, models)


def shuffled(value, order):
    """The same JSON value with the keys of its objects in another order."""
    if isinstance(value, dict):
        keys = sorted(value)
        order.shuffle(keys)
        return {key: shuffled(value[key], order) for key in keys}
    return value


@given(pinned=pinned_recipes(), seed=st.integers(0, 99))
@settings(max_examples=150)
def test_the_canonical_form_can_be_read_back(pinned, seed):
    again = from_canonical(pinned.canonical())
    assert again == pinned
    assert again.digest == pinned.digest
    written = json.dumps(shuffled(pinned.canonical(), random.Random(seed)), indent=3)
    assert from_canonical(json.loads(written)).digest == pinned.digest


@given(pinned=pinned_recipes())
@settings(max_examples=150)
def test_the_yaml_of_a_recipe_means_the_same(pinned):
    names = {id_: f"org/model-{id_[-1]}" for id_ in [*IDS, BASE_ID]}
    ids = {name: id_ for id_, name in names.items()}
    recipe = recipe_from_text(as_yaml(pinned, names))
    base = None if recipe.base is None else ids[recipe.base]
    again = pin(recipe, base, [ids[part.model] for part in recipe.models])
    assert again.digest == pinned.digest


def test_equal_meanings_have_one_digest_and_others_another():
    def digest(text, base=BASE_ID, models=IDS[:2]):
        return pin(recipe_from_text(text), base, models).digest

    plain = digest("merge_method: task_arithmetic\nmodels: [a, b]\n")
    spelled = (
        "merge_method: task_arithmetic\nseed: 0\nparameters: {lambda: 1, normalize: false}\n"
        "models:\n- model: a\n  parameters: {weight: 1}\n- model: b\n"
    )
    assert digest(spelled) == plain
    others = [
        digest(spelled.replace("lambda: 1", "lambda: 0.9")),
        digest(spelled.replace("seed: 0", "seed: 1")),
        digest(spelled + "dtype: float32\n"),
        digest(spelled, base="c" * 64),
        digest(spelled, models=IDS[1::-1]),
        digest(spelled.replace("task_arithmetic", "dare_linear").replace("normalize", "rescale")),
    ]
    assert len({plain, *others}) == 7


def test_coefficients_are_what_is_multiplied_in_the_end():
    def of(method, n=2, **parameters):
        weights = parameters.pop("weights", [1.0] * n)
        own = [{"weight": w} if METHODS[method].parameter("weight") else {} for w in weights]
        parts = tuple(Part("m", each) for each in own)
        return pin(Recipe(method, parts, parameters=parameters), BASE_ID, IDS[:n]).coefficients

    assert of("linear", weights=[3.0, 1.0]) == (0.75, 0.25)
    assert of("linear", weights=[3.0, 1.0], normalize=False) == (3.0, 1.0)
    assert of("task_arithmetic", weights=[2.0, 1.0], **{"lambda": 0.5}) == (1.0, 0.5)
    assert of("ties", weights=[2.0, 1.0]) == (2.0, 1.0)
    assert of("slerp", t=0.25) == (0.75, 0.25)
    assert of("passthrough", n=1, scale=0.5) == (0.5,)
    assert of("widen") == (None, None)


PINNED = pin(Recipe("ties", (Part("a"), Part("b"))), BASE_ID, IDS[:2])
GOOD = PINNED.canonical()
OLD = {k: v for k, v in GOOD.items() if k != "modules"} | {
    "format": "homolog-recipe-1",
    "parameters": {"weight": [1.0, 1.0], "density": [0.2, 0.2], "lambda": 1.0},
}


def with_slice(**changes):
    """The good form with something else in its slice."""
    piece = GOOD["modules"][0]["slices"][0]
    return {**GOOD, "modules": [{"name": "", "slices": [{**piece, **changes}]}]}


SOURCES = GOOD["modules"][0]["slices"][0]["sources"]

HOSTILE = [
    (None, "it must be a mapping"),
    ([GOOD], "it must be a mapping"),
    ({**GOOD, "format": "homolog-recipe-99"}, "this version reads homolog-recipe-2"),
    ({**GOOD, "models": "ab"}, "they must be ids"),
    ({**GOOD, "models": [1, 2]}, "they must be ids"),
    ({**GOOD, "base": 7}, "they must be ids"),
    ({**GOOD, "base": None}, "needs a base"),
    ({**GOOD, "seed": "0"}, "the seed '0'"),
    ({**GOOD, "out_dtype": "F8_E4M3"}, "the out_dtype 'F8_E4M3'"),
    (with_slice(parameters=[]), r"parameters is .*; it must be a mapping"),
    (with_slice(parameters={"x": 1.0}), "ties has no parameter 'x'"),
    (with_slice(parameters={"weight": 1.0}), "'weight' of method ties in the wrong place"),
    (with_slice(sources=[]), "sources is .*; it must be a list of at least one"),
    (with_slice(sources=[{**SOURCES[0], "model": 2}]), "the source 2; there are 2 models"),
    (with_slice(sources=[{**SOURCES[0], "layers": [3]}]), "layer_range is"),
    ({**GOOD, "modules": None}, "modules is None"),
    ({**GOOD, "round": "up"}, "round is 'up'"),
    ({**OLD, "parameters": {"weight": [1.0]}}, "one value for each of 2 models"),
    ({k: v for k, v in GOOD.items() if k != "models"}, "they must be ids"),
]


@pytest.mark.parametrize(("document", "message"), HOSTILE)
def test_a_recorded_recipe_is_not_trusted(document, message):
    with pytest.raises(BadRecipe, match=message):
        from_canonical(document)


def test_a_recorded_value_out_of_range_is_refused():
    sources = [{**SOURCES[0], "parameters": {"density": 0.0}}, SOURCES[1]]
    with pytest.raises(BadParameter, match=r"density is 0\.0"):
        from_canonical(with_slice(sources=sources))
    with pytest.raises(UnknownMethod):
        from_canonical({**GOOD, "method": None})


def test_a_parameter_younger_than_the_record_has_its_default():
    assert from_canonical(with_slice(parameters={})) == PINNED


def test_the_first_format_is_still_read():
    assert from_canonical(OLD) == PINNED


SLICED = """
merge_method: task_arithmetic
base_model: base
slices:
- sources:
  - {model: base, layer_range: [0, 2]}
  - {model: a, layer_range: [0, 2], parameters: {weight: [0, 1]}}
- sources:
  - {model: base, layer_range: [1, 3]}
  - {model: b, layer_range: [2, 4]}
  parameters: {weight: 0.25, lambda: 2}
parameters: {weight: 0.5}
"""


def test_slices_keep_their_sources_layers_and_parameters():
    recipe = recipe_from_text(SLICED)
    pinned = pin(recipe, BASE_ID, [BASE_ID, *IDS[:2]])
    assert pinned.models == tuple(IDS[:2])
    first, second = pinned.modules[0].slices
    assert [(s.model, s.layers) for s in first.sources] == [(-1, (0, 2)), (0, (0, 2))]
    assert [(s.model, s.layers) for s in second.sources] == [(-1, (1, 3)), (1, (2, 4))]
    assert first.at(["w"], "w", 1.0)["weight"] == (1.0,)
    assert second.at(["w"], "w", 1.0)["weight"] == (0.25,)
    assert (first.values["lambda"], second.values["lambda"]) == (1.0, 2.0)
    assert from_canonical(pinned.canonical()) == pinned
    names = {BASE_ID: "base", IDS[0]: "a", IDS[1]: "b"}
    again = recipe_from_text(as_yaml(pinned, names))
    ids = {name: id_ for id_, name in names.items()}
    assert pin(again, BASE_ID, [ids[p.model] for p in again.models]).digest == pinned.digest


def test_modules_are_pinned_by_name():
    text = """
merge_method: linear
modules:
  vision: {models: [a, b]}
  default: {slices: [{sources: [{model: a, layer_range: [0, 1]}, {model: b, layer_range: [1, 2]}]}]}
"""
    pinned = pin(recipe_from_text(text), None, IDS[:2])
    assert [module.name for module in pinned.modules] == ["vision", ""]
    assert pinned.values == {}
    assert from_canonical(pinned.canonical()) == pinned


def test_recipes_that_name_earlier_ones_keep_them():
    text = """
merge_method: linear
models: [a, b]
name: first
---
merge_method: ties
base_model: base
models: [first, b]
"""
    recipe = recipe_from_text(text)
    first = pin(recipe.stages["first"], None, IDS[:2])
    id_ = f"recipe:{first.digest}"
    pinned = pin(recipe, BASE_ID, [id_, IDS[1]], stages={id_: first})
    assert from_canonical(pinned.canonical()) == pinned
    names = {BASE_ID: "base", IDS[0]: "a", IDS[1]: "b", id_: "stage"}
    again = recipe_from_text(as_yaml(pinned, names))
    assert again.stages["stage"].method == "linear"
    assert again.models[0].model == "stage"


def test_a_recipe_that_needs_its_own_result_is_refused():
    with pytest.raises(BadRecipe, match="needs its own result"):
        recipe_from_text(
            "merge_method: linear\nmodels: [b]\nname: a\n---\nmerge_method: linear\nmodels: [a]\nname: b\n"
        )
