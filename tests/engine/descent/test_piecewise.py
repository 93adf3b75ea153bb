"""Sums tensor by tensor: SLERP, Model Stock and tensors taken whole; trained models are none of them."""

from functools import cache

import numpy as np
import pytest
from descent_families import LAYOUT, STARTS, Family, changed, put, slerped, stocked

from engine.descent.piecewise import LEAST_MATCH, frankenmerge, piecewise


@cache
def relatives(dtype="BF16"):
    """A base b, its children e1, e2, e3, and two children, k1 and k2, that learned something in common."""
    family = Family(4, dtype)
    base = family.base()
    e1, e2, e3 = (family.tuned(base) for _ in range(3))
    common = family.tuned(base, 0.05)
    k1, k2 = family.tuned(common, 0.06), family.tuned(common, 0.06)
    return family, {"b": base, "e1": e1, "e2": e2, "e3": e3, "k1": k1, "k2": k2}


def some(*names, dtype="BF16"):
    models = relatives(dtype)[1]
    return {name: models[name] for name in names}


def taken(pick, models):
    """Each tensor whole, from the model that ``pick(patch)`` names."""
    found = np.empty(LAYOUT.size, np.float32)
    for patch, at in zip(LAYOUT.patches, STARTS, strict=False):
        found[at : at + patch.size] = models[pick(patch)][at : at + patch.size]
    return found


def found_by(find, models, child, dtype="BF16"):
    """What is found, and the weights by name."""
    bucket, place = put(models, dtype)
    found = find(bucket, place[child], range(len(bucket)))
    if found is None:
        return None, {}
    names = (bucket.models[p] for p in found.parents)
    return found, dict(zip(names, found.weights, strict=True))


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
@pytest.mark.parametrize("t", [0.3, 0.5])
def test_slerp_is_found_with_its_share(dtype, t):
    models = some("b", "e1", "e2", "e3", dtype=dtype)
    child = relatives(dtype)[0].kept(slerped(models["e1"], models["e2"], t))
    found, weights = found_by(piecewise, models | {"child": child}, "child", dtype)
    assert weights == pytest.approx({"e1": 1 - t, "e2": t}, abs=0.01)
    assert LEAST_MATCH <= found.match <= 1
    assert (found.whole, found.base) == (False, None)


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_a_slope_over_layers_is_found_with_its_mean(dtype):
    models = some("b", "e1", "e2", "e3", dtype=dtype)
    child = np.array(models["e1"], np.float64)
    for patch, at in zip(LAYOUT.patches, STARTS, strict=False):
        own = slice(at, at + patch.size)
        share = 0.2 + 0.2 * patch.layer
        child[own] = (1 - share) * models["e1"][own].astype(float) + share * models["e2"][
            own
        ].astype(float)
    child = relatives(dtype)[0].kept(child)
    found, weights = found_by(piecewise, models | {"child": child}, "child", dtype)
    assert weights == pytest.approx({"e1": 0.5, "e2": 0.5}, abs=0.01)
    assert found.match >= LEAST_MATCH


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_model_stock_is_found_with_its_base(dtype):
    models = some("b", "e1", "k1", "k2", dtype=dtype)
    child = relatives(dtype)[0].kept(stocked(models["b"], [models["k1"], models["k2"]]))
    found, weights = found_by(piecewise, models | {"child": child}, "child", dtype)
    assert set(weights) == {"b", "k1", "k2"}
    assert sum(weights.values()) == pytest.approx(1, abs=0.01)
    assert weights["k1"] == pytest.approx(weights["k2"], abs=0.01)
    assert found.base == 0
    assert not found.whole


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
@pytest.mark.parametrize("child", ["b", "e1", "e3", "k1"])
def test_trained_models_are_no_sums_tensor_by_tensor(dtype, child):
    models = relatives(dtype)[1]
    assert found_by(piecewise, models, child, dtype) == (None, {})
    assert found_by(frankenmerge, models, child, dtype) == (None, {})


def test_the_parents_of_a_slerp_are_not_its_children():
    models = some("b", "e1", "e2", "e3")
    child = relatives()[0].kept(slerped(models["e1"], models["e2"], 0.4))
    for parent in ("b", "e3"):
        assert found_by(piecewise, models | {"child": child}, parent)[0] is None


def test_a_chain_of_checkpoints_is_no_sum():
    family = Family(5)
    chain = [family.base()]
    for _ in range(4):
        chain.append(family.tuned(chain[-1], 0.03))
    models = {f"step {i}": values for i, values in enumerate(chain)}
    for child in models:
        assert found_by(piecewise, models, child)[0] is None


def test_without_one_parent_nothing_is_found():
    models = some("b", "e1", "e2", "e3")
    child = relatives()[0].kept(slerped(models["e1"], models["e2"], 0.4))
    del models["e2"]
    assert found_by(piecewise, models | {"child": child}, "child")[0] is None


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_layers_of_two_models_are_a_frankenmerge(dtype):
    models = some("b", "e1", "e2", "e3", dtype=dtype)
    child = taken(lambda p: "e1" if p.layer < 3 else "e2", models)
    found, weights = found_by(frankenmerge, models | {"child": child}, "child", dtype)
    assert weights == {"e1": 0.75, "e2": 0.25}
    assert (found.match, found.whole, found.base) == (1.0, True, None)


def test_layers_of_three_models_are_a_frankenmerge():
    models = some("b", "e1", "e2", "e3")
    child = taken(lambda p: ("e1", "e2", "e2", "e3")[p.layer], models)
    _, weights = found_by(frankenmerge, models | {"child": child}, "child")
    assert weights == {"e2": 0.5, "e1": 0.25, "e3": 0.25}


def test_layers_of_a_base_and_a_child_are_a_frankenmerge():
    models = some("b", "e1", "e2")
    child = taken(lambda p: "b" if p.layer % 2 else "e1", models)
    _, weights = found_by(frankenmerge, models | {"child": child}, "child")
    assert weights == {"b": 0.5, "e1": 0.5}


def test_the_base_of_children_that_touched_other_tensors_is_no_frankenmerge():
    family, models = relatives()[0], some("b")
    models["attention"] = family.tuned(models["b"], where=lambda p: "self_attn" in p.tensor)
    models["mlp"] = family.tuned(models["b"], where=lambda p: "mlp" in p.tensor)
    for child in models:
        assert found_by(frankenmerge, models, child)[0] is None


def test_children_with_frozen_layers_and_their_base_are_no_frankenmerges():
    family, models = relatives()[0], some("b", "e1", "e2")
    models["late"] = family.tuned(models["b"], where=lambda p: p.layer > 1)
    models["early"] = family.tuned(models["b"], where=lambda p: p.layer < 2)
    for child in models:
        assert found_by(frankenmerge, models, child)[0] is None


def test_a_tensor_of_nobody_is_too_much():
    models = some("b", "e1", "e2")
    child = taken(lambda p: "e1" if p.layer < 2 else "e2", models)
    strange = changed(child, lambda w: -w, lambda p: p.layer == 0 and "mlp" in p.tensor)
    assert found_by(frankenmerge, models | {"child": strange}, "child")[0] is None


def test_a_copy_is_no_frankenmerge():
    models = some("b", "e1", "e2")
    assert found_by(frankenmerge, models | {"again": models["e1"]}, "again")[0] is None


def test_equal_parents_are_one():
    models = some("b", "e1", "e2")
    child = taken(lambda p: "e1" if p.layer < 2 else "e2", models)
    twice = models | {"e1 again": models["e1"], "child": child}
    _, weights = found_by(frankenmerge, twice, "child")
    assert weights == {"e1": 0.5, "e2": 0.5}
    same = dict.fromkeys("xyz", models["e1"])
    assert found_by(piecewise, same, "x")[0] is None


@pytest.mark.parametrize("find", [frankenmerge, piecewise])
def test_too_few_models_or_nothing_but_zeros_are_no_merge(find):
    models = some("b", "e1")
    assert found_by(find, some("b"), "b")[0] is None
    assert found_by(find, models, "b")[0] is None
    zero = np.zeros(LAYOUT.size, np.float32)
    assert found_by(find, {"x": zero, "y": zero, "z": zero}, "x")[0] is None
    assert found_by(find, some("b", "e1", "e2") | {"zero": zero}, "zero")[0] is None
