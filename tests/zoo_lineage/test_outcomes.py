"""What becomes of merged pairs, and what was said of them before."""

import pytest
from zoo_lineage.ability import accuracy, tasks, weights
from zoo_lineage.couples import SORTS, Member, couples, members
from zoo_lineage.family import Pace
from zoo_lineage.make import make
from zoo_lineage.mergeability import Outcome, auroc, document, gain
from zoo_lineage.network import Shape, new_model, state_of
from zoo_lineage.outcomes import outcomes
from zoo_lineage.plan import (
    BASE,
    Family,
    Node,
    Taste,
    linear_merges,
    parents,
    strangers,
    tree,
    tune,
)
from zoo_lineage.splits import families

SHAPE = Shape("mlp", width=64, depth=2)
SMALL = Family("mlp-small", SHAPE, (BASE, *parents()), 5)
OTHER = Family("mlp-other", SHAPE, (BASE, *parents()[:1]), 6, missing=True)
PACE = Pace(base=200, tune=30)


def outcome(family="f", score=0.5, good=True, same_base=False):
    return Outcome("dev", family, ("a", "b"), "siblings", 1.0, good, score, same_base, False, True)


def test_the_auroc_is_the_chance_that_a_good_pair_scores_higher():
    assert auroc([0.9, 0.8, 0.1], [True, True, False]) == 1
    assert auroc([0.1, 0.9], [True, False]) == 0
    assert auroc([1, 1, 0, 0], [True, False, True, False]) == 0.5
    assert auroc([0.3], [True]) == 0.5


def test_a_gain_has_an_interval_over_families_around_it():
    found = [
        outcome(f"f{i}", score=0.9 if good else 0.2, good=good, same_base=good == (i % 3 > 0))
        for i in range(9) for good in (True, False)
    ]  # fmt: skip
    more, low, high = gain(found, "the verdict's score", "same declared base model")
    assert more == pytest.approx(1 / 3)
    assert low < more < high


def test_a_page_has_the_figures_of_each_split_and_sort():
    page = document([outcome(good=True, score=0.9), outcome(good=False, score=0.1)], SORTS)
    assert "## dev: 2 pairs, 1 of them mergeable" in page
    assert "| the verdict's score | 1.000 |" in page
    assert "| siblings | 2 | 0.50 | 0.50 | 0.00 |" in page


def test_what_a_model_can_do_follows_from_what_made_it():
    nodes = (BASE, *parents(), *linear_merges(Taste()), *tree()[-4:-3], *strangers()[1:])
    family = Family(
        "mlp",
        SHAPE,
        (*nodes, Node("p", "permuted", ("a",), "permuted", turned=True), tune("aa", "a", 4)),
        1,
    )
    can = {node.name: tasks(family, node.name) for node in family.nodes if node.name != "cpt_a"}
    assert can["base"] == can["student"] == ("digits",)
    assert (can["a"], can["p"], can["aa"]) == (("swap01",), ("swap01",), ("swap89",))
    assert can["average"] == ("swap01", "swap23", "swap45")
    assert set(can["merge_trained"]) == {"swap01", "swap45", "swap89"}


def test_couples_are_of_every_sort_and_every_member_is_there():
    chosen = families("dev")
    found = couples(chosen)
    assert {c.sort for c in found} == set(SORTS)
    assert len(found) >= 100
    assert found == couples(chosen)
    kinds = {m.node.kind for c in found for m in (c.a, c.b)}
    assert kinds.isdisjoint({"random", "copy", "pruned", "frankenmerge", "vocab_extended"})
    assert not any(m.node.name == "base" for f in chosen if f.missing for m in members(f))


def test_siblings_are_told_from_strangers_and_what_was_trained_from_what_was_not(tmp_path):
    make(tmp_path, "dev", [SMALL, OTHER], pace=PACE)
    base = weights(tmp_path / "dev" / "models" / Member(SMALL, BASE).folder("dev"))
    assert (
        accuracy(SHAPE, base, ("digits",))
        > 0.25
        > accuracy(SHAPE, state_of(new_model(SHAPE)), ("digits",))
    )
    found = outcomes(tmp_path, "dev", [SMALL, OTHER], limit=9)
    kin = [o for o in found if o.sort != "strangers"]
    far = [o for o in found if o.sort == "strangers"]
    assert kin
    assert far
    assert all(o.score > 0.5 and o.homologous for o in kin)
    assert all(o.score == 0 and not o.homologous for o in far)
    assert any(o.good for o in kin)
