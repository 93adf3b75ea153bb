"""What the decorator reads from a plain function, and what parameters accept."""

from typing import Literal

import pytest
import torch

from engine import methods
from engine.method import (
    MANY,
    Density,
    Lambda,
    Parameter,
    Positive,
    Range,
    Tensors,
    Weight,
    merge_method,
    per_model,
)
from registry.errors import BadParameter, UnknownMethod


@merge_method(space="delta", scope="element", paper="0000.00000")
def example(
    deltas: Tensors,
    *,
    base: torch.Tensor,
    needed: Positive,
    weight: Weight = 1.0,
    density: Density = 0.2,
    lambda_: Lambda = 1.0,
    normalize: bool = True,
    sign: Literal["sum", "count"] = "sum",
) -> torch.Tensor:
    """Do nothing of use.

    At all.
    """
    return base * needed + deltas[0]


DECLARED = example.declared


def parameter(name):
    found = DECLARED.parameter(name)
    assert found is not None
    return found


def test_decorator_leaves_the_function_as_it_is():
    assert float(example([torch.tensor(1.0)], base=torch.tensor(2.0), needed=3.0)) == 7
    assert DECLARED.function is example


def test_declaration_is_read_from_the_function():
    assert (DECLARED.name, DECLARED.space, DECLARED.scope) == ("example", "delta", "element")
    assert DECLARED.paper == "0000.00000"
    assert DECLARED.n_models == (1, MANY)
    assert DECLARED.summary == "Do nothing of use."
    assert DECLARED.context == ("base",)


def test_parameters_are_read_in_the_order_of_the_signature():
    names = [p.name for p in DECLARED.parameters]
    assert names == ["needed", "weight", "density", "lambda", "normalize", "sign"]
    assert [p.kind for p in DECLARED.parameters] == ["number"] * 4 + ["flag", "choice"]
    assert [p.default for p in DECLARED.parameters] == [None, 1.0, 0.2, 1.0, True, "sum"]
    assert [p.name for p in DECLARED.parameters if p.per_model] == ["weight", "density"]


def test_lambda_is_called_lambda_in_recipes_and_lambda_with_a_line_in_python():
    assert parameter("lambda").keyword == "lambda_"
    assert parameter("weight").keyword == "weight"
    assert DECLARED.parameter("lambda_") is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("density", 1), ("density", 1e-9), ("lambda", -3), ("normalize", False), ("sign", "count")],
)
def test_right_values_are_accepted(name, value):
    assert parameter(name).check(value) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("density", 0.0), ("density", 1.01), ("density", float("nan")), ("density", "0.5"),
        ("density", True), ("density", None), ("density", [0.5]), ("lambda", float("inf")),
        ("lambda", 10**400), ("needed", -0.1), ("normalize", 1), ("normalize", "true"),
        ("sign", "product"), ("sign", True), ("sign", 1),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_with_the_right_ones(name, value):
    with pytest.raises(BadParameter, match=f"parameter {name} is ") as refused:
        parameter(name).check(value)
    assert parameter(name).allowed in refused.value.message


def test_whole_numbers_become_floats():
    assert isinstance(parameter("lambda").check(2), float)


@pytest.mark.parametrize(
    ("name", "words"),
    [("density", "a number in (0, 1]"), ("normalize", "true or false"), ("sign", "one of sum, count")],
)  # fmt: skip
def test_allowed_values_are_said_in_words(name, words):
    assert parameter(name).allowed == words


def test_range_is_closed_unless_open_at_the_low_end():
    assert 0.0 in Range(0.0, 1.0)
    assert 0.0 not in Range(0.0, 1.0, open_low=True)
    assert 1.0 in Range(0.0, 1.0, open_low=True)
    assert str(Range(-1.0, 2.5)) == "[-1, 2.5]"


def test_one_value_serves_all_models():
    assert per_model(2, 3) == [2.0, 2.0, 2.0]


def test_a_sequence_gives_each_model_its_own():
    assert per_model([1, 0.5], 2) == [1.0, 0.5]


def test_a_sequence_of_another_length_is_refused():
    with pytest.raises(BadParameter, match="3 values for 2 models"):
        per_model([1, 2, 3], 2)


def test_methods_are_found_by_their_names():
    found = methods.all_methods()
    assert list(found) == sorted(found)
    assert methods.get("ties") is found["ties"]


@pytest.mark.parametrize(
    ("name", "hint"), [("tiess", "did you mean ties?"), ("zzz", "reg methods")]
)
def test_an_unknown_method_is_answered_with_the_nearest(name, hint):
    with pytest.raises(UnknownMethod, match="there is no merge method") as refused:
        methods.get(name)
    assert refused.value.hint == hint


@pytest.mark.parametrize("name", methods.all_methods())
def test_every_parameter_says_what_it_allows(name):
    for each in methods.get(name).parameters:
        assert isinstance(each, Parameter)
        assert each.kind != "number" or each.range is not None
        assert each.default is None or each.check(each.default) == each.default
        assert each.name != each.keyword or not each.name.endswith("_")


def test_a_survey_rows_and_whole_tensors_may_depend_on_parameters():
    dare, crumbs = (methods.get(name) for name in ("dare_linear", "breadcrumbs"))
    assert dare.scope_with({"rescale_by": "l1"}) == "tensor"
    assert dare.scope_with({"rescale_by": "density"}) == "element"
    for per in ("tensor", "row"):
        assert crumbs.surveys_with({"per": per}) is (per == "tensor")
        assert crumbs.rows_with({"per": per}) is (per == "row")
        assert not crumbs.needs_whole_with({"per": per})
    assert methods.get("ties").surveys_with({})
    assert methods.get("widen").rows_with({})
    assert methods.get("bitdelta").needs_whole_with({"bits": 9})
