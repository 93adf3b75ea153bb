"""Hanging: a merge's children are found under it."""

import pytest
from descent_trees import STEP, base, bucket_of, summed, tuned

from engine.descent.combination import Combination
from engine.descent.hanging import hang
from engine.descent.tree import Tree, spanning


@pytest.fixture(scope="module")
def models():
    """A base, three children, their mean, a child of the mean, and one more child of the base."""
    b = base(1)
    e = [tuned(b, seed) for seed in (2, 3, 4)]
    mean = summed(*((1 / 3, each) for each in e))
    child = tuned(mean, 5, 0.8 * STEP)
    return {"b": b, "e1": e[0], "e2": e[1], "e3": e[2], "m": mean, "c": child, "o": tuned(b, 6)}


def hung(models, names, merge=("e1", "e2", "e3")):
    """The edges, by name, of the tree of all but the merge, after hanging."""
    bucket = bucket_of(**{name: models[name] for name in names})
    place = {name: i for i, name in enumerate(names)}
    made = Combination(
        place["m"], tuple(place[p] for p in merge), (1 / 3,) * 3, 1.0, 1.0, base=None
    )
    plain = [i for i in range(len(names)) if i != place["m"]]
    tree = Tree(len(names), spanning(bucket.distances, plain))
    before = list(tree.edges)
    hang(bucket, tree, {place["m"]: made})
    return [{frozenset((names[a], names[b])) for a, b in edges} for edges in (before, tree.edges)]


def pairs(*words):
    return {frozenset(word.split()) for word in words}


def test_a_child_of_a_merge_hangs_under_the_merge_and_not_its_base(models):
    before, after = hung(models, ["b", "e1", "e2", "e3", "m", "c"])
    assert before == pairs("b e1", "b e2", "b e3", "b c")
    assert after == pairs("b e1", "b e2", "b e3", "m c")


def test_the_order_of_the_models_does_not_matter(models):
    _, after = hung(models, ["c", "m", "e3", "b", "e1", "e2"])
    assert after == pairs("b e1", "b e2", "b e3", "m c")


def test_the_base_and_its_other_children_stay(models):
    before, after = hung(models, ["b", "e1", "e2", "e3", "m", "o"])
    assert after == before == pairs("b e1", "b e2", "b e3", "b o")


def test_a_grandchild_of_a_merge_stays_with_its_parent(models):
    family = models | {"g": tuned(models["c"], 7, STEP / 2)}
    _, after = hung(family, ["b", "e1", "e2", "e3", "m", "c", "g"])
    assert after == pairs("b e1", "b e2", "b e3", "m c", "c g")


def test_without_merges_nothing_moves(models):
    bucket = bucket_of(b=models["b"], e1=models["e1"], c=models["c"])
    tree = Tree(3, spanning(bucket.distances, range(3)))
    before = list(tree.edges)
    hang(bucket, tree, {})
    assert tree.edges == before


def test_what_a_merge_of_a_merge_is_made_of_stays(models):
    names = ["b", "e1", "e2", "e3", "m", "n"]
    family = models | {"n": summed((0.5, models["m"]), (0.5, models["e3"]))}
    bucket = bucket_of(**{name: family[name] for name in names})
    made = {
        4: Combination(4, (1, 2, 3), (1 / 3,) * 3, 1.0, 1.0, base=None),
        5: Combination(5, (3, 4), (0.5, 0.5), 1.0, 1.0, base=None),
    }
    tree = Tree(len(names), [(0, 1), (1, 2), (0, 3)])
    hang(bucket, tree, made)
    assert {(0, 3), (0, 1), (1, 2)} == {*tree.edges}
