"""Reading recipes: mergekit's keys, and a name for every mistake."""

import pytest

from engine.recipe import Part, Recipe
from engine.recipe_file import read_recipe, recipe_from_text
from registry.errors import BadDocument, BadRecipe

MERGEKIT = """
# a recipe as mergekit's users write them
merge_method: ties
base_model: org/base
models:
  - model: org/base
  - model: org/chat
    parameters:
      density: 0.5
      weight: 0.3
  - model: ./math
    parameters: {density: 0.5, weight: 0.5}
parameters:
  normalize: true
  lambda: 0.9
dtype: bfloat16
"""


def test_mergekits_form_is_understood():
    assert recipe_from_text(MERGEKIT) == Recipe(
        method="ties",
        models=(
            Part("org/base"),
            Part("org/chat", {"density": 0.5, "weight": 0.3}),
            Part("./math", {"density": 0.5, "weight": 0.5}),
        ),
        base="org/base",
        parameters={"normalize": True, "lambda": 0.9},
        out_dtype="BF16",
    )


def test_models_may_be_plain_names():
    recipe = recipe_from_text("merge_method: linear\nmodels: [a, b]\nseed: 7\n")
    assert recipe == Recipe("linear", (Part("a"), Part("b")), seed=7)


def test_out_dtype_wins_over_dtype():
    text = "merge_method: linear\nmodels: [a]\ndtype: float32\nout_dtype: float16"
    assert recipe_from_text(text).out_dtype == "F16"
    assert recipe_from_text(text.replace("float16", "null")).out_dtype == "F32"


BASE = {"merge_method": "linear", "models": "[a, b]"}

WRONG = [
    ({"merge_methd": "ties"}, "unknown key 'merge_methd'", "did you mean merge_method?"),
    ({"out_dtpe": "float16"}, "unknown key 'out_dtpe'", "did you mean out_dtype?"),
    ({"paramters": "{}"}, "unknown key 'paramters'", "did you mean parameters?"),
    ({"zzz": "1"}, "unknown key 'zzz'; known keys are merge_method, base_model", None),
    ({"slices": "[]"}, "has models and slices; it must have one of models, slices and modules", None),
    ({"models": "null", "slices": "[]"}, r"slices is \[\]; it must be a list of at least one slice", None),
    ({"models": "null", "slices": "[{sorces: []}]"}, r"slices\[0\]: unknown key 'sorces'", "did you mean sources?"),
    ({"models": "null", "slices": "[{sources: [a]}]"}, r"sources\[0\] is 'a'; it must be a mapping", None),
    ({"models": "null", "slices": "[{sources: [{model: a, layer_range: [2, 1]}]}]"}, r"layer_range is \[2, 1\]; it must be \[first, last \+ 1\]", None),
    ({"models": "null", "slices": "[{sources: [{model: a}]}]"}, "layer_range is None", None),
    ({"models": "null", "slices": "[{sources: [{model: a, layer_range: [0, 2]}, {model: b, layer_range: [0, 1]}]}]"}, "its sources have 1 and 2 layers", None),
    ({"models": "null", "modules": "{}"}, "modules is empty", None),
    ({"models": "null", "modules": "{text: {}}"}, "text must have either models or slices", None),
    ({"tokenizer_source": "union", "tokenizer": "{source: base}"}, "it must have one of them", None),
    ({"round": "up"}, "round is 'up'; it must be one of nearest, stochastic", None),
    ({"align": "rotate"}, "method is 'rotate'; it must be one of weight_matching, ot_fusion", None),
    ({"align": "{method: weight_matching, residul: true}"}, "unknown key 'residul'", "did you mean residual?"),
    ({"align": "{method: weight_matching, residual: 1.5}"}, "residual of weight_matching is 1.5; it must be false, true", None),
    ({"align": "{method: ot_fusion, solver: emd}"}, "solver of ot_fusion is 'emd'; it must be exact, sinkhorn", None),
    ({"align": "{method: ot_fusion, regularization: 0}"}, "regularization of ot_fusion is 0; it must be a number above 0", None),
    ({"merge_method": "[1]"}, r"merge_method is \[1\]; it must be a name", None),
    ({"models": "a"}, "models is 'a'; it must be a list of at least one model", None),
    ({"models": "[]"}, r"models is \[\]; it must be a list", None),
    ({"models": "[3]"}, r"models\[0\] is 3; it must be a mapping", None),
    ({"models": "[{model: a, paramters: {}}]"}, r"models\[0\]: unknown key 'paramters'", "did you mean parameters?"),
    ({"models": "[{parameters: {}}]"}, r"models\[0\]: model is None; it must be a name", None),
    ({"models": "[{model: {model: a}}]"}, "model is {'model': 'a'}; it must be a name", None),
    ({"models": "[{model: a, parameters: [1]}]"}, r"models\[0\], parameters is \[1\]; it must be a mapping", None),
    ({"parameters": "[]"}, r"parameters is \[\]; it must be a mapping", None),
    ({"parameters": "{1: 2}"}, "parameters is {1: 2}; it must be a mapping", None),
    ({"base_model": "[a]"}, r"base_model is \['a'\]; it must be a name, an id or a path", None),
    ({"seed": "true"}, "seed is True; it must be a whole number", None),
    ({"seed": "1.5"}, "seed is 1.5; it must be a whole number", None),
    ({"dtype": "int8"}, "dtype is 'int8'; it must be one of float32, float16, bfloat16, float64", None),
    ({"dtype": "[float32]"}, r"dtype is \['float32'\]; it must be one of", None),
    ({"out_dtype": '""'}, "dtype is ''; it must be one of", None),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message", "hint"), WRONG)
def test_mistakes_are_named_with_what_was_meant(change, message, hint):
    text = "\n".join(f"{key}: {value}" for key, value in {**BASE, **change}.items())
    with pytest.raises(BadRecipe, match=message) as caught:
        recipe_from_text(text)
    assert caught.value.hint == hint
    assert "the recipe" in caught.value.message or "dtype" in caught.value.message


@pytest.mark.parametrize("key", BASE)
def test_a_missing_key_is_named(key):
    text = "\n".join(f"{k}: {v}" for k, v in BASE.items() if k != key)
    with pytest.raises(BadRecipe, match=f"key '{key}' is missing|lacks the key '{key}'"):
        recipe_from_text(text)


@pytest.mark.parametrize("text", ["", "---", "- a", "text", "3"])
def test_a_document_that_is_no_mapping_is_refused(text):
    with pytest.raises(BadRecipe, match="it must be a mapping"):
        recipe_from_text(text)


def test_a_huge_wrong_value_is_shown_in_part():
    with pytest.raises(BadRecipe) as caught:
        recipe_from_text(f"merge_method: linear\nmodels: {'x' * 100_000}\n")
    assert len(caught.value.message) < 400


def test_a_recipe_file_is_named_in_its_errors(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(MERGEKIT, encoding="utf-8")
    assert read_recipe(file) == recipe_from_text(MERGEKIT)
    file.write_text("merge_method: linear\nmodls: [a]\n", encoding="utf-8")
    with pytest.raises(BadRecipe, match=r"recipe\.yaml: unknown key 'modls'"):
        read_recipe(file)
    file.write_text("merge_method: linear\nmodels: [a]\nmodels: [b]\n", encoding="utf-8")
    with pytest.raises(BadDocument, match="'models' comes twice"):
        read_recipe(file)
