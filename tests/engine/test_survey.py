"""Surveys: looks at every tensor that is merged, in the order of names, the same for any number of threads."""

import dataclasses

import pytest
import torch

from engine.method import Scale, Tensors, merge_method
from engine.reader import Reader
from engine.run import run_plan
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


def test_a_sample_has_about_as_many_entries_as_asked_for_of_all_tensors(make_parent, planned):
    shapes = {"a": (2000, 100), "b": (1, 100), "c": (1000, 100), "d": (0, 100)}
    base = make_parent("base", {name: torch.zeros(shape) for name, shape in shapes.items()})
    models = [make_parent(n, {k: torch.ones(s) for k, s in shapes.items()}) for n in "xy"]
    seen = []

    def pieces(look, **_):
        seen.extend(look(lambda s: (s.start, len(s.models[0].reshape(-1))), sample=30_010))

    made = planned("ties", models, base=base)
    method = dataclasses.replace(made.recipe.method, survey=pieces)
    plan = dataclasses.replace(made, recipe=dataclasses.replace(made.recipe, method=method))
    with Reader() as reader:
        survey(plan, reader, jobs=2, memory_bytes=1 << 20, chunk=1)
    slices = [(step, *ends) for step in plan.steps for ends in plan.slices(step, 1)]
    assert len(slices) == 4  # two of the largest
    assert seen == [
        (step.name, (start, round((stop - start) / 10))) for step, start, stop in slices
    ]


def test_tensors_without_an_entry_can_be_sampled(make_parent, planned, tmp_path):
    parents = [
        make_parent(str(i), {"a": torch.zeros(0, 4), "ids": torch.tensor([i])}) for i in range(3)
    ]
    run_plan(planned("ties", parents[1:], base=parents[0]), tmp_path, metadata={})
    assert (tmp_path / "model.safetensors").exists()
