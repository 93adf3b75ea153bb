"""Claims: small voices, that Bayes' rule weighs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.descent.claims import LOG_ODDS, SILENT, contested, doubted, nearer, placed, said, upheld


def test_claims_of_ancestors_speak_for_a_tree_and_others_do_not_speak():
    chain = [(0, 1), (1, 2)]
    assert said(frozenset({(1, 0), (2, 0)}), chain) == 2 * LOG_ODDS > 0
    assert said(frozenset({(0, 1), (2, 3)}), chain) == 0
    assert said(frozenset({(0, 1)}), [(1, 0), (1, 2)]) == LOG_ODDS
    assert said(SILENT, chain) == 0


def test_a_claim_makes_two_models_a_little_nearer():
    costs = np.arange(9.0).reshape(3, 3)
    costs += costs.T
    near = nearer(costs, frozenset({(2, 0)}))
    assert near[0, 2] == near[2, 0] == pytest.approx(costs[0, 2] - 0.05)
    assert (near != costs).sum() == 2
    assert nearer(costs, SILENT) is costs


def test_claims_about_others_and_of_a_model_about_itself_are_left_out():
    known = {"a": 0, "b": 1, "copy of b": 1}
    claims = [("b", "a"), ("copy of b", "a"), ("copy of b", "b"), ("b", "z"), ("z", "a")]
    assert placed(claims, known) == {(1, 0)}


EDGES = [(1, 0), (2, 1), (3, 1), (4, 2), (4, 3)]


@pytest.mark.parametrize(
    ("claims", "children"),
    [
        ({(1, 0), (4, 2)}, set()),  # parents
        ({(2, 0), (4, 0)}, set()),  # ancestors
        ({(4, 3), (4, 5)}, set()),  # one of several is enough
        ({(2, 3), (1, 4)}, {1, 2}),
        ({(0, 4)}, set()),  # there is no edge to contest
    ],
)
def test_an_edge_is_contested_when_no_claimed_parent_is_above(claims, children):
    assert contested(EDGES, frozenset(claims)) == children


@settings(max_examples=25)
@given(st.floats(0.01, 0.99))
def test_a_doubted_edge_is_likelier_wrong_than_before_and_never_both_right(confidence):
    left = doubted(confidence)
    assert 0 < left < confidence
    odds = confidence / (1 - confidence)
    assert left / (1 - left) == pytest.approx(odds / 5)
    assert 0 < upheld(left) <= 1 - left
