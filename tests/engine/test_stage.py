"""Recipes of several documents: the stages in between are computed, never written, to the same bytes."""

import pytest
import torch

from engine.assemble import decide, pin_down
from engine.merge import merge, reproduce
from engine.recipe_file import recipe_from_text
from engine.verify import verify

FIRST = """
merge_method: dare_linear
base_model: {family.base}
models: [{family.chat}, {family.math}]
parameters: {{density: 0.5, weight: 0.5}}
seed: 3
"""
SECOND = """
merge_method: ties
base_model: {family.base}
models:
- {first}
- model: {family.cpt}
  parameters: {{weight: 0.5}}
parameters: {{density: 0.4}}
"""


@pytest.fixture
def recipes(family):
    return FIRST.format(family=family), lambda first: SECOND.format(family=family, first=first)


def test_law_two_documents_give_the_bytes_of_two_merges(shelf, recipes, tensors_in, tmp_path):
    first, second = recipes
    merge(shelf, recipe_from_text(first), tmp_path / "first")
    expected = merge(shelf, recipe_from_text(second(tmp_path / "first")), tmp_path / "expected")
    both = recipe_from_text(f"{first}name: stage\n---\n{second('stage')}")
    made = merge(shelf, both, tmp_path / "made")
    assert made.model == expected.model
    one, other = tensors_in(tmp_path / "made"), tensors_in(tmp_path / "expected")
    assert all(torch.equal(one[name], other[name]) for name in other)
    assert not (tmp_path / "stage").exists()


def test_the_parents_of_a_stage_are_parents_of_the_result(shelf, family, recipes, tmp_path):
    first, second = recipes
    made = merge(
        shelf, recipe_from_text(f"{first}name: stage\n---\n{second('stage')}"), tmp_path / "made"
    )
    edges = shelf.rows(
        "select parent, role from store.edge where child = ? order by role, parent", [made.model]
    )
    found = {(shelf.name(e["parent"]), e["role"]) for e in edges}
    assert {("base", "base"), ("chat", "model"), ("math", "model"), ("cpt", "model")} <= found
    assert verify(shelf, str(tmp_path / "made")).ok
    expected, again = reproduce(shelf, made.model, tmp_path / "again")
    assert again.model == expected
    card = (tmp_path / "made" / "README.md").read_text(encoding="utf-8")
    assert "name: stage-" in card
    assert str(tmp_path) not in card


def test_a_stage_is_surveyed_for_itself(shelf, family, tmp_path):
    text = f"""
merge_method: ties
base_model: {family.base}
models: [{family.chat}, {family.math}]
name: stage
---
merge_method: linear
models: [stage, {family.base}]
"""
    plan = decide(shelf, pin_down(shelf, recipe_from_text(text), allow_unrelated=False))
    assert plan.models[0].parents
    assert plan.read_bytes == sum(step.read_bytes for step in plan.steps)
    made = merge(
        shelf,
        recipe_from_text(text),
        tmp_path / "made",
    )
    merge(shelf, recipe_from_text(text.partition("name:")[0]), tmp_path / "first")
    halves = f"merge_method: linear\nmodels: [{tmp_path / 'first'}, {family.base}]\n"
    assert merge(shelf, recipe_from_text(halves), tmp_path / "halves").model == made.model
