"""Every method against numbers that are written down, from other tools where there are some."""

import json
from pathlib import Path

import pytest
import torch

from engine.draws import Draws
from engine.method import Seen, alone
from engine.methods import all_methods

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
METHODS = all_methods()

CASES = [
    pytest.param(path.stem, case, id=f"{path.stem}-{i}")
    for path in sorted(GOLDEN.glob("*.json"))
    for i, case in enumerate(json.loads(path.read_text(encoding="utf-8"))["cases"])
]


def tensor(values):
    return torch.tensor(values, dtype=torch.float32)


def test_golden_vectors_are_those_of_the_methods_there_are():
    assert [path.stem for path in sorted(GOLDEN.glob("*.json"))] == list(METHODS)


def whole_of(method, models, keywords):
    """What the method's survey finds, where this one tensor is the whole model."""
    values = {p.name: keywords.get(p.keyword, p.default) for p in method.parameters}
    if method.scope_with(values) != "model":
        return None
    tensor = keywords.get("tensor", "w")
    draws = keywords.get("draws", Draws(0, tensor, tuple("abcd")))
    seen = Seen(tensor, models, keywords.get("base"), draws, keywords.get("statistics"))
    surveyed = {name: keywords[name] for name in method.surveyed if name in keywords}
    return method.survey(alone(seen), **surveyed)


@pytest.mark.parametrize(("name", "case"), CASES)
def test_method_gives_the_expected_numbers(name, case):
    method = METHODS[name]
    keywords = {}
    for parameter, value in case["parameters"].items():
        declared = method.parameter(parameter)
        for one in value if isinstance(value, list) else [value]:
            assert declared.check(one) == one
        keywords[declared.keyword] = value
    if "base" in method.context:
        keywords["base"] = tensor(case["base"])
    if "tensor" in method.context:
        keywords["tensor"] = case.get("tensor", "w")
    if "draws" in method.context:
        keywords["draws"] = Draws(**(case["draws"] | {"models": tuple(case["draws"]["models"])}))
    if "statistics" in method.context:
        keywords["statistics"] = [tensor(values) for values in case["statistics"]]
    models = [tensor(model) for model in case["models"]]
    if "whole" in method.context:
        keywords["whole"] = whole_of(method, models, keywords)
    result = method.function(models, **keywords)
    torch.testing.assert_close(result, tensor(case["expected"]), rtol=1e-6, atol=2e-6)


def test_every_expectation_says_where_it_comes_from():
    for name, case in (each.values for each in CASES):
        assert case["source"].startswith("reference") or "executed" in case["source"], name
        low, high = METHODS[name].n_models
        assert low <= len(case["models"]) <= high, name
