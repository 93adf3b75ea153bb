"""Blends: rows that training passed over prove the merge before it; where it reached all rows nothing is said."""

from functools import cache

import numpy as np
import pytest
from descent_families import Family, changed, put

from engine.descent.blend import blend
from engine.descent.merging import merges_of

PASSED = 6  # rows of each matrix


@cache
def relatives():
    """A base b and its children e1, e2 and e3."""
    family = Family(19)
    base = family.base()
    return {"b": base} | {f"e{i}": family.tuned(base, 0.1) for i in (1, 2, 3)}


def trained(start, seed=20, passed=PASSED):
    """A child of weights that changed but for the first rows of some matrices."""
    family = Family(seed)
    made = family.tuned(start, 0.1)
    old = iter([matrix for _, matrix in _matrices(start)])

    def kept(matrix):
        before = next(old)
        matrix[:passed] = before[:passed]
        return matrix

    return family.kept(changed(made, kept))


def _matrices(values):
    """The matrices of a model, in order."""
    found = []
    changed(values, lambda matrix: found.append((None, matrix)) or matrix)
    return found


def summed(**weights):
    """A weighted sum, rounded."""
    return Family().kept(sum(w * relatives()[m].astype(float) for m, w in weights.items()))


def names_of(models, child):
    bucket, place = put(models, rows=16)
    found = blend(bucket, place[child], range(len(bucket)))
    return found and {
        bucket.models[p]: w for p, w in zip(found.parents, found.weights, strict=True)
    }


@pytest.mark.parametrize(
    "weights", [{"e1": 0.5, "e2": 0.5}, {"e1": 0.7, "e3": 0.3}, {"e1": 0.4, "e2": 0.3, "e3": 0.3}]
)
def test_a_merge_that_was_trained_is_found_with_its_weights(weights):
    models = relatives() | {"child": trained(summed(**weights))}
    assert names_of(models, "child") == pytest.approx(weights, abs=0.01)


def test_what_is_left_of_the_merge_is_counted():
    models = relatives() | {"child": trained(summed(e1=0.5, e2=0.5))}
    bucket, place = put(models, rows=16)
    found = blend(bucket, place["child"], range(len(bucket)))
    assert found.n_rows >= PASSED
    assert found.n_entries > 24
    assert found.left > 0
    assert found.base is None
    assert merges_of(bucket, range(len(bucket)))[place["child"]] == found


@pytest.mark.parametrize("child", ["b", "e1", "e2", "e3"])
def test_models_that_were_trained_are_no_blends(child):
    assert names_of(relatives(), child) is None


def test_a_child_of_one_parent_is_no_blend_though_rows_are_its_parents():
    assert names_of(relatives() | {"child": trained(relatives()["e1"])}, "child") is None


def test_a_child_of_a_merge_that_is_there_is_its_child():
    merge = summed(e1=0.5, e2=0.5)
    models = relatives() | {"merge": merge, "child": trained(merge)}
    assert names_of(models, "child") is None


def test_where_training_reached_every_row_nothing_is_said():
    models = relatives() | {"child": trained(summed(e1=0.5, e2=0.5), passed=0)}
    assert names_of(models, "child") is None


def test_too_few_models_make_no_blend():
    child = trained(summed(e1=0.5, e2=0.5))
    assert names_of({"child": child}, "child") is None
    assert names_of({"child": child, "e1": relatives()["e1"]}, "child") is None
    zero = np.zeros_like(child)
    assert names_of({"x": zero, "y": zero, "z": zero}, "x") is None
