"""Settling: an absent base becomes the tree's own latent node, or one that joins its children."""

from engine.descent.combination import Combination
from engine.descent.masked import Masked
from engine.descent.settling import settled
from engine.descent.tree import Tree


def summed(child, parents, base):
    """A sum of some models."""
    share = 1 / len(parents)
    return Combination(child, parents, (share,) * len(parents), 1.0, 1.0, base)


def masked(child, base, parents):
    """A masked merge of two."""
    return Masked(child, base, parents, (1.0, 1.0), (0.5, 0.5), 1.0, 0.5)


def test_without_an_absent_base_nothing_changes():
    tree = Tree(4, [(0, 1), (1, 2)])
    merges = {3: summed(3, (0, 2), None)}
    assert settled(tree, merges) == merges
    assert tree.edges == [(0, 1), (1, 2)]
    assert tree.latent == {}


def test_a_latent_node_among_its_children_is_the_absent_base():
    latent = {5: {0: 1.0, 1: 1.0, 2: 1.0}}
    tree = Tree(5, [(0, 5), (1, 5), (2, 5)], latent)
    found = settled(tree, {3: masked(3, 5, (0, 1)), 4: summed(4, (2, 5), None)})
    assert (found[3].base, found[4].parents) == (5, (2, 5))
    assert tree.edges == [(0, 5), (1, 5), (2, 5)]


def test_of_two_latent_nodes_the_one_with_more_of_its_children_is_taken():
    latent = {6: {0: 1.0, 4: 1.0}, 7: {1: 1.0, 2: 1.0}}
    tree = Tree(6, [(0, 6), (4, 6), (0, 1), (1, 7), (2, 7)], latent)
    found = settled(tree, {3: masked(3, 6, (1, 2)), 5: summed(5, (0, 2, 6), 6)})
    assert found[3].base == 7
    assert (found[5].parents, found[5].base) == ((0, 2, 7), 7)


def test_where_the_tree_has_no_latent_node_one_is_put_among_its_children():
    tree = Tree(5, [(0, 1), (1, 2), (2, 4)])
    found = settled(tree, {3: summed(3, (0, 1, 2, 5), 5)})
    assert found[3].base == 5
    assert sorted(tree.edges) == [(0, 5), (1, 5), (2, 4), (2, 5)]
    assert set(tree.latent[5]) == {0, 1, 2}


def test_no_circle_is_made():
    tree = Tree(4, [(0, 2), (1, 2)])
    settled(tree, {3: masked(3, 4, (0, 1))})
    assert sorted(tree.edges) == [(0, 2), (0, 4), (1, 2)]
