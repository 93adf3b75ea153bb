"""Bases: distances of all pairs at once are those of one pair at a time, and the smaller component hangs."""

import numpy as np
import pytest
from descent_patches import drawn, sketch_of
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.descent.basis import TURNED, Turn, distances, turns
from engine.descent.invariant import distance

TRIANGLE = np.triu_indices(9)


def told(seed, *, near=None, by=0.0, names=("e rows",)):
    """Invariants of a model of its own, or of one a little way from another's."""
    found = {}
    for at, name in enumerate(names):
        slices = drawn([seed, at], 9, 40)
        found[name] = (slices @ slices.T)[TRIANGLE].astype(np.float32)
        if near is not None:
            found[name] = (near[name] + by * found[name]).astype(np.float32)
    return found


def one(model, invariants):
    return sketch_of({"w": drawn(1, 2, 2)}, model, invariants=invariants)


@given(st.integers(0, 10**6), st.sampled_from([0.0, 1e-7, 1e-3, 0.1]))
@settings(max_examples=20, deadline=None)
def test_distances_are_those_of_each_pair(seed, by):
    first = told(seed, names=("e rows", "h columns"))
    models = [
        first,
        told(seed + 1, near=first, by=by, names=("e rows", "h columns")),
        told(seed + 2),
        {name: values[:20] for name, values in first.items()},
        {name: 0 * values for name, values in first.items()},
        {},
    ]
    found = distances(models)
    expected = [[distance(a, b) for b in models] for a in models]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)
    assert np.array_equal(found, found.T)


def test_the_smaller_component_hangs_on_the_larger_by_their_nearest_models():
    base = told(1)
    large = [one("a", told(2, near=base, by=0.02)), one("b", base)]
    small = [one("c", told(3, near=base, by=0.01))]
    other = [one("d", told(4))]
    found = turns([(large, "b"), (small, "c"), (other, "d")])
    assert found == [Turn("c", "b", distance(small[0].invariants, base))]
    assert 0 < found[0].distance < TURNED


def test_of_equals_the_first_hangs_and_nothing_hangs_on_what_hangs():
    parts = [([one(name, told(1))], name) for name in "cab"]
    assert turns(parts) == [Turn("a", "b", 0.0), Turn("b", "c", 0.0)]


@pytest.mark.parametrize("parts", [[], [([one("a", told(1))], "a")]], ids=["none", "one"])
def test_one_component_has_no_other(parts):
    assert turns(parts) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_invariants_that_are_no_numbers_tell_nothing_and_stop_nothing(bad):
    broken = {"e rows": np.where(np.arange(45) == 7, np.float32(bad), told(1)["e rows"])}
    assert distance(broken, told(1)) == distance(broken, broken) == 1
    parts = [([one("a", broken)], "a"), ([one("b", told(1))], "b"), ([one("c", told(1))], "c")]
    assert turns(parts) == [Turn("b", "c", 0.0)]
    assert turns(parts[:2]) == []


def test_components_without_invariants_are_not_compared():
    assert turns([([one("a", {})], "a"), ([one("b", {})], "b")]) == []
