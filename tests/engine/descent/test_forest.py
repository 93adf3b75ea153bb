"""Forests: everything at once, over names, depths, bases and architectures."""

from dataclasses import replace

import numpy as np
import pytest
from descent_trees import (
    base,
    edges,
    permuted,
    rounded,
    saved,
    sketched,
    stacked_as,
    summed,
    taken,
    tuned,
)  # fmt: skip

from engine.descent.forest import forest


@pytest.fixture(scope="module")
def models():
    b = base(1)
    one, two = tuned(b, 2), tuned(b, 3)
    return {"b": b, "one": one, "two": two, "grand": tuned(one, 4), "stranger": base(5)}


TRUE = [("grand", "one", "finetune"), ("one", "b", "finetune"), ("two", "b", "finetune")]


def sketches(models):
    return [sketched(name, model) for name, model in models.items()]


def test_a_family_and_a_stranger(models):
    found = forest(sketches(models))
    assert edges(found) == TRUE
    assert found.latent == []
    assert found.unaligned == []
    assert all(0.5 < edge.confidence <= 1 for edge in found.edges)


@pytest.mark.parametrize("seed", range(2))
def test_the_order_of_the_models_decides_nothing(models, seed):
    models = models | {"merge": summed((0.3, models["one"]), (0.7, models["two"]))}
    given = sketches(models)
    first = forest(given)
    order = np.random.default_rng(seed).permutation(len(given))
    assert forest([given[i] for i in order]) == first
    assert ("merge", "two", "merge") in edges(first)


@pytest.mark.parametrize("ids", ["abcde", "edcba", "badce", "caebd"])
def test_the_ids_of_the_models_decide_nothing(models, ids):
    halved = {name: old.astype("f2").astype("f4") for name, old in models["one"].items()}
    family = models | {"one": halved, "grand": tuned(halved, 4), "half": halved}
    del family["stranger"]
    called = dict(zip(ids, family, strict=True))
    given = [
        sketched(id_, family[name], dtype="F16" if name == "half" else "BF16")
        for id_, name in called.items()
    ]
    found = [(called[e.child], called[e.parent], e.kind.name) for e in forest(given).edges]
    assert sorted(found) == sorted([*TRUE, ("half", "one", "cast")])


def test_nothing_has_no_edges(models):
    assert edges(forest([])) == []
    assert edges(forest(sketches(models)[:1])) == []


def test_a_missing_base_is_latent(models):
    b = models["b"]
    siblings = {f"m{seed}": tuned(b, seed) for seed in (10, 11, 12, 13)}
    found = forest(sketches(siblings))
    (latent,) = found.latent
    assert latent.startswith("latent:")
    assert edges(found) == [(name, latent, "finetune") for name in siblings]


def test_copies_and_casts_are_told(models):
    rng = np.random.default_rng(6)
    wide = {n: rng.normal(0, 0.05, old.shape).astype("f4") for n, old in models["b"].items()}
    narrow = {name: rounded(old) for name, old in wide.items()}
    twins = [sketched("twin", models["one"]), sketched("narrow", narrow)]
    found = forest([*sketches(models), *twins, sketched("wide", wide, dtype="F32")])
    assert edges(found) == sorted([*TRUE, ("twin", "one", "copy"), ("narrow", "wide", "cast")])


def test_a_copy_under_other_names_is_found(models):
    renamed = {
        name.replace("model.layers", "transformer.h").replace("_proj", "_map"): old
        for name, old in models["two"].items()
    }
    found = forest([*sketches(models), sketched("renamed", renamed)])
    assert edges(found) == sorted([*TRUE, ("renamed", "two", "copy")])


def test_a_deeper_stack_hangs_on_what_it_was_stacked_of(models):
    deep = stacked_as(models["one"], [0, 1, 0, 1])
    found = forest([*sketches(models), sketched("deep", deep)])
    assert edges(found) == sorted([*TRUE, ("deep", "one", "frankenmerge")])
    (edge,) = (e for e in found.edges if e.child == "deep")
    assert edge.kind.value == 1.0
    assert "0, 1, 0, 1" in edge.kind.detail


def test_two_architectures_make_two_trees(models):
    wide = base(7, width=40)
    others = {"wide": wide, "wider": tuned(wide, 8)}
    found = forest(sketches(models | others))
    assert edges(found) == sorted([*TRUE, ("wider", "wide", "finetune")])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_that_is_not_finite_is_left_out(models, value):
    given = sketches(models)
    broken = given[2].values.copy()
    broken[17] = value
    with np.errstate(all="raise", under="ignore"):
        found = forest([*given, replace(given[2], model="broken", held=broken)])
    assert edges(found) == TRUE


def test_a_network_in_another_basis_is_unaligned_and_permuted(models, tmp_path):
    turned = models | {"turned": permuted(models["two"], 9)}
    given = [taken(saved(tmp_path / name, model)) for name, model in turned.items()]
    found = forest(given)
    ((one, other, apart),) = found.unaligned
    assert (one, other) == ("turned", "two")
    assert apart < 0.01
    assert edges(found) == sorted([*TRUE, ("turned", "two", "permuted")])


def test_components_that_are_known_are_taken_and_only_others_are_inferred(models):
    given = sketches(models)
    first = forest(given)
    assert forest(given, known=first.components) == first
    told = {key: replace(part, edges=part.edges[:1]) for key, part in first.components.items()}
    assert edges(forest(given, known=told)) == TRUE[:1]  # as it was told
    more = [*given, sketched("late", tuned(models["two"], 6)), sketched("other", base(7))]
    assert forest(more, known=first.components) == forest(more)
    assert forest(more[1:], known=first.components) == forest(more[1:])
    kept = forest(more, known=first.components).components.keys() & first.components.keys()
    assert len(kept) == 1  # the stranger's


def test_a_model_that_gave_another_its_names_and_went_leaves_nothing_behind():
    shapes = {"embed.weight": (200, 24)} | {f"layers.{i}.up.weight": (24, 24) for i in range(6)}

    def drawn(seed):
        rng = np.random.default_rng(seed)
        return {name: rounded(rng.normal(0, 0.05, shape)) for name, shape in shapes.items()}

    parent = drawn(1)
    called = {f"t{i}": values for i, values in enumerate(tuned(parent, 2).values())}
    both = [sketched("parent", parent), sketched("same", called)]
    for seed in range(
        3, 8
    ):  # of two layers it has no likeness, and which of them is which is chance
        giver = drawn(seed) | {f"layers.{i}.up.weight": parent[f"layers.{i}.up.weight"] for i in range(4)}  # fmt: skip
        before = forest([sketched("giver", giver), *both])
        assert [(e.child, e.parent) for e in before.edges] == [("same", "parent")]
        assert forest(both, (), before.components, before.clans).edges == forest(both).edges
