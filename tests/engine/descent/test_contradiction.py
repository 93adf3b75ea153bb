"""Contradictions: claims that what was inferred speaks against."""

import pytest

from engine.descent.contradiction import STRANGERS, contradictions
from engine.descent.forest import Descent, Forest
from engine.descent.kind import Kind


def edge(child, parent, kind="finetune", confidence=0.95, role="parent"):
    return Descent(child, parent, Kind(kind, "", 0.0, ""), None, role, confidence)


FOUND = Forest([
    edge("mid", "base"), edge("leaf", "mid"), edge("side", "base"), edge("copied", "mid", "copy"),
    edge("merge", "mid", "merge", role="model"), edge("merge", "side", "merge", role="model"),
    edge("turned", "side", "permuted"), edge("unsure", "base", confidence=0.5),
], unsound=["broken"])  # fmt: skip
MODELS = ["base", "mid", "leaf", "side", "copied", "merge", "turned", "unsure", "alone", "broken"]


def held(*claims, joined=False):
    return contradictions(claims, MODELS, FOUND, joined=joined)


@pytest.mark.parametrize(
    ("child", "parent"),
    [
        ("mid", "base"),  # shown
        ("leaf", "base"),  # an ancestor
        ("leaf", "copied"),  # a copy of the parent
        ("copied", "mid"),
        ("mid", "copied"),
        ("merge", "mid"),
        ("turned", "mid"),  # in another basis there is no direction
        ("unsure", "side"),  # the claim is likelier than the edge
        ("leaf", "unknown"),  # nobody looked at it
        ("broken", "base"),
        ("leaf", "broken"),
    ],
)
def test_these_are_no_contradictions(child, parent):
    assert held((child, parent)) == []


def test_strangers_are_refuted_whatever_the_edges_say():
    (one,) = held(("alone", "base"))
    assert (one.strangers, one.probability) == (True, STRANGERS)
    (other,) = held(("leaf", "alone"))
    assert other.strangers
    assert held(("merge", "mid"), ("merge", "alone")) == [
        other.__class__("merge", "alone", STRANGERS, strangers=True, detail=other.detail)
    ]


@pytest.mark.parametrize("joined", [False, True])
def test_another_parent_contradicts_and_so_does_the_reverse(joined):
    (other,) = held(("leaf", "side"), joined=joined)
    assert not other.strangers
    assert other.detail == "the weights show another parent"
    (reverse,) = held(("base", "leaf"), joined=joined)
    assert reverse.detail == "the weights show the reverse"
    assert 0 < other.probability < 0.5


def test_a_confidence_that_knows_of_the_claim_is_not_doubted_again():
    assert held(("leaf", "side"), joined=True)[0].probability == pytest.approx(0.04)
    assert held(("leaf", "side"))[0].probability == pytest.approx(0.8 * 0.25 / 1.2)


def test_of_several_claimed_parents_one_is_enough():
    assert held(("leaf", "mid"), ("leaf", "side")) == []
