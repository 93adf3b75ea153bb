"""Weighted sums: found with their weights and proved entry by entry; nothing else is taken for one."""

from functools import cache

import numpy as np
import pytest
from descent_families import LAYOUT, Family, put
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.descent.bucket import gather
from engine.descent.combination import (
    MOST_RATIO,
    base_among,
    combinations_of,
    is_base,
)
from engine.descent.patch import layout_of
from engine.descent.sketch import Sketch


@cache
def relatives(dtype):
    """A base b, its children e1, e2, e3, and f1, a child of e1."""
    family = Family(1, dtype)
    base = family.base()
    e1, e2, e3 = (family.tuned(base, size) for size in (0.05, 0.06, 0.04))
    return family, {"b": base, "e1": e1, "e2": e2, "e3": e3, "f1": family.tuned(e1, 0.04)}


def total(dtype, weights, more=()):
    """A weighted sum of relatives, computed exactly and rounded once."""
    family, models = relatives(dtype)
    terms = models | dict(more)
    return family.kept(sum(w * terms[name].astype(np.float64) for name, w in weights.items()))


def best(models, child, dtype="BF16"):
    """What is found first: weights by name of the parent, and the combination."""
    bucket, place = put(models, dtype)
    found = combinations_of(bucket, place[child], range(len(bucket)))
    if not found:
        return {}, None, bucket
    named = {bucket.models[p]: w for p, w in zip(found[0].parents, found[0].weights, strict=True)}
    return named, found[0], bucket


SUMS = {
    "linear": {"e1": 0.6, "e2": 0.4},
    "average of three": {"e1": 1 / 3, "e2": 1 / 3, "e3": 1 / 3},
    "task arithmetic": {"b": -0.4, "e1": 0.7, "e2": 0.7},
    "sum of whole task vectors": {"b": -1.0, "e1": 1.0, "e3": 1.0},
    "negation": {"b": 2.0, "e1": -1.0},
    "extrapolation": {"b": -0.5, "e2": 1.5},
    "wise-ft": {"b": 0.5, "e3": 0.5},
    "with a grandchild": {"f1": 0.7, "e2": 0.3},
    "uneven": {"e1": 0.137, "e2": 0.863},
    "of no round share": {"e1": 0.23456789, "e2": 0.76543211},
}


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
@pytest.mark.parametrize("name", SUMS)
def test_a_weighted_sum_is_found_with_its_weights_and_matches_wholly(name, dtype):
    weights = SUMS[name]
    models = relatives(dtype)[1] | {"child": total(dtype, weights)}
    named, found, _ = best(models, "child", dtype)
    assert named == pytest.approx(weights, abs=1e-3)
    assert found.match == 1.0 or (name == "of no round share" and found.match > 0.999)
    assert 0 <= found.floor_ratio < MOST_RATIO
    assert sum(found.weights) == pytest.approx(1)
    assert list(found.weights) == sorted(found.weights, reverse=True)


def test_halves_of_another_kind_are_rounded_to_their_own_bits():
    models = relatives("F16")[1] | {"child": total("F16", SUMS["linear"])}
    named, found, _ = best(models, "child", "F16")
    assert named == pytest.approx(SUMS["linear"], abs=1e-3)
    assert found.match == 1.0


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("linear", None), ("average of three", None), ("wise-ft", None),
        ("task arithmetic", "b"), ("sum of whole task vectors", "b"),
    ],
)  # fmt: skip
def test_the_base_is_the_term_with_the_negative_weight(name, base):
    models = relatives("BF16")[1] | {"child": total("BF16", SUMS[name])}
    _, found, bucket = best(models, "child")
    assert (None if found.base is None else bucket.models[found.base]) == base


def test_a_merge_of_a_merge_is_made_of_it_and_not_of_its_parents():
    linear = total("BF16", SUMS["linear"])
    again = total("BF16", {"linear": 0.5, "e3": 0.5}, {"linear": linear})
    named, found, _ = best(relatives("BF16")[1] | {"linear": linear, "again": again}, "again")
    assert named == pytest.approx({"linear": 0.5, "e3": 0.5}, abs=1e-3)
    assert found.match == 1.0


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
@pytest.mark.parametrize("name", ["linear", "average of three", "task arithmetic", "uneven"])
def test_read_the_other_way_round_a_relation_proves_less(name, dtype):
    models = relatives(dtype)[1] | {"child": total(dtype, SUMS[name])}
    bucket, place = put(models, dtype)
    for parent in SUMS[name]:
        for found in combinations_of(bucket, place[parent], range(len(bucket))):
            assert found.match < 1.0


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
@pytest.mark.parametrize("child", ["b", "e1", "e2", "e3", "f1"])
def test_models_that_were_trained_are_no_sums(child, dtype):
    models = relatives(dtype)[1]
    assert best(models, child, dtype)[1] is None


def test_a_merge_that_was_trained_on_is_no_sum():
    family, models = Family(3), relatives("BF16")[1]
    trained = family.tuned(total("BF16", SUMS["linear"]), 0.02)
    assert best(models | {"child": trained}, "child")[1] is None


def test_without_one_of_its_parents_a_sum_is_not_found():
    models = relatives("BF16")[1] | {"child": total("BF16", SUMS["linear"])}
    del models["e2"]
    assert best(models, "child")[1] is None


def test_only_the_models_that_are_offered_are_terms():
    models = relatives("BF16")[1] | {"child": total("BF16", SUMS["linear"])}
    bucket, place = put(models)
    assert combinations_of(bucket, place["child"], [place["b"], place["e1"], place["e3"]]) == []
    found = combinations_of(bucket, place["child"], [place["e1"], place["e2"], place["child"]])
    assert found[0].parents == (place["e1"], place["e2"])


def test_a_part_of_the_entries_proves_as_much():
    models = relatives("BF16")[1] | {"child": total("BF16", SUMS["task arithmetic"])}
    shapes = [(p.tensor, (p.shape[1],) if p.is_vector else p.shape) for p in LAYOUT.patches]
    layout = layout_of(shapes, 4096)
    full, place = put(models)
    columns = np.concatenate([
        np.add.outer(
            (part.row + np.arange(part.n_rows)) * part.shape[1],
            part.column + np.arange(part.n_columns),
        ).ravel() + span.start
        for part, span in zip(layout.patches, full.spans, strict=True)
    ])  # fmt: skip
    sketches = [Sketch(n, "BF16", layout, v[columns], {}, 0) for n, v in models.items()]
    bucket = gather(sketches)
    assert bucket.values.shape[1] < 8192
    found = combinations_of(bucket, place["child"], range(len(bucket)))[0]
    assert found.weights == pytest.approx((0.7, 0.7, -0.4), abs=1e-3)
    assert found.match == 1.0
    assert found.base == place["b"]


@settings(max_examples=8, deadline=None)
@given(st.integers(5, 95))
def test_law_any_linear_share_is_recovered(percent):
    weights = {"e1": percent / 100, "e2": 1 - percent / 100}
    named, found, _ = best(relatives("BF16")[1] | {"child": total("BF16", weights)}, "child")
    assert named == pytest.approx(weights, abs=1e-3)
    assert found.match == 1.0


def test_a_base_is_the_model_from_which_the_changes_are_orthogonal():
    bucket, place = put(relatives("BF16")[1])
    b, e1, e2, e3, _ = place.values()
    assert base_among(bucket, [e1, b, e2, e3]) == b
    assert base_among(bucket, [e1, e2]) is None
    assert is_base(bucket, b, [b, e1, e2])
    assert not is_base(bucket, e1, [b, e1, e2])
    assert not is_base(bucket, None, [b, e1, e2])


def test_fewer_than_three_models_have_no_sum():
    models = relatives("BF16")[1]
    bucket, _ = put({"b": models["b"]})
    assert combinations_of(bucket, 0, [0]) == []
    bucket, _ = put({"b": models["b"], "e1": models["e1"]})
    assert combinations_of(bucket, 0, [0, 1]) == combinations_of(bucket, 1, [0, 1]) == []


def test_zeros_are_nobodys_sum_and_break_nothing():
    zero = np.zeros(LAYOUT.size, np.float32)
    bucket, _ = put({"x": zero, "y": zero, "z": zero})
    assert combinations_of(bucket, 0, range(3)) == []
    models = relatives("BF16")[1] | {"child": total("BF16", SUMS["linear"]), "zero": zero}
    assert best(models, "child")[0] == pytest.approx(SUMS["linear"], abs=1e-3)
    assert best(models, "zero")[1] is None


def test_equal_parents_break_nothing():
    models = relatives("BF16")[1]
    bucket, _ = put({"x": models["e1"], "y": models["e1"], "z": models["e1"]})
    for child in range(3):  # equal models are twins, which are put together before
        for found in combinations_of(bucket, child, range(3)):
            assert np.isfinite(found.weights).all()
    twins = {"e1": models["e1"], "e1 again": models["e1"], "e2": models["e2"]}
    named, found, _ = best(twins | {"child": total("BF16", SUMS["linear"])}, "child")
    assert found.match == 1.0
    assert named["e2"] == pytest.approx(0.4, abs=1e-3)


def test_the_order_of_models_decides_nothing():
    models = relatives("BF16")[1] | {"child": total("BF16", SUMS["task arithmetic"])}
    backwards = dict(reversed(models.items()))
    one, other = best(models, "child"), best(backwards, "child")
    assert one[0] == pytest.approx(other[0], abs=1e-9)
    assert one[1].match == other[1].match
