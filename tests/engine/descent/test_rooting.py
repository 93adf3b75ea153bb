"""Rooting: all edges of a tree together say where it begins."""

from dataclasses import replace
from itertools import pairwise

import pytest
from descent_trees import base, bucket_of, tuned

from engine.descent.rooting import rooted
from engine.descent.tree import Tree


def directed(bucket, edges, **more):
    tree = Tree(len(bucket), sorted(edges), **more)
    nodes = {v for edge in edges for v in edge}
    return rooted(bucket, tree, nodes, ())


def pairs(oriented):
    return sorted((edge.parent, edge.child) for edge in oriented)


def test_a_star_begins_in_its_middle():
    parent = base(1)
    bucket = bucket_of(a=tuned(parent, 2), b=tuned(parent, 3), c=parent, d=tuned(parent, 4))
    found = directed(bucket, [(0, 2), (1, 2), (2, 3)])
    assert pairs(found) == [(2, 0), (2, 1), (2, 3)]
    assert all(edge.probability > 0.9 and edge.statistic > 0 for edge in found)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_a_chain_begins_at_its_end(order):
    chain = [base(5)]
    for seed in (6, 7, 8):
        chain.append(tuned(chain[-1], seed))
    bucket = bucket_of(**{f"m{place}": chain[i] for place, i in enumerate(order)})
    at = [order.index(i) for i in range(4)]
    edges = [(min(a, b), max(a, b)) for a, b in pairwise(at)]
    assert pairs(directed(bucket, edges)) == sorted(pairwise(at))


def test_probabilities_are_those_of_roots_on_the_parents_side():
    parent = base(9)
    bucket = bucket_of(a=parent, b=tuned(parent, 10), c=tuned(parent, 11))
    for edge in directed(bucket, [(0, 1), (0, 2)]):
        assert 0.5 < edge.probability <= 1


def test_every_tree_of_a_forest_has_its_own_root():
    one, other = base(12), base(13)
    bucket = bucket_of(
        a=tuned(one, 14), b=one, c=tuned(one, 15), d=tuned(other, 16), e=other, f=tuned(other, 17)
    )
    found = directed(bucket, [(0, 1), (1, 2), (3, 4), (4, 5)])
    assert pairs(found) == [(1, 0), (1, 2), (4, 3), (4, 5)]


def test_a_claim_decides_where_the_weights_say_nothing_and_only_there():
    lost = base(20)
    bucket = bucket_of(a=tuned(lost, 21), b=tuned(lost, 22))  # siblings, to whom no direction leads
    for child, parent in ((0, 1), (1, 0)):
        (edge,) = rooted(bucket, Tree(2, [(0, 1)]), [0, 1], (), frozenset({(child, parent)}))
        assert (edge.child, edge.parent) == (child, parent)
    parent = base(1)
    bucket = bucket_of(a=tuned(parent, 2), b=tuned(parent, 3), c=parent, d=tuned(parent, 4))
    found = rooted(bucket, Tree(4, [(0, 2), (1, 2), (2, 3)]), range(4), (), frozenset({(2, 0)}))
    assert pairs(found) == [(2, 0), (2, 1), (2, 3)]


def test_a_node_alone_has_no_edge():
    bucket = bucket_of(a=base(18), b=base(19))
    assert rooted(bucket, Tree(2), [0, 1], ()) == []


def test_the_model_with_more_tokens_is_the_child():
    parent = base(20)
    bucket = bucket_of(a=parent, b=tuned(parent, 21))
    assert pairs(directed(bucket, [(0, 1)])) == [(0, 1)]
    longer = replace(bucket, rows=(bucket.rows[0] + 8, bucket.rows[1]))
    assert pairs(directed(longer, [(0, 1)])) == [(1, 0)]


def test_a_latent_parent_is_above_its_children():
    parent = base(22)
    bucket = bucket_of(a=tuned(parent, 23), b=tuned(parent, 24), c=tuned(parent, 25))
    found = directed(bucket, [(0, 3), (1, 3), (2, 3)], latent={3: dict.fromkeys(range(3), 1.0)})
    assert pairs(found) == [(3, 0), (3, 1), (3, 2)]
    assert {edge.statistic for edge in found} == {0.0}


def test_what_hangs_on_a_merge_descends_from_it():
    parent = base(26)
    bucket = bucket_of(a=tuned(parent, 27), b=parent)
    tree = Tree(2, [(0, 1)])
    assert pairs(rooted(bucket, tree, [0, 1], ())) == [(1, 0)]
    assert pairs(rooted(bucket, tree, [0, 1], {0})) == [(0, 1)]
