"""Replays: recipes of masked merges, made here in numpy or by the engine, are found again; of what was drawn, how often."""

import shutil

import numpy as np
import pytest
from descent_trees import base, rounded, saved, tuned

import homolog
from engine.descent.certify import certified
from engine.descent.component import Descent
from engine.descent.kind import Kind
from engine.descent.replay import Merge, recipes, replayed
from engine.descent.slab import shared
from engine.descent.trace import Trace
from engine.reader import Reader
from registry.scan import scan

GUESSED = Kind("merge", "explained_share", 0.9, "said")
B, ONE, TWO = (base(1), tuned(base(1), 2), tuned(base(1), 3))
DELTAS = [{name: m[name].astype(np.float64) - B[name] for name in B} for m in (ONE, TWO)]


def on_base(delta):
    return {name: rounded(B[name] + delta[name]) for name in B}


def trimmed(delta, density, *, whole):
    """The largest entries of each tensor, or of the whole model; of equal ones all."""
    every = np.concatenate([np.abs(values).ravel() for values in delta.values()])
    made = {}
    for name, values in delta.items():
        sizes = np.sort(every if whole else np.abs(values).ravel())[::-1]
        limit = sizes[max(1, int(density * len(sizes))) - 1]
        made[name] = values * (np.abs(values) >= limit)
    return made


def ties(density, scale=1.0, weights=(1.0, 1.0), *, whole=False, mean=True):
    kept = np.broadcast_to(density, 2)
    parts = [trimmed(d, p, whole=whole) for d, p in zip(DELTAS, kept, strict=True)]
    made = {}
    for name in B:
        terms = np.stack([w * part[name] for w, part in zip(weights, parts, strict=True)])
        agree = (np.sign(terms) == np.sign(terms.sum(0))) & (terms != 0)
        total = (terms * agree).sum(0)
        each = np.reshape(weights, (-1, *[1] * B[name].ndim))
        made[name] = scale * total / (np.maximum((each * agree).sum(0), 1e-30) if mean else 1)
    return on_base(made)


def breadcrumbs(density, top, weight):
    made = {}
    for name in B:
        made[name] = np.zeros(B[name].shape)
        for delta in DELTAS:
            sizes = np.abs(delta[name]).ravel()
            order = np.argsort(-sizes, kind="stable")
            first = int(top * len(order))
            kept = np.zeros(len(order))
            kept[order[first : first + int(density * len(order))]] = 1
            made[name] += weight * delta[name] * kept.reshape(B[name].shape)
    return on_base(made)


def dare(densities, weights):
    rng = np.random.default_rng(5)
    terms = list(zip(densities, weights, DELTAS, strict=True))
    return on_base({
        name: sum(w * delta[name] * (rng.random(B[name].shape) < p) / p for p, w, delta in terms)
        for name in B
    })  # fmt: skip


@pytest.fixture
def judged(tmp_path, catalog):
    """What all entries tell of a merge of one and two on b; scales are about those of its parents."""

    def judge(child, scales, **others):
        models = {"b": B, "one": ONE, "two": TWO, "child": child} | others
        for name, model in models.items():
            saved(tmp_path / "models" / name, model)
        scan(catalog, [str(tmp_path / "models")])
        return found(catalog, scales)

    return judge


def ids_of(catalog):
    return {row["name"]: row["id"] for row in catalog.rows("select id, name from models")}


def found(catalog, scales):
    ids = ids_of(catalog)
    parts = [catalog.checkpoint(ids[name]) for name in ("child", "b", "one", "two")]
    merge = Merge(ids["child"], ids["b"], (ids["one"], ids["two"]), scales)
    with Reader() as reader:
        return replayed(catalog, reader, shared(parts[0], parts[1:]), merge, GUESSED)


@pytest.mark.parametrize(
    ("child", "scales", "said"),
    [
        (ties(0.2), (1.0, 1.0), "ties with density 0.2, weight 1, scope tensor, normalize true, lambda 1"),
        (ties(0.2, whole=True), (1.0, 1.0), "ties with density 0.2, weight 1, scope model, normalize true, lambda 1"),
        (ties(0.55, 0.8, whole=True), (0.79, 0.81), "ties with density 0.55, weight 1, scope model, normalize true, lambda 0.8"),
        (ties(0.3, 1.0, (0.7, 0.3)), (1.0, 1.0), "ties with density 0.3, weight 0.7/0.3, scope tensor, normalize true, lambda 1"),
        (ties(0.3, 1.0, (0.5, 0.5), mean=False), (0.5, 0.5), "ties with density 0.3, weight 0.5, scope tensor, normalize false, lambda 1"),
        (ties(0.3, 1.0, (0.8, 0.4), mean=False), (0.8, 0.4), "ties with density 0.3, weight 0.8/0.4, scope tensor, normalize false, lambda 1"),
        (ties((0.5, 0.2)), (1.0, 1.0), "ties with density 0.5/0.2, weight 1, scope tensor, normalize true, lambda 1"),
        (breadcrumbs(0.7, 0.05, 0.6), (0.6, 0.6), "breadcrumbs with density 0.7, weight 0.6, gamma 0.05"),
    ],
    ids=["tensor", "model", "scaled", "weighted", "summed", "unevenly summed", "uneven", "breadcrumbs"],
)  # fmt: skip
def test_a_recipe_that_chooses_by_size_is_found(child, scales, said, judged):
    kind = judged(child, scales)
    uneven = " (of one, two)" if "/" in said else ""
    assert kind.detail.startswith(f"{said}{uneven}, done again, makes ")
    assert (kind.name, kind.statistic) == ("merge", "match")
    assert 0.97 <= kind.value <= 1


@pytest.mark.parametrize(
    ("method", "parameters", "seed", "scales", "said"),
    [
        ("dare_linear", {"density": 0.4, "weight": 0.5}, 0, (1.25, 1.25), "density 0.4, weight 0.5, seed 0"),
        ("dare_linear", {"density": 0.4, "weight": 1 / 3}, 0, (0.83, 0.83), "density 0.4, weight 0.333333, seed 0"),
        ("dare_linear", {"density": 0.8, "weight": 0.4}, 42, (0.5, 0.5), "density 0.8, weight 0.4, seed 42"),
        ("dare_ties", {"density": 0.6}, 0, (1.667, 1.667), "density 0.6, weight 1, seed 0"),
        ("ties", {"density": 0.4}, 0, (1.0, 1.0), "density 0.4, weight 1, scope model, normalize true, lambda 1"),
    ],
)  # fmt: skip
def test_our_own_merges_are_made_again_to_the_byte(
    method, parameters, seed, scales, said, judged, tmp_path, catalog
):
    for name, model in {"b": B, "one": ONE, "two": TWO}.items():
        saved(tmp_path / "models" / name, model)
    scan(catalog, [str(tmp_path / "models")])
    recipe = homolog.Recipe(
        method, (homolog.Part("one"), homolog.Part("two")), "b", parameters, seed=seed
    )
    options = homolog.Options(allow_unrelated=True)
    homolog.merge(catalog, recipe, tmp_path / "child", options=options)
    kind = found(catalog, scales)
    assert kind.detail.startswith(f"{method} with {said}, done again, makes 100.000%")
    assert kind.value == 1


def test_of_masks_that_others_drew_it_is_told_how_often_they_kept(judged):
    kind = judged(dare((0.3, 0.6), (0.6, 0.4)), (2.0, 0.67))
    assert kind.statistic == "explained_share"
    assert kind.value > 0.99
    share = [
        int(text.rstrip("%")) for text in kind.detail.split("of each parent ")[1][:7].split("/")
    ]
    assert share == pytest.approx([30, 60], abs=2)


def test_a_recipe_that_the_engine_refuses_makes_nothing(judged):
    more = ONE | {"model.extra.weight": np.ones((4, 4), np.float32)}
    assert judged(ties(0.2), (1.0, 1.0), one=more) is None


def test_a_parent_that_was_subtracted_has_no_density_below_0(judged):
    kind = judged(dare((0.5, 0.5), (-0.5, 0.5)), (-1.0, 1.0))
    assert kind.statistic == "explained_share"
    assert kind.value > 0.99


def test_what_only_some_tensors_show_is_no_recipe(judged, monkeypatch):
    monkeypatch.setattr("engine.descent.replay._GLANCE", 1)
    made, (first, *_) = ties(0.2), [name for name in sorted(B) if B[name].ndim > 1]
    rng = np.random.default_rng(9)
    child = {
        name: v if name == first or v.ndim < 2 else rounded(v + rng.normal(0, 0.004, v.shape) * (rng.random(v.shape) < 0.2))
        for name, v in made.items()
    }  # fmt: skip
    assert judged(child, (1.0, 1.0)) is None


def test_what_was_trained_on_is_none_of_them(judged):
    rng = np.random.default_rng(9)
    child = {
        name: rounded(v + rng.normal(0, 0.004, v.shape)) for name, v in ties(0.2).items()
    }  # fmt: skip
    assert judged(child, (1.0, 1.0)) is None


def test_a_recipe_of_another_scale_is_not_found(judged):
    assert judged(ties(0.2), (0.5, 0.5)) is None


def test_edges_say_the_recipe_and_stay_as_sure(judged, tmp_path, catalog):
    judged(ties(0.2), (1.0, 1.0))
    ids = ids_of(catalog)
    edges = [
        Descent(ids["child"], ids["two"], GUESSED, 1.0, "model", 0.97),
        Descent(ids["child"], ids["b"], GUESSED, None, "base", 0.97),
        Descent(ids["child"], ids["one"], GUESSED, 1.0, "model", 0.97),
    ]
    told, problems = certified(catalog, edges)
    assert problems == {}
    assert [(e.parent, e.role, e.confidence, e.scope) for e in told] == [
        (e.parent, e.role, e.confidence, "full") for e in edges
    ]
    assert all("ties with density 0.2" in e.kind.detail for e in told)
    shutil.rmtree(tmp_path / "models" / "one")
    told, problems = certified(catalog, edges)
    assert told == edges
    assert "the files of one are gone" in problems[ids["child"]]


def test_between_size_and_chance_nothing_is_tried():
    seen = Trace(np.ones(2), 0.45, np.full(2, 0.5), 0.0, np.full(2, 0.5), None)
    assert list(recipes(Merge("c", "b", ("x", "y"), (1.0, 1.0)), seen)) == []
