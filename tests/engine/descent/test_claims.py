"""Claims: small voices, that Bayes' rule weighs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.descent.claims import LOG_ODDS, SILENT, contested, doubted, placed, said, upheld

places = st.integers(0, 5)
pairs = st.frozensets(st.tuples(places, places).filter(lambda pair: pair[0] != pair[1]))


@settings(max_examples=25)
@given(pairs, places, places)
def test_swapping_the_ends_turns_the_sign(claims, a, b):
    assert said(claims, a, b) == -said(claims, b, a)
    assert abs(said(claims, a, b)) in (0.0, LOG_ODDS)


def test_a_claim_speaks_for_its_parent():
    claims = frozenset({(1, 0)})
    assert said(claims, 0, 1) == LOG_ODDS > 0
    assert said(claims, 1, 2) == said(SILENT, 0, 1) == 0


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
