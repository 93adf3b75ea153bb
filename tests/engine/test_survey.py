"""Surveys: looks at every tensor that is merged, in the order of names, the same for any number of threads."""

import dataclasses

import pytest
import torch

from engine.method import Scale, Tensors, merge_method
from engine.reader import Reader
from engine.survey import survey


def norms(look, *, factor):
    """Twice: the largest entry of all, then where it is."""
    largest = max(value for _, value in look(lambda seen: float(seen.models[0].abs().max())))
    where = [
        name
        for name, here in look(lambda seen: bool((seen.models[0].abs() == largest).any()))
        if here
    ]
    return {"largest": factor * largest, "where": where}


@merge_method(space="delta", scope="model", paper="test", survey=norms)
def scaled(deltas: Tensors, *, whole: dict, factor: Scale = 1.0) -> torch.Tensor:
    """Divide by the largest entry of the whole model."""
    return deltas[0] / whole["largest"]


@pytest.fixture
def plan(make_parent, planned):
    base = make_parent("base", {name: torch.zeros(3) for name in "abc"} | {"ids": torch.arange(3)})
    model = make_parent(
        "model",
        {
            "a": torch.ones(3),
            "b": torch.tensor([1.0, -8, 2]),
            "c": torch.zeros(3),
            "ids": torch.arange(3),
        },
    )
    made = planned("task_arithmetic", [model], base=base)
    recipe = dataclasses.replace(made.recipe, method=scaled.declared)
    steps = tuple(dataclasses.replace(step, values={"factor": 2.0}) for step in made.steps)
    return dataclasses.replace(made, recipe=recipe, steps=steps)


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_a_survey_looks_as_often_as_it_likes(jobs, plan):
    with Reader() as reader:
        found = survey(plan, reader, jobs=jobs, memory_bytes=1 << 20)
    assert found == {"largest": 16.0, "where": ["b"]}


def test_methods_without_one_are_not_surveyed(plan, planned, make_parent):
    one = make_parent("one", {"w": torch.ones(2)})
    with Reader() as reader:
        assert survey(planned("linear", [one]), reader, jobs=1, memory_bytes=1) is None
