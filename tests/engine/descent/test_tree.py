"""Trees: what is additive is recovered; what is missing is put in."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.descent.tree import relative, slid, spanning, with_latent


def gram_of(points):
    points = np.asarray(points, np.float64)
    return points @ points.T


def apart(gram):
    size = np.diag(gram)
    return size[:, None] + size[None, :] - 2 * gram


def nobody(a, b):
    return False


@st.composite
def family_trees(draw):
    """Parents of nodes 1, 2, …, and lengths of their steps."""
    n = draw(st.integers(2, 12))
    parents = [draw(st.integers(0, i - 1)) for i in range(1, n)]
    steps = [draw(st.integers(1, 30)) / 10 for _ in parents]
    return parents, steps, draw(st.permutations(range(n)))


def placed(parents, steps):
    """Points whose steps are orthogonal to each other."""
    points = np.zeros((len(parents) + 1, len(parents)))
    for i, (parent, step) in enumerate(zip(parents, steps, strict=True)):
        points[i + 1] = points[parent]
        points[i + 1, i] = step
    return points


@given(family_trees())
@settings(max_examples=60)
def test_a_tree_of_orthogonal_steps_is_recovered_whatever_the_order_of_its_nodes(tree):
    parents, steps, order = tree
    points = placed(parents, steps)
    place = {node: i for i, node in enumerate(order)}
    found = spanning(apart(gram_of(points[list(order)])), range(len(order)))
    true = {tuple(sorted((place[i + 1], place[p]))) for i, p in enumerate(parents)}
    assert set(found) == true
    assert len(found) == len(true)


def test_only_the_named_nodes_are_joined():
    distances = apart(gram_of([[0.0], [1.0], [2.0], [3.0]]))
    assert spanning(distances, [3, 0, 2]) == [(0, 2), (2, 3)]
    assert spanning(distances, [1]) == []
    assert spanning(distances, []) == []


SIBLINGS = placed([0, 0, 0, 0], [1.0, 1.1, 1.2, 1.3])[1:]


def test_siblings_get_the_parent_they_lack():
    gram = gram_of(SIBLINGS)
    tree = with_latent(spanning(apart(gram), range(4)), gram, nobody)
    assert sorted(tree.edges) == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert tree.neighbours(4) == [0, 1, 2, 3]
    for child, step in enumerate((1.0, 1.1, 1.2, 1.3)):
        assert abs(tree.latent[4][child] - step**2) < 1e-9


def test_a_grandchild_stays_with_its_parent_where_the_base_is_missing():
    points = placed([0, 0, 0, 0, 2], [1.0, 1.1, 1.2, 1.3, 0.5])[1:]
    gram = gram_of(points)
    tree = with_latent(spanning(apart(gram), range(5)), gram, nobody)
    assert sorted(tree.edges) == [(0, 5), (1, 4), (1, 5), (2, 5), (3, 5)]


def test_a_family_with_its_base_gets_no_other():
    gram = gram_of(placed([0, 0, 0, 1], [1.0, 1.1, 1.2, 1.3]))
    skeleton = spanning(apart(gram), range(5))
    tree = with_latent(skeleton, gram, nobody)
    assert tree.latent == {}
    assert tree.edges == skeleton


def test_a_model_that_is_clearly_the_parent_keeps_its_children():
    gram = gram_of(SIBLINGS)
    skeleton = spanning(apart(gram), range(4))
    assert with_latent(skeleton, gram, lambda _a, _b: True).edges == skeleton


def hub_and_far(likeness):
    """A hub, three children of it, and a model far from the hub that is a little like one of the children."""
    points = np.zeros((5, 4))
    points[1, 0] = points[2, 1] = points[3, 2] = 1.0
    points[4, 3], points[4, 0] = 10.0, likeness
    return gram_of(points)


def test_an_end_far_away_slides_to_the_hub():
    gram = hub_and_far(0.6)
    skeleton = spanning(apart(gram), range(5))
    assert (1, 4) in skeleton
    moved = slid(skeleton, gram, np.zeros((5, 5)), nobody)
    assert sorted(moved) == [(0, 1), (0, 2), (0, 3), (0, 4)]


def test_an_end_that_the_costs_place_stays():
    gram, costs = hub_and_far(0.6), np.zeros((5, 5))
    costs[0, 4] = costs[4, 0] = 0.2
    skeleton = spanning(apart(gram), range(5))
    assert slid(skeleton, gram, costs, nobody) == skeleton


def test_an_end_that_is_near_stays():
    gram = gram_of(placed([0, 0, 0, 1], [1.0, 1.0, 1.0, 2.0]))
    skeleton = spanning(apart(gram), range(5))
    assert slid(skeleton, gram, np.zeros((5, 5)), nobody) == skeleton


def test_between_two_ends_alike_the_clear_parent_wins():
    """A chain hub - near - far: as many edges here as there, unless one is the other's parent."""
    gram = gram_of([[0.0, 0.0], [1.0, 0.0], [0.6, 10.0]])
    skeleton = spanning(apart(gram), range(3))
    assert sorted(skeleton) == [(0, 1), (1, 2)]
    costs = np.zeros((3, 3))
    assert slid(skeleton, gram, costs, nobody) == skeleton
    assert sorted(slid(skeleton, gram, costs, lambda a, b: (a, b) == (0, 1))) == [(0, 1), (0, 2)]


def test_relative_products_are_those_of_differences():
    points = np.random.default_rng(1).normal(size=(5, 7))
    differences = points[[4, 1, 2]] - points[3]
    np.testing.assert_allclose(
        relative(gram_of(points), 3, [4, 1, 2]), differences @ differences.T, atol=1e-12
    )
