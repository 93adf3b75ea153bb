"""Ancestry: families that are known are found again, whatever the order of their models."""

import numpy as np
import pytest
from descent_trees import STEP, base, bucket_of, rounded, summed, tuned

from engine.descent.ancestry import ancestry


def found(models, order=None):
    """(child, parent, relation, role, coefficient) by name, in order; and the latent nodes' number."""
    names = list(models) if order is None else [list(models)[i] for i in order]
    made = ancestry(bucket_of(**{name: models[name] for name in names}), range(len(names)))
    called = dict(enumerate(names)) | {v: f"latent {i}" for i, v in enumerate(made.latent)}
    links = sorted(
        (
            called[link.child], called[link.parent], link.kind.name, link.role,
            None if link.coefficient is None else round(link.coefficient, 2),
        )
        for link in made.links
    )  # fmt: skip
    return links, len(made.latent)


def child_of(links):
    return {(child, parent) for child, parent, *_ in links}


@pytest.fixture(scope="module")
def plain():
    """A base, three children, two grandchildren, a great-grandchild."""
    b = base(1)
    one, two, three = (tuned(b, seed) for seed in (2, 3, 4))
    grand = tuned(one, 5)
    return {
        "b": b, "one": one, "two": two, "three": three,
        "grand": grand, "other": tuned(two, 6), "great": tuned(grand, 7),
    }  # fmt: skip


TRUE = {
    ("one", "b"), ("two", "b"), ("three", "b"), ("grand", "one"), ("other", "two"), ("great", "grand"),
}  # fmt: skip


@pytest.mark.parametrize("order", [range(7), range(6, -1, -1), (3, 0, 6, 2, 5, 1, 4)])
def test_three_generations_are_found_in_any_order(plain, order):
    links, n_latent = found(plain, list(order))
    assert child_of(links) == TRUE
    assert {relation for _, _, relation, *_ in links} == {"finetune"}
    assert n_latent == 0


def test_a_base_that_is_missing_is_put_in(plain):
    links, n_latent = found({name: m for name, m in plain.items() if name != "b"})
    assert n_latent == 1
    assert child_of(links) == {(c, "latent 0" if p == "b" else p) for c, p in TRUE}


@pytest.fixture(scope="module")
def merged(plain):
    """A merge of two children, one of three by task arithmetic, and a child of the former."""
    family = {name: plain[name] for name in ("b", "one", "two", "three")}
    linear = summed((0.6, plain["one"]), (0.4, plain["two"]))
    added = summed((-0.4, plain["b"]), (0.7, plain["two"]), (0.7, plain["three"]))
    return family | {"linear": linear, "added": added, "next": tuned(linear, 8, 0.8 * STEP)}


@pytest.mark.parametrize("order", [range(7), (6, 4, 5, 3, 2, 1, 0)])
def test_merges_are_found_with_what_they_are_made_of(merged, order):
    links, n_latent = found(merged, list(order))
    assert [link for link in links if link[2] == "merge"] == [
        ("added", "b", "merge", "base", -0.4),
        ("added", "three", "merge", "model", 0.7),
        ("added", "two", "merge", "model", 0.7),
        ("linear", "one", "merge", "model", 0.6),
        ("linear", "two", "merge", "model", 0.4),
    ]
    assert n_latent == 0


def test_a_child_of_a_merge_hangs_under_the_merge(merged):
    links, _ = found(merged)
    assert [link for link in links if link[0] == "next"] == [
        ("next", "linear", "finetune", "parent", None)
    ]
    assert {("one", "b"), ("two", "b"), ("three", "b")} <= child_of(links)


def test_nobody_has_two_parents_but_merges(merged):
    links, _ = found(merged)
    children = [link[0] for link in links if link[2] != "merge"]
    assert len(children) == len(set(children))


def test_pruned_and_quantised_models_are_leaves(plain):
    rng = np.random.default_rng(9)
    one = plain["one"]
    pruned = {
        name: np.where(rng.random(old.shape) < 0.5, 0, old) if old.ndim > 1 else old
        for name, old in one.items()
    }
    coarse = {}
    for name, old in plain["two"].items():
        if old.ndim < 2:
            coarse[name] = old
            continue
        step = np.abs(old).max(1, keepdims=True) / 7
        coarse[name] = rounded(np.round(old / step) * step)
    links, _ = found(plain | {"pruned": pruned, "coarse": coarse})
    assert ("pruned", "one", "pruned", "parent", None) in links
    assert ("coarse", "two", "quantized", "parent", None) in links
    assert child_of(links) == TRUE | {("pruned", "one"), ("coarse", "two")}


def test_an_adapter_that_was_merged_is_told_from_training(plain):
    rng = np.random.default_rng(10)
    made = dict(plain["b"])
    for name, old in plain["b"].items():
        if name.endswith(("q_proj.weight", "v_proj.weight")):
            few = rng.normal(size=(48, 4)) @ rng.normal(size=(4, 48)) / 2
            made[name] = rounded(old + STEP * few)
    links, _ = found({"b": plain["b"], "one": plain["one"], "lora": made})
    assert ("lora", "b", "adapter_merged", "parent", None) in links


def test_a_model_alone_has_no_edges(plain):
    assert found({"b": plain["b"]}) == ([], 0)
