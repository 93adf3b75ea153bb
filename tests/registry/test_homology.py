"""A common history, and one basis."""

import pytest
from sketched import family, join

from registry.case import load
from registry.homology import alignment, homology


@pytest.fixture(scope="module")
def known(tmp_path_factory, _empty_catalog):
    """A base with two children, strangers that claim it, and a turned copy."""
    catalog = family(tmp_path_factory.mktemp("homology"), _empty_catalog)
    join(catalog, ("turned", "b"), relation="permuted")
    return catalog


def said(catalog, *models, base=None):
    found = homology(load(catalog, models, base))
    return found.ok, found.detail


def test_sketches_stand_for_claims_that_nobody_makes(known):
    assert said(known, "a", "b") == (
        True,
        "no base is declared, but weights are close: cosine 0.997 (sampled)",
    )
    assert said(known, "a", "b", base="base") == (True, "common base base (sampled)")


def test_strangers_are_refused_whatever_they_claim(known):
    ok, detail = said(known, "liar", "base")
    assert ok is False
    assert detail.startswith("the weights of liar and base point apart: cosine ")
    ok, detail = said(known, "a", "liar")
    assert ok is False
    assert "the weights of a and liar point apart" in detail


def test_models_with_a_false_base_are_homologous_by_their_weights(known):
    ok, detail = said(known, "liar", "twin")
    assert ok is True
    assert detail.startswith("the weights refute that their base is base, but weights are close")


def test_claims_are_believed_where_nothing_else_is_known(known):
    assert said(known, "bare", "liar", base="base")[0] is True
    assert said(known, "bare", "a") == (False, "no common base is declared, recorded or measured")


def test_turned_models_are_one_network_and_not_aligned(known):
    case = load(known, ["b", "turned"], None)
    assert homology(case).ok is True
    (reason,) = alignment(case)
    assert reason.ok is False
    assert "b and turned are one network in two bases" in reason.detail
    assert alignment(load(known, ["a", "b"], None)) == []
