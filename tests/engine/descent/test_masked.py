"""Masked merges: the base and the parents of TIES, DARE, DELLA and Breadcrumbs; relatives are none of them."""

from functools import cache

import numpy as np
import pytest
from descent_families import LAYOUT, Family, crumbled, put, tied

from engine.descent.masked import LEAST_EXPLAINED, masked


@cache
def relatives(dtype="BF16"):
    """A base b and its children e1, e2 and e3."""
    family = Family(6, dtype)
    base = family.base()
    children = {f"e{i}": family.tuned(base, size) for i, size in ((1, 0.05), (2, 0.06), (3, 0.05))}
    return family, {"b": base} | children


@cache
def merged(name, dtype="BF16"):
    """A merge of e1 and e2 on b."""
    family, models = relatives(dtype)
    base, pair = models["b"], [models["e1"], models["e2"]]
    made = {
        "ties": lambda: tied(base, pair, 0.5, 1.0),
        "sparse ties": lambda: tied(base, pair, 0.2, 1.0),
        "weak ties": lambda: tied(base, pair, 0.5, 0.7),
        "dare": lambda: family.dared(base, pair, 0.5, [0.5, 0.5]),
        "uneven dare": lambda: family.dared(base, pair, 0.3, [0.6, 0.4]),
        "della": lambda: family.dellaed(base, pair, 0.3, 0.7, 0.5),
        "breadcrumbs": lambda: crumbled(base, pair, 0.6, 0.05, 0.7),
    }[name]()
    return family.kept(made)


def found_of(models, child, dtype="BF16"):
    bucket, place = put(models, dtype)
    return masked(bucket, place[child], range(len(bucket))), bucket


SCALES = {
    "ties": {"e1": 1.0, "e2": 1.0},
    "sparse ties": {"e1": 1.0, "e2": 1.0},
    "weak ties": {"e1": 0.7, "e2": 0.7},
    "dare": {"e1": 1.0, "e2": 1.0},
    "uneven dare": {"e1": 2.0, "e2": 4 / 3},
    "breadcrumbs": {"e1": 0.7, "e2": 0.7},
}


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
@pytest.mark.parametrize("name", SCALES)
def test_a_masked_merge_is_found_with_its_base_parents_and_scales(name, dtype):
    found, bucket = found_of(relatives(dtype)[1] | {"child": merged(name, dtype)}, "child", dtype)
    assert bucket.models[found.base] == "b"
    scales = {bucket.models[p]: s for p, s in zip(found.parents, found.scales, strict=True)}
    assert scales == pytest.approx(SCALES[name], rel=0.02)
    assert LEAST_EXPLAINED <= found.explained <= 1
    assert 0 < found.dropped < 1
    assert list(found.shares) == sorted(found.shares, reverse=True)


def test_della_is_found_with_its_base_and_parents():
    found, bucket = found_of(relatives()[1] | {"child": merged("della")}, "child")
    assert bucket.models[found.base] == "b"
    assert sorted(bucket.models[p] for p in found.parents) == ["e1", "e2"]
    assert found.explained >= LEAST_EXPLAINED


def test_what_was_dropped_is_measured():
    found, _ = found_of(relatives()[1] | {"child": merged("dare")}, "child")
    assert found.dropped == pytest.approx(0.25, abs=0.05)
    sparse, _ = found_of(relatives()[1] | {"child": merged("sparse ties")}, "child")
    assert sparse.dropped > 0.5


def test_three_parents_are_found():
    family, models = relatives()
    child = family.dared(models["b"], [models[f"e{i}"] for i in (1, 2, 3)], 0.4, [0.4] * 3)
    found, bucket = found_of(models | {"child": child}, "child")
    assert sorted(bucket.models[p] for p in found.parents) == ["e1", "e2", "e3"]
    assert bucket.models[found.base] == "b"


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
@pytest.mark.parametrize("child", ["b", "e1", "e2", "e3"])
def test_siblings_and_their_base_are_no_masked_merges(child, dtype):
    assert found_of(relatives(dtype)[1], child, dtype)[0] is None


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_a_trajectory_is_no_masked_merge(dtype):
    family = Family(7, dtype)
    steps = [family.base()]
    for _ in range(4):
        steps.append(family.tuned(steps[-1], 0.03))
    models = {f"step {i}": step for i, step in enumerate(steps)}
    for child in models:
        assert found_of(models, child, dtype)[0] is None


def test_children_of_children_are_no_masked_merges():
    family, models = Family(8), dict(relatives()[1])
    models |= {f"f{i}": family.tuned(models[f"e{i}"], 0.03) for i in (1, 2)}
    for child in ("f1", "f2"):
        assert found_of(models, child)[0] is None


def test_a_base_of_which_children_left_tensors_alone_is_no_masked_merge_of_them():
    """Seen from a child of which some entries stayed, those are all of the others' changes, at scale 1."""
    family = Family(9)
    base = family.base()
    stayed = family.rng.random(len(base)) < 0.1
    models = {
        "b": base,
        "upper": family.tuned(base, 0.15, where=lambda patch: patch.tensor > "model.layers.2"),
        "lower": family.tuned(base, 0.15, where=lambda patch: patch.tensor < "model.layers.2"),
        "some": np.where(stayed, base, family.tuned(base, 0.03)).astype(np.float32),
    }
    for child in models:
        assert found_of(models, child)[0] is None


@pytest.mark.parametrize("missing", ["b", "e1"])
def test_without_the_base_or_a_parent_nothing_is_found(missing):
    models = relatives()[1] | {"child": merged("dare")}
    del models[missing]
    assert found_of(models, "child")[0] is None


def test_only_the_models_that_are_offered_are_parents():
    bucket, place = put(relatives()[1] | {"child": merged("ties")})
    offered = [place[name] for name in ("b", "e1", "e3")]
    assert masked(bucket, place["child"], offered) is None


def test_too_few_models_or_nothing_but_zeros_or_equal_ones_are_no_merge():
    models = relatives()[1]
    assert found_of({"b": models["b"]}, "b")[0] is None
    assert found_of({"b": models["b"], "e1": models["e1"]}, "e1")[0] is None
    zero = np.zeros(LAYOUT.size, np.float32)
    assert found_of({"x": zero, "y": zero, "z": zero}, "x")[0] is None
    assert found_of(models | {"zero": zero}, "zero")[0] is None
    same = dict.fromkeys("xyz", models["e1"])
    assert found_of(same, "x")[0] is None


def test_of_equal_parents_one_is_enough():
    models = relatives()[1] | {"child": merged("dare")}
    found, bucket = found_of(models | {"e1 again": models["e1"]}, "child")
    assert len(found.parents) == 2
    assert bucket.models[found.base] == "b"
