"""Trees: what is additive is recovered; what is missing is put in."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.descent.tree import popular, relative, spanning, with_latent


def gram_of(points):
    points = np.asarray(points, np.float64)
    return points @ points.T


def apart(gram):
    size = np.diag(gram)
    return size[:, None] + size[None, :] - 2 * gram


def cosine_among(gram):
    """Likeness in a space where every direction counts as it is."""

    def likeness(origin, one, other):
        products = relative(gram, origin, [one, other])
        return products[0, 1] / np.sqrt(products[0, 0] * products[1, 1])

    return likeness


def completed(points, skeleton=None):
    """The tree of some points."""
    gram = gram_of(points)
    edges = spanning(apart(gram), range(len(gram))) if skeleton is None else skeleton
    return with_latent(edges, apart(gram), gram, cosine_among(gram))


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
    tree = completed(SIBLINGS)
    assert sorted(tree.edges) == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert tree.neighbours(4) == [0, 1, 2, 3]
    for child, step in enumerate((1.0, 1.1, 1.2, 1.3)):
        assert abs(tree.latent[4][child] - step**2) < 1e-9


def test_a_grandchild_stays_with_its_parent_where_the_base_is_missing():
    tree = completed(placed([0, 0, 0, 0, 2], [1.0, 1.1, 1.2, 1.3, 0.5])[1:])
    assert sorted(tree.edges) == [(0, 5), (1, 4), (1, 5), (2, 5), (3, 5)]


def test_a_sibling_that_hangs_on_a_child_joins_the_others():
    """Three siblings in one place of the tree, the fourth at a child's end."""
    tree = completed(SIBLINGS, [(0, 1), (0, 2), (1, 3)])
    assert sorted(tree.edges) == [(0, 4), (1, 4), (2, 4), (3, 4)]


def test_what_is_far_from_all_siblings_alike_is_their_parent_s_child():
    far = placed([0, 0, 0, 0, 0], [1.0, 1.1, 1.2, 1.3, 30.0])[1:]
    tree = completed(far, [(0, 1), (0, 2), (0, 3), (3, 4)])
    assert sorted(tree.edges) == [(0, 5), (1, 5), (2, 5), (3, 5), (4, 5)]


def test_of_ends_that_are_all_but_as_near_the_one_with_more_neighbours_is_taken():
    costs = apart(gram_of(placed([0, 0, 0, 0], [1.0, 1.1, 1.2, 30.0])))
    costs[1, 4] = costs[4, 1] = 0.999 * costs[0, 4]
    first = spanning(costs, range(5))
    assert (1, 4) in first
    assert set(spanning(popular(costs, first), range(5))) == {(0, 1), (0, 2), (0, 3), (0, 4)}


@given(family_trees())
@settings(max_examples=25)
def test_what_is_popular_changes_no_tree_of_orthogonal_steps_of_one_length(tree):
    parents, _, _ = tree
    costs = apart(gram_of(placed(parents, [1.0] * len(parents))))
    edges = spanning(costs, range(len(costs)))
    assert spanning(popular(costs, edges), range(len(costs))) is not None
    assert {*spanning(popular(costs, edges), range(len(costs)))} == {*edges}


def test_a_family_with_its_base_gets_no_other():
    points = placed([0, 0, 0, 1], [1.0, 1.1, 1.2, 1.3])
    tree = completed(points)
    assert tree.latent == {}
    assert tree.edges == spanning(apart(gram_of(points)), range(5))


def test_a_child_in_the_base_s_place_gives_it_back():
    """Whatever drew the others to it: seen from the base they have nothing in common."""
    points = placed([0, 0, 0, 0], [0.8, 1.0, 1.1, 1.2])
    tree = completed(points, [(0, 1), (1, 2), (1, 3), (1, 4)])
    assert tree.latent == {}
    assert sorted(tree.edges) == [(0, 1), (0, 2), (0, 3), (0, 4)]


def test_two_children_of_many_that_were_taught_alike_have_no_parent_of_their_own():
    points = placed([0, 0, 0, 0, 0], [1.0, 1.1, 1.2, 1.3, 1.4])
    points[1, 1] = 0.4
    assert completed(points).latent == {}


def test_relative_products_are_those_of_differences():
    points = np.random.default_rng(1).normal(size=(5, 7))
    differences = points[[4, 1, 2]] - points[3]
    np.testing.assert_allclose(
        relative(gram_of(points), 3, [4, 1, 2]), differences @ differences.T, atol=1e-12
    )
