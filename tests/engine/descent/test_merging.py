"""Which models of a family are made of which: every merge once, and nobody of what is made of him."""

from functools import cache

import numpy as np
import pytest
from descent_families import LAYOUT, STARTS, WIDTH, Family, put, slerped, tied

import engine.descent.merging
from engine.descent.combination import Combination
from engine.descent.masked import Masked
from engine.descent.merging import merges_of
from engine.descent.mosaic import Mosaic
from engine.descent.piecewise import Piecewise

EXACT = {
    "linear": {"e1": 0.6, "e2": 0.4},
    "average": {"e1": 1 / 3, "e2": 1 / 3, "e3": 1 / 3},
    "arithmetic": {"b": -0.4, "e1": 0.7, "e2": 0.7},
    "sum": {"b": -1.0, "e1": 1.0, "e3": 1.0},
    "negation": {"b": 2.0, "e1": -1.0},
    "extrapolation": {"b": -0.5, "e2": 1.5},
    "wise": {"b": 0.5, "e3": 0.5},
    "again": {"linear": 0.5, "e3": 0.5},
}


@cache
def zoo(dtype):
    """A base, three children, a grandchild, and merges of them; a merge's name is in EXACT or says its method."""
    family = Family(1, dtype)
    base = family.base()
    models = {
        "b": base,
        **{f"e{i}": family.tuned(base, s) for i, s in enumerate((0.05, 0.06, 0.04), 1)},
    }
    models["f1"] = family.tuned(models["e1"], 0.04)
    for name, weights in EXACT.items():
        models[name] = family.kept(sum(w * models[m].astype(float) for m, w in weights.items()))
    pair = [models["e1"], models["e2"]]
    models["slerp"] = family.kept(slerped(*pair, 0.4))
    models["ties"] = family.kept(tied(base, pair, 0.5, 1.0))
    models["dare"] = family.dared(base, pair, 0.3, [0.6, 0.4])
    models["franken"] = np.concatenate([
        pair[p.layer % 2][at : at + p.size] for p, at in zip(LAYOUT.patches, STARTS, strict=False)
    ])  # fmt: skip
    return models


def some(*names, dtype="BF16"):
    return {name: zoo(dtype)[name] for name in ("b", "e1", "e2", "e3", "f1", *names)}


def merges(models, dtype="BF16"):
    """Child → (its merge, parents' names), by name."""
    bucket, _ = put(models, dtype, rows=WIDTH if "slerp" in models else 8)
    found = merges_of(bucket, range(len(bucket)))
    return {
        bucket.models[child]: (merge, {bucket.models[p] for p in merge.parents})
        for child, merge in found.items()
    }


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_all_exact_sums_of_a_family_are_found_and_nothing_else(dtype):
    models = some(*EXACT, dtype=dtype)
    found = merges(models, dtype)
    assert found.keys() == EXACT.keys()
    for child, (merge, _) in found.items():
        assert isinstance(merge, Combination)
        assert merge.match == 1.0
        names = [list(models)[p] for p in merge.parents]
        assert dict(zip(names, merge.weights, strict=True)) == pytest.approx(EXACT[child], abs=1e-3)


@pytest.mark.parametrize(
    ("child", "dtype"),
    [
        *((name, "BF16") for name in (*EXACT, "slerp", "ties", "dare", "franken") if name != "again"),
        *((name, "F32") for name in ("linear", "arithmetic", "slerp", "dare")),
    ],
)  # fmt: skip
def test_parents_are_never_children_of_their_merge(child, dtype):
    found = merges(some(child, dtype=dtype), dtype)
    assert set(found) == {child}
    expected = EXACT.get(child, {"e1": 0, "e2": 0}).keys()
    assert found[child][1] == set(expected)


@pytest.mark.parametrize(
    ("child", "kind"),
    [
        ("linear", Combination),
        ("slerp", Piecewise),
        ("franken", Piecewise),
        ("ties", Masked),
        ("dare", Masked),
    ],
)
def test_each_merge_has_the_narrowest_proof_that_holds(child, kind):
    assert isinstance(merges(some(child))[child][0], kind)


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_models_that_were_trained_are_made_of_nobody(dtype):
    assert merges(some(dtype=dtype), dtype) == {}


def test_the_order_of_models_decides_nothing():
    models = some("linear", "again", "ties")
    one, other = merges(models), merges(dict(reversed(models.items())))
    assert {c: parents for c, (_, parents) in one.items()} == {
        c: parents for c, (_, parents) in other.items()
    }


def test_only_models_that_are_offered_take_part():
    bucket, place = put(some("linear"), rows=8)
    assert merges_of(bucket, [place["b"], place["e1"], place["linear"]]) == {}
    assert merges_of(bucket, []) == {}


def test_degenerate_families_have_no_merges():
    base, child = zoo("BF16")["b"], zoo("BF16")["e1"]
    zero = np.zeros(LAYOUT.size, np.float32)
    assert merges({"b": base}) == {}
    assert merges({"b": base, "e1": child}) == {}
    assert merges({"x": child, "y": child, "z": child}) == {}
    assert merges({"x": zero, "y": zero, "z": zero}) == {}
    assert set(merges(some("linear") | {"zero": zero})) == {"linear"}


def test_an_equal_parent_is_taken_once():
    models = some("linear")
    found = merges(models | {"e1 again": models["e1"]})
    assert set(found) == {"linear"}
    assert len(found["linear"][1]) == 2


def test_a_mosaic_of_what_is_made_of_it_shows_no_absent_base(monkeypatch):
    """Most of what two masked merges have is their base's: where it lies by chance, it looks as if it were made of them."""

    def seen(bucket, child, _):
        places = {name: i for i, name in enumerate(bucket.models)}
        if child != places["b"]:
            return None
        rest = np.zeros(bucket.values.shape[1], bool)
        return Mosaic(child, (places["ties"], places["dare"]), (0.3, 0.2), 100.0, rest, averaged=False)  # fmt: skip

    looked_for = []
    monkeypatch.setattr(engine.descent.merging, "mosaic", seen)
    monkeypatch.setattr(
        engine.descent.merging, "_add_without_base", lambda *_: looked_for.append(1)
    )
    assert merges(some("ties", "dare")).keys() == {"ties", "dare"}
    assert not looked_for
