"""Which models to merge one with."""

import shutil
from pathlib import Path

import pytest
from sketched import drawn, join, put, scored

from registry.candidates import _better, candidates
from registry.catalog import Catalog
from registry.errors import UnknownModel

CHILDREN = {
    "near": (1, 0.03),
    "far": (2, 0.3),
    "model": (3, 0.03),
    "sibling": (4, 0.03),
}


@pytest.fixture(scope="module")
def known(tmp_path_factory, _empty_catalog):
    """A base with children near and far, one that repeats the model, and those that cannot be merged with it."""
    catalog = Catalog(tmp_path_factory.mktemp("candidates") / "c.duckdb")
    catalog.path.write_bytes(_empty_catalog)
    base = drawn(0)
    put(catalog, {"base": base, **{name: base + drawn(*step) for name, step in CHILDREN.items()}})
    put(catalog, {"same": base + 1.01 * drawn(*CHILDREN["model"]), "bare": None})
    put(catalog, {"liar": drawn(9), "stranger": drawn(10)})
    put(catalog, {"wide": None}, signature="other")
    put(catalog, {"codes": None}, dtype="I8")
    put(catalog, {"gone": None}, status="latent")
    put(catalog, {"adapter": None}, kind="adapter")
    join(catalog, *((name, "base") for name in (*CHILDREN, "same")))
    for name in ("bare", "liar", "wide", "codes", "gone", "adapter"):
        join(catalog, (name, "base"), status="declared")
    return catalog


@pytest.fixture(scope="module")
def ranked(known):
    """The candidates of the model."""
    return candidates(known, "model")


def names(found, *, ok=True):
    return [c.model for c in found.ranked if c.ok is ok]


def detail(candidate, check):
    return next(r.detail for r in candidate.reasons if r.check == check)


def test_what_lies_near_and_brings_something_new_comes_first(ranked):
    assert set(names(ranked)[:2]) == {"near", "sibling"}
    assert names(ranked)[2:] == ["same", "base", "bare", "far"]
    assert all(0 < c.score <= 1 for c in ranked.ranked if c.ok)
    assert [c.score for c in ranked.ranked] == sorted(
        (c.score for c in ranked.ranked), reverse=True
    )
    by_name = {c.model: c for c in ranked.ranked}
    assert "of what it learned is new" in detail(by_name["near"], "new")
    assert detail(by_name["base"], "new") == "0% of what it learned is new"
    assert by_name["bare"].score == pytest.approx(0.375), (
        "half a chance, and half of what it could bring"
    )


def test_what_cannot_be_merged_comes_last_and_says_why(ranked):
    assert names(ranked, ok=False) == ["liar"]
    assert ranked.ranked[-1].score == 0
    assert "point apart" in detail(ranked.ranked[-1], "homologous")


def test_strangers_other_shapes_codes_adapters_and_latent_models_are_no_candidates(ranked):
    assert {c.model for c in ranked.ranked}.isdisjoint(
        {"stranger", "wide", "codes", "gone", "adapter", "model"}
    )
    assert (ranked.n_kin, ranked.n_unlike, ranked.n_unsketched) == (9, 2, 1)


@pytest.fixture
def copied(known, tmp_path):
    """The same in a catalog of one's own."""
    return Catalog(Path(shutil.copy(known.path, tmp_path)))


def test_better_scores_bring_a_candidate_forward(copied):
    scored(copied, "model", maths=0.2, prose=2.0, poems=0.5)
    scored(copied, "near", maths=0.8, prose=2.5)
    scored(copied, "sibling", maths=0.1, prose=1.0, poems=0.5)
    first = candidates(copied, "model").ranked[0]
    assert first.model == "near"
    assert detail(first, "scores") == "better at maths 0.8 against 0.2"
    only = candidates(copied, "model", tasks=["prose"])
    assert only.ranked[0].model == "sibling"
    assert detail(only.ranked[0], "scores") == "better at prose 1 against 2"
    near = next(c for c in only.ranked if c.model == "near")
    assert detail(near, "scores") == "better at nothing both were scored at"


def test_the_limit_is_kept_and_refused_ones_make_room(known):
    assert len(candidates(known, "model", limit=2).ranked) == 2
    assert names(candidates(known, "liar", limit=1)) == []
    assert len(candidates(known, "liar", limit=2).ranked) == 2


def test_a_base_finds_its_children_new(known):
    found = candidates(known, "base", limit=3)
    assert {detail(c, "new") for c in found.ranked} == {"100% of what it learned is new"}


def test_who_has_no_kin_has_no_candidates(known):
    found = candidates(known, "stranger")
    assert (found.ranked, found.n_kin) == ((), 0)
    assert candidates(known, "adapter").ranked == ()


def test_an_id_that_is_not_there_is_said(known):
    with pytest.raises(UnknownModel):
        candidates(known, "nobody")


def test_less_is_better_of_losses_alone():
    assert _better("acc,none", 0.2, 0.8) == pytest.approx(0.75)
    assert _better("acc,none", 0.8, 0.2) == 0
    assert _better("word_perplexity,none", 20, 10) == pytest.approx(0.5)
    assert _better("exact_match_answer", 0.1, 0.2) == pytest.approx(0.5), (
        "an answer is no error rate"
    )
    assert _better("acc", 0, 0) == 0


def test_of_too_many_only_the_first_are_compared(known, monkeypatch):
    monkeypatch.setattr("registry.candidates.MOST", 2)
    found = candidates(known, "model", limit=1)
    assert found.n_kin - found.n_unlike - found.n_unsketched == 1, (
        "bare has no sketch, base has one"
    )
