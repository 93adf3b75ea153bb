"""Pinning: from what was said to what is meant, and a name for everything that means nothing."""

import pytest

from engine.methods import all_methods
from engine.pin import check, pin
from engine.recipe import Part, Recipe
from engine.recipe_file import recipe_from_text
from engine.recorded import from_canonical
from registry.errors import BadParameter, BadRecipe, UnknownMethod

METHODS = all_methods()
IDS = [f"{i:064x}" for i in range(1, 6)]
BASE_ID = "b" * 64


def test_a_base_among_the_models_is_no_model_of_its_own():
    parts = (Part("base"), Part("chat", {"weight": 0.5}))
    pinned = pin(Recipe("task_arithmetic", parts), BASE_ID, [BASE_ID, IDS[0]])
    assert pinned.models == (IDS[0],)
    assert pinned.values["weight"] == (0.5,)
    weights = pin(Recipe("slerp", (Part("chat"), Part("base"))), BASE_ID, [IDS[0], BASE_ID])
    assert weights.models == (BASE_ID, IDS[0])
    assert weights.base is None


@pytest.mark.parametrize(
    ("method", "n", "message"),
    [
        ("slerp", 3, "merges 2 models; the recipe has 3"),
        ("passthrough", 2, "merges 1 models; the recipe has 2"),
        ("ties", 0, "merges 1 to 1000 models; the recipe has 0"),
    ],
)
def test_the_number_of_models_is_checked(method, n, message):
    parts = tuple(Part("m") for _ in range(n))
    with pytest.raises(BadRecipe, match=message):
        pin(Recipe(method, parts), BASE_ID, IDS[:n])


def test_a_method_on_task_vectors_needs_a_base():
    with pytest.raises(BadRecipe, match="ties works on task vectors and needs a base") as caught:
        pin(Recipe("ties", (Part("a"),)), None, IDS[:1])
    assert "--base" in caught.value.hint


def test_an_unknown_method_is_named_with_the_nearest():
    with pytest.raises(UnknownMethod) as caught:
        check(Recipe("tiess", (Part("a"),)))
    assert caught.value.hint == "did you mean ties?"


@pytest.mark.parametrize("place", ["shared", "own", "base's own"])
def test_a_misspelt_parameter_is_named_wherever_it_stands(place):
    wrong = {"densty": 0.5}
    parts = (
        Part("base", wrong if place == "base's own" else {}),
        Part("a", wrong if place == "own" else {}),
    )
    recipe = Recipe("ties", parts, "base", wrong if place == "shared" else {})
    with pytest.raises(
        BadRecipe, match="ties has no parameter 'densty'; it has weight, density"
    ) as caught:
        pin(recipe, BASE_ID, [BASE_ID, IDS[0]])
    assert caught.value.hint == "did you mean density?"


BAD_VALUES = [
    ("ties", "density", 0.0, r"density is 0.0; it must be a number in \(0, 1\]"),
    ("ties", "density", 1.5, r"density is 1.5; it must be a number in \(0, 1\]"),
    ("ties", "density", float("nan"), "density is nan"),
    ("ties", "weight", float("inf"), r"weight is inf; it must be a number in \[-1e\+06, 1e\+06\]"),
    ("ties", "weight", "0.5", "weight is '0.5'; it must be a number"),
    ("ties", "weight", True, "weight is True; it must be a number"),
    ("ties", "lambda", 1e9, "lambda is 1000000000.0; it must be a number in"),
    ("ties", "sign", "mass", "sign is 'mass'; it must be one of sum, count"),
    ("ties", "normalize", 1, "normalize is 1; it must be true or false"),
    ("slerp", "t", -0.1, r"t is -0.1; it must be a number in \[0, 1\]"),
    (
        "widen",
        "score_calibration_value",
        -1,
        "score_calibration_value is -1; it must be a number in",
    ),
]


@pytest.mark.parametrize(("method", "name", "value", "message"), BAD_VALUES)
def test_a_value_out_of_range_is_named_with_the_range(method, name, value, message):
    with pytest.raises(BadParameter, match=message):
        check(Recipe(method, (Part("a"),), parameters={name: value}))
    if METHODS[method].parameter(name).per_model:
        with pytest.raises(BadParameter, match=message):
            check(Recipe(method, (Part("a"), Part("b", {name: value}))))


def test_gradients_and_filters_are_settings_of_their_own():
    text = """
merge_method: task_arithmetic
models:
- model: a
  parameters:
    weight: [{filter: mlp, value: [0, 1]}, {filter: self_attn, value: 0.25}]
- model: b
parameters: {weight: [{filter: norm, value: 7}, {value: 0.5}]}
"""
    pinned = pin(recipe_from_text(text), BASE_ID, IDS[:2])
    piece = pinned.whole

    def weights(name, depth):
        return piece.at([name, name], name, depth)["weight"]

    assert weights("layers.0.mlp.up", 0.5) == (0.5, 0.5)
    assert weights("layers.0.mlp.up", 1.0) == (1.0, 0.5)
    assert weights("layers.0.self_attn.q", 0.5) == (0.25, 0.5)
    assert weights("layers.0.norm", 0.5) == (7.0, 7.0)
    assert weights("other", 0.5) == (0.5, 0.5)
    assert pinned.coefficients == (None, None)
    assert from_canonical(pinned.canonical()) == pinned


def test_what_no_filter_fits_has_the_default_or_is_missing():
    filters = {"density": [{"filter": "mlp", "value": 1}], "scope": "tensor"}
    recipe = Recipe("ties", (Part("a"),), parameters=filters)
    assert pin(recipe, BASE_ID, IDS[:1]).whole.at(["x"], "x", 0.0)["density"] == (0.2,)


@pytest.mark.parametrize(
    "value",
    [[], {}, [{"filter": "mlp"}], [{"filter": 3, "value": 1}], [{"value": 1, "x": 2}], [[0.5]], [{"value": []}]],
)  # fmt: skip
def test_a_setting_of_no_known_form_is_refused(value):
    with pytest.raises(BadRecipe, match="parameter density"):
        check(Recipe("ties", (Part("a"),), parameters={"density": value}))


def test_every_value_of_a_gradient_is_in_range():
    with pytest.raises(BadParameter, match=r"density is 2"):
        check(Recipe("ties", (Part("a"),), parameters={"density": [0.5, 2]}))


def test_numbers_that_yaml_takes_for_text_are_numbers():
    text = "merge_method: ties\nmodels: [a]\nparameters: {density: 1e-3}\n"
    assert pin(recipe_from_text(text), BASE_ID, IDS[:1]).values["density"] == (0.001,)


def test_a_parameter_of_the_merge_is_not_one_of_a_model():
    with pytest.raises(
        BadRecipe, match="parameter 'lambda' of method ties is one for all models"
    ) as caught:
        check(Recipe("ties", (Part("a", {"lambda": 1.0}),)))
    assert "parameters:" in caught.value.hint


def test_a_value_of_null_is_the_default():
    recipe = Recipe(
        "ties", (Part("a", {"weight": None}),), parameters={"density": None, "weight": 0.5}
    )
    assert pin(recipe, BASE_ID, IDS[:1]).values["weight"] == (0.5,)
    assert pin(recipe, BASE_ID, IDS[:1]).values["density"] == (0.2,)


@pytest.mark.parametrize("method", ["linear", "task_arithmetic"])
def test_weights_that_cancel_cannot_be_normalised(method):
    parts = (Part("a", {"weight": 1.0}), Part("b", {"weight": -1.0}))
    with pytest.raises(BadParameter, match="weights 1, -1 sum to 0"):
        pin(Recipe(method, parts, parameters={"normalize": True}), BASE_ID, IDS[:2])
    pin(Recipe(method, parts, parameters={"normalize": False}), BASE_ID, IDS[:2])


def test_defaults_of_another_tool_are_refused_where_it_has_no_such_method():
    with pytest.raises(BadRecipe, match="compat is 'mergekit'; method widen is like that of none"):
        check(Recipe("widen", (Part("a"),), compat="mergekit"))
