"""What the catalog knows of models that somebody wants to merge."""

import pytest
from sketched import family, join

from registry.case import load
from registry.errors import UnknownModel


@pytest.fixture(scope="module")
def known(tmp_path_factory, _empty_catalog):
    """A base with two children, a stranger that claims it, and a turned copy."""
    catalog = family(tmp_path_factory.mktemp("case"), _empty_catalog)
    join(catalog, ("a", "base"), ("b", "base"))
    join(catalog, ("turned", "a"), relation="permuted")
    return catalog


def test_the_nearest_common_base_is_found_and_pairs_are_compared(known):
    case = load(known, ["a", "b"], None)
    assert (case.base, case.refuted) == ("base", "")
    assert case.sketched.keys() == {"base", "a", "b"}
    (pair,) = case.pairs
    assert pair.distance == pytest.approx(0.05, rel=0.1)
    assert case.name("a") == "a"


def test_a_base_that_the_weights_refute_is_none(known):
    case = load(known, ["liar", "twin"], None)
    assert (case.base, case.refuted) == (None, "base")
    assert load(known, ["liar", "twin"], "base").base == "base", (
        "who names a base is taken at his word"
    )


def test_strangers_are_told_from_kin_and_from_turned_ones(known):
    case = load(known, ["a", "liar", "turned"], "base")
    found = {(pair.a, pair.b): pair.closeness for pair in case.pairs}
    assert case.strange(found["a", "liar"], "a", "liar")
    assert not case.strange(found["a", "turned"], "a", "turned")
    assert case.refutes("liar", "base")
    assert not case.refutes("a", "base")
    assert not case.refutes("bare", "base"), "nothing is known of it"


def test_latent_models_are_not_shown(known):
    case = load(known, ["a", "b"], None)
    assert len(case.shown) == 3


def test_an_id_that_is_not_there_has_no_case(known):
    with pytest.raises(UnknownModel):
        load(known, ["a", "nobody"], None)
