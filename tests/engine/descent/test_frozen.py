"""Frozen tensors: what two models have alike, tensor by tensor."""

import numpy as np
from descent_families import LAYOUT, STARTS, Family, put

from engine.descent.frozen import frozen


def test_a_tensor_counts_when_all_of_it_is_alike():
    family = Family(3)
    base = family.base()
    child = base.copy()
    child[STARTS[0]] += 1  # one entry of the first
    child[STARTS[1] : STARTS[2]] += 1
    bucket, place = put({"b": base, "c": child})
    found = frozen(bucket, place["b"], place["c"])
    expected = np.ones(LAYOUT.size, bool)
    expected[: STARTS[2]] = False
    assert np.array_equal(found, expected)
    assert np.array_equal(found, frozen(bucket, place["c"], place["b"]))
    assert frozen(bucket, 0, 0).all()


def test_models_that_share_no_tensor_have_nothing_alike():
    family = Family(4)
    bucket, _ = put({"b": family.base(), "c": family.base()})
    empty = type(bucket)(bucket.models, bucket.dtypes, bucket.values[:, :0], (), bucket.rows)
    assert frozen(empty, 0, 1).shape == (0,)
