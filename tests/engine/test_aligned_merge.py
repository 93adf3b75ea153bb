"""An expert whose heads and neurons changed places merges with its sibling as if they had not."""

import shutil
from pathlib import Path

import pytest
from networks import shuffled
from safetensors.torch import load_file, save_file

from engine.merge import merge, reproduce
from engine.recipe_file import recipe_from_text
from engine.suite import run_suite
from engine.symmetry import groups
from engine.verify import verify
from registry.catalog import Catalog
from registry.checkpoint import read_checkpoint
from registry.scan import scan

ZOO = Path(__file__).parents[2] / "data" / "zoo"
SUITES = ("arithmetic", "reverse")
RECIPE = """
merge_method: task_arithmetic
base_model: {zoo}/base
models:
  - model: {expert}
  - model: {zoo}/reverse
parameters: {{weight: 0.8}}
"""


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """A catalog, and a copy of the family's expert in arithmetic whose heads and neurons are in another order."""
    folder = tmp_path_factory.mktemp("aligned")
    copy = folder / "shuffled"
    shutil.copytree(ZOO / "arithmetic", copy)
    checkpoint = read_checkpoint(copy)
    shapes = {t.name: t.shape for t in checkpoint.tensors}
    file = copy / "model.safetensors"
    moved = shuffled(load_file(file), groups(checkpoint.config, shapes), seed=4)
    save_file(moved, file, metadata={"format": "pt"})
    catalog = Catalog(folder / "catalog.duckdb")
    scan(catalog, [str(ZOO), str(copy)])
    return catalog, folder


def merged(room, name, expert, *, align=""):
    catalog, folder = room
    text = RECIPE.format(zoo=ZOO, expert=expert) + align
    return merge(catalog, recipe_from_text(text), folder / name)


def accuracy(catalog, model):
    found = (run_suite(catalog, model, ZOO / "suites" / f"{s}.jsonl", limit=60) for s in SUITES)
    return [outcome.score.value for outcome in found]


def test_an_expert_in_another_order_merges_as_if_it_were_not(room):
    catalog, folder = room
    plain = merged(room, "plain", ZOO / "arithmetic")
    assert accuracy(catalog, catalog.find(str(folder / "shuffled")))[0] > 0.95
    found = merged(room, "found", folder / "shuffled", align="align: weight_matching\n")
    assert found.model == plain.model  # every byte
    assert "heads" not in found.notes
    assert any("brought into the basis of base by weight_matching" in n for n in found.notes)
    assert min(accuracy(catalog, plain.model)) > 0.5
    transported = merged(room, "carried", folder / "shuffled", align="align: ot_fusion\n")
    assert transported.model == plain.model


def test_without_alignment_the_merge_loses(room):
    catalog, folder = room
    lost, kept = (
        accuracy(catalog, merged(room, name, expert).model)
        for name, expert in (("lost", folder / "shuffled"), ("kept", ZOO / "arithmetic"))
    )
    assert sum(lost) < sum(kept) - 0.5


def test_an_aligned_merge_is_recorded_and_made_again(room):
    catalog, folder = room
    found = merged(room, "once", folder / "shuffled", align="align: {method: weight_matching}\n")
    expected, again = reproduce(catalog, str(folder / "once"), folder / "again")
    assert again.model == expected == found.model
    assert verify(catalog, str(folder / "once")).ok
