"""Leaves: pruned and quantised models under what they were made of, and nobody else."""

from functools import cache

import numpy as np
import pytest
from descent_families import LAYOUT, Family, changed, put

from engine.descent.leaf import leaves_of


@cache
def relatives(dtype):
    """A base b and its children e1 and e2."""
    family = Family(9, dtype)
    base = family.base()
    return family, {"b": base, "e1": family.tuned(base), "e2": family.tuned(base)}


def pruned(w):
    """Half of the entries, the smallest, are 0."""
    return np.where(np.abs(w) >= np.median(np.abs(w)), w, 0)


def int4(w):
    """Groups of 32 entries on 15 levels."""
    groups = w.reshape(-1, 32)
    step = np.abs(groups).max(1, keepdims=True) / 7
    return (np.round(groups / step) * step).reshape(w.shape)


def int8(w):
    """Rows on 255 levels."""
    step = np.abs(w).max(1, keepdims=True) / 127
    return np.round(w / step) * step


def named(models, dtype="BF16", group=None):
    """Leaf → parent, by name."""
    bucket, _ = put(models, dtype, rows=16)
    found = leaves_of(bucket, range(len(bucket)) if group is None else group)
    return {bucket.models[leaf]: bucket.models[parent] for leaf, parent in found.items()}


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
@pytest.mark.parametrize("make", [pruned, int4, int8])
@pytest.mark.parametrize("parent", ["b", "e1"])
def test_a_leaf_hangs_under_what_it_was_made_of(dtype, make, parent):
    family, models = relatives(dtype)
    leaf = family.kept(changed(models[parent], make))
    assert named(models | {"leaf": leaf}, dtype) == {"leaf": parent}


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_models_that_were_trained_are_no_leaves(dtype):
    assert named(relatives(dtype)[1], dtype) == {}


def test_each_leaf_of_a_family_has_its_own_parent():
    family, models = relatives("BF16")
    leaves = {
        f"{make.__name__} of {name}": family.kept(changed(models[name], make))
        for make in (pruned, int4) for name in models
    }  # fmt: skip
    found = named(models | leaves)
    assert found == {leaf: leaf.split(" of ")[1] for leaf in leaves}


def test_two_leaves_of_one_model_are_not_each_others():
    family, models = relatives("BF16")
    twice = family.kept(changed(changed(models["e1"], pruned), int4))
    leaves = {"once": family.kept(changed(models["e1"], pruned)), "twice": twice}
    found = named(models | leaves)
    assert found == {"once": "e1", "twice": "e1"}


def test_an_adapter_that_was_merged_is_no_leaf():
    family, models = relatives("BF16")
    assert named(models | {"adapted": family.adapted(models["b"], 4)}) == {}


def test_degenerate_groups_have_no_leaves_or_break_nothing():
    _, models = relatives("BF16")
    assert named({"b": models["b"]}) == {}
    assert named(models, group=[]) == {}
    assert named({"x": models["b"], "y": models["b"]}) == {}
    zero = np.zeros(LAYOUT.size, np.float32)
    assert named({"x": zero, "y": zero}) == {}
    assert set(named({"b": models["b"], "e1": models["e1"], "zero": zero})) <= {"zero"}


def test_only_a_group_is_looked_at():
    family, models = relatives("BF16")
    leaf = family.kept(changed(models["b"], int4))
    bucket, place = put(models | {"leaf": leaf}, rows=16)
    found = leaves_of(bucket, [place["b"], place["leaf"]])
    assert found == {place["leaf"]: place["b"]}
    assert leaves_of(bucket, [place["leaf"]]) == {}
