"""Margins: the next best edge over the same cut."""

import math

import numpy as np
import pytest
from descent_patches import sketch_of

from engine.descent.bucket import gather
from engine.descent.margin import certainty, margins
from engine.descent.tree import Tree


def line(*places):
    """Models of one row, so far from each other."""
    row = np.zeros((1, 8), np.float32)
    return gather([sketch_of({"w": row + p + 1}, str(i)) for i, p in enumerate(places)])


def test_the_next_best_edge_over_the_cut_is_taken():
    bucket = line(0.0, 0.1, 0.9)
    costs = bucket.costs
    found = margins(bucket, Tree(3, [(0, 1), (1, 2)]))
    assert found[1, 2] == pytest.approx((costs[0, 2] - costs[1, 2]) / costs[1, 2])
    assert found[0, 1] == pytest.approx((costs[0, 2] - costs[0, 1]) / costs[0, 1])


def test_a_pair_has_no_other_edge():
    assert margins(line(0.0, 1.0), Tree(2, [(0, 1)])) == {(0, 1): float("inf")}


def test_an_edge_that_costs_nothing_is_as_sure_as_any():
    found = margins(line(0.0, 0.0, 1.0), Tree(3, [(0, 1), (1, 2)]))
    assert math.isfinite(found[0, 1])
    assert certainty(found[0, 1]) == certainty(5.0)


def test_of_edges_that_cost_nothing_none_is_sure():
    found = margins(line(0.0, 0.0, 0.0), Tree(3, [(0, 1), (1, 2)]))
    assert found == {(0, 1): 0, (1, 2): 0}


def test_edges_to_latent_parents_have_none():
    assert margins(line(0.0, 1.0), Tree(2, [(0, 2), (1, 2)])) == {}


def test_what_hangs_under_a_merge_could_go_anywhere():
    bucket = line(0.0, 0.1, 0.5, 0.9)  # the merge is the third, the last hangs under it
    tree = Tree(4, [(0, 1), (2, 3)])
    costs = bucket.costs
    found = margins(bucket, tree, [0, 1, 3], [2])
    assert found[2, 3] == pytest.approx((costs[1, 3] - costs[2, 3]) / costs[2, 3])
    assert found[0, 1] == float("inf")  # it holds no merge, and there is no other
    nearer = line(0.0, 0.8, 0.5, 0.9)
    found = margins(nearer, Tree(4, [(2, 3)]), [0, 1, 3], [2])
    assert found[2, 3] < 0
    assert certainty(found[2, 3]) == certainty(0.0)


def test_a_larger_margin_is_more_certain():
    shares = [certainty(m) for m in (0.0, 0.001, 0.01, 0.05, 0.2, 5.0)]
    assert shares == sorted(shares)
    assert 0.5 < shares[0] < 0.8
    assert 0.9 < shares[-1] < 1
    assert all(0.5 < certainty(m) < 1 for m in (None, float("inf")))
