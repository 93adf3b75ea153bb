"""What every method needs for the largest tables there are: slices fit the budget, and what does not is said before."""

import re

import pytest
import torch

from engine import memory
from engine.merge import merge
from engine.methods import all_methods
from engine.options import Options
from engine.parent import Parent
from engine.plan import MEMORY_BYTES
from engine.recipe import Part, Recipe
from registry.checkpoint import Checkpoint
from registry.errors import NotEnoughMemory
from registry.header import TensorRef

METHODS = all_methods()
EMBEDDING, TURNED = "model.embed_tokens.weight", "model.layers.0.mlp.down_proj.weight"
SHAPES = {EMBEDDING: (500_000, 8192), TURNED: (8192, 500_000)}

WHOLE = {
    "fisher": "statistics weigh every entry",
    "iso_c": "singular values",
    "iso_cts": "singular values",
    "knots": "singular values",
    "low_rank": "singular values",
    "opcm": "singular values",
    "regmean": "a system of equations",
    "svc": "singular values",
    "tsv_merge": "singular values",
    "wudi": "products of whole matrices",
}
"""Methods whose tensors do not go slice by slice, and why."""

WHOLE_WITH = {("bitdelta", "bits", 16), ("nuslerp", "nuslerp_flatten", False)}
"""Parameters with which others do not."""


@pytest.fixture
def huge(make_parent):
    """Three parents that claim to have the largest tables there are, in bfloat16; nothing of them is on disk."""
    root = make_parent("small", {"w": torch.ones(2)}).checkpoint
    refs = tuple(
        TensorRef(name, "BF16", shape, root.root / "model.safetensors", 0, 2 * shape[0] * shape[1])
        for name, shape in SHAPES.items()
    )
    held = {f: getattr(root, f) for f in root.__dataclass_fields__} | {"tensors": refs}
    return [Parent(str(i) * 64, str(i), Checkpoint(**held), {}) for i in range(3)]


def plan_with(planned, huge, method, **parameters):
    base, *models = huge
    return planned(method.name, models[: method.n_models[1]], base=base, **parameters)


def one_at_a_time(method):
    """Each choice and flag of a method but the default, and the most bits."""
    for each in method.parameters:
        values = each.choices or ((False, True) if each.kind == "flag" else ())
        if each.name == "bits":
            values = (2, 8, 16)
        for value in values:
            if value != each.default:
                yield each.name, value


@pytest.mark.parametrize("name", METHODS)
def test_the_largest_tables_fit_the_budget_or_it_is_said_that_they_do_not(name, huge, planned):
    plan = plan_with(planned, huge, METHODS[name])
    said = plan.beyond(MEMORY_BYTES)
    assert (said is not None) is (plan.peak_bytes(1) > MEMORY_BYTES) is (name in WHOLE)
    if said is not None:
        assert name in said
        assert EMBEDDING in said or TURNED in said
        assert f"{plan.peak_bytes(1):,} bytes" in said
        assert f"{MEMORY_BYTES:,}" in said


@pytest.mark.parametrize("name", sorted(METHODS.keys() - WHOLE.keys()))
def test_parameters_that_take_tensors_whole_are_few_and_known(name, huge, planned):
    for parameter, value in one_at_a_time(METHODS[name]):
        plan = plan_with(planned, huge, METHODS[name], **{parameter: value})
        is_large = plan.peak_bytes(1) > MEMORY_BYTES
        assert is_large is ((name, parameter, value) in WHOLE_WITH), (parameter, value)


def test_every_method_that_does_as_mergekit_does_fits_but_for_fisher(huge, planned):
    for name, method in METHODS.items():
        for values in method.compat.values():
            plan = plan_with(planned, huge, method, **values)
            assert (plan.peak_bytes(1) > MEMORY_BYTES) is (name in WHOLE)


def test_what_the_machine_cannot_hold_is_refused_with_the_figure(huge, planned, monkeypatch):
    monkeypatch.setattr(memory, "machine_bytes", lambda: 64 << 30)
    plan = plan_with(planned, huge, METHODS["tsv_merge"])
    need = re.escape(f"{plan.peak_bytes(1):,} bytes")
    with pytest.raises(NotEnoughMemory, match=rf"tsv_merge .* {need} .* this machine has "):
        memory.refuse_too_large(plan, MEMORY_BYTES)
    memory.refuse_too_large(plan, plan.peak_bytes(1))
    memory.refuse_too_large(plan_with(planned, huge, METHODS["ties"]), MEMORY_BYTES)


def test_a_machine_has_memory():
    assert memory.machine_bytes() > 1 << 28


def test_merging_says_so_before_it_begins_and_refuses_what_cannot_be(shelf, tmp_path, monkeypatch):
    recipe, told = Recipe("iso_c", (Part("chat"), Part("math"))), []
    options = Options(jobs=1, memory_bytes=1000)
    merge(shelf, recipe, tmp_path / "one", options=options, told=told.append)
    assert len(told) == 1
    assert re.search(r"^iso_c works on whole tensors: .* more than 1,000$", told[0])
    monkeypatch.setattr(memory, "machine_bytes", lambda: 1000)
    with pytest.raises(NotEnoughMemory):
        merge(shelf, recipe, tmp_path / "two", options=options, told=told.append)
    assert len(told) == 1
    assert not (tmp_path / "two").exists()
