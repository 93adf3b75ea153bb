"""How near models lie to each other, by their sketches."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sketched import PATCHES, SPEC, WIDE, N, drawn, put

from registry import closeness as module
from registry.closeness import (
    Sampled,
    best_spec,
    closeness,
    closenesses,
    crossing,
    expected,
    overlaps,
    pairs_of,
    sampled,
    shelf,
)

TEXT = json.dumps(PATCHES)


def of(values, model="m", patches=TEXT):
    return Sampled(model, patches, values)


def near(values, seed, size):
    """A model at a distance of another, its vector left as it is."""
    step = drawn(seed, size)
    step[-8:] = 0
    return (values + step).astype(np.float32)


def test_equal_models_are_at_distance_zero_and_strangers_at_about_one():
    a, b = of(drawn(1)), of(drawn(2))
    same, far = closeness(a, a), closeness(a, b)
    assert (same.distance, same.cosine) == (0.0, pytest.approx(1.0))
    assert far.distance == pytest.approx(1.0, abs=0.1)
    assert far.cosine == pytest.approx(0.0, abs=0.1)


@given(st.integers(0, 50), st.floats(0.001, 100))
@settings(max_examples=15)
def test_closeness_is_symmetric_and_does_not_know_the_scale(seed, scale):
    a = drawn(seed)
    b = near(a, seed + 100, 0.1)
    one, other = closeness(of(a), of(b)), closeness(of(b), of(a))
    assert one.distance == pytest.approx(other.distance, rel=1e-4)
    scaled = closeness(of((a * scale).astype(np.float32)), of((b * scale).astype(np.float32)))
    assert scaled.distance == pytest.approx(one.distance, rel=1e-3)


def test_the_distance_of_a_half_changed_model_is_that_of_each_matrix_alike():
    a = drawn(1)
    b = a.copy()
    b[: 8 * WIDE] = drawn(2)[: 8 * WIDE]
    assert closeness(of(a), of(b)).distance == pytest.approx(np.sqrt(0.5), abs=0.05)


def test_many_at_once_are_what_they_are_one_by_one():
    a, others = of(drawn(1)), [of(near(drawn(1), seed, 0.2)) for seed in (5, 6, 7)]
    assert closenesses(a, others) == [closeness(a, other) for other in others]


def test_models_of_zeros_and_models_that_share_nothing_have_no_closeness():
    zeros = of(np.zeros(N, np.float32))
    assert closeness(zeros, of(drawn(1))) is None
    elsewhere = json.dumps([["other.weight", *patch[1:]] for patch in PATCHES])
    assert closeness(of(drawn(1)), of(drawn(1), patches=elsewhere)) is None


def test_a_larger_vocabulary_is_compared_on_the_rows_both_have():
    grown = json.dumps([["layers.0.q.weight", 80, *PATCHES[0][2:]], *PATCHES[1:]])
    assert closeness(of(drawn(1)), of(drawn(1), patches=grown)).distance == 0


def test_deltas_have_angle_conflict_and_ratio():
    base = of(drawn(0), "base")
    a, b = near(base.values, 1, 0.1), near(base.values, 2, 0.3)
    apart = crossing(of(a), of(b), base)
    assert apart.cosine == pytest.approx(0, abs=0.15)
    assert apart.conflict == pytest.approx(0.5, abs=0.06)
    assert apart.ratio == pytest.approx(3, rel=0.15)
    back = of((2 * base.values - a).astype(np.float32))
    against = crossing(of(a), back, base)
    assert against.cosine == pytest.approx(-1, abs=1e-3)
    assert against.conflict == pytest.approx(1, abs=0.01)


def test_a_delta_of_nothing_crosses_nothing():
    base = of(drawn(0))
    assert crossing(base, of(drawn(1)), base) is None
    assert overlaps(base, base, [of(drawn(1))]) == [None]
    other = of(drawn(1), patches=json.dumps(PATCHES[:2]))
    assert crossing(of(drawn(2)), other, base) is None
    assert overlaps(of(drawn(2)), base, [other]) == [None]


def test_overlaps_are_the_cosines_of_crossings():
    base = of(drawn(0))
    a, others = of(near(base.values, 1, 0.1)), [of(near(base.values, s, 0.1)) for s in (1, 2, 3)]
    found = overlaps(a, base, others)
    assert found == pytest.approx([crossing(a, o, base).cosine for o in others], abs=1e-3)


def test_lengths_alone_let_expect_the_distance_of_deltas_at_right_angles():
    base = of(drawn(0))
    a, b = of(near(base.values, 1, 0.1)), of(near(base.values, 2, 0.2))
    lengths = [np.linalg.norm((x.values - base.values)[:-8]) for x in (a, b)]
    size = np.linalg.norm(base.values[:-8])
    assert expected([length / size for length in lengths]) == pytest.approx(
        closeness(a, b).distance, rel=0.1
    )


def test_sketches_come_in_batches_that_share_their_coordinates(catalog, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 3)
    put(catalog, {f"m{i}": drawn(i) for i in range(8)})
    put(catalog, {"grown": drawn(9)[: 8 * WIDE]}, patches=PATCHES[:1])
    put(catalog, {"broken": np.full(N, np.nan, np.float32), "unsketched": None})
    asked = ["m7", "m0", "m1", "grown", "broken", "unsketched", "nobody"]
    batches = list(sampled(catalog, asked, SPEC))
    assert sorted(s.model for batch in batches for s in batch) == ["grown", "m0", "m1", "m7"]
    assert all(len({s.patches for s in batch}) == 1 for batch in batches)
    values = {s.model: s.values for batch in batches for s in batch}
    assert np.array_equal(values["m7"], drawn(7))
    assert list(sampled(catalog, asked, "another")) == []


def test_the_spec_is_that_of_most_models(catalog):
    put(catalog, {"a": drawn(1), "b": None})
    assert best_spec(catalog, ["a", "b"]) == SPEC
    assert best_spec(catalog, ["b"]) is None
    assert shelf(catalog, ["a", "b"]).keys() == {"a"}
    assert shelf(catalog, ["b"]) == {}


def test_pairs_take_sketches_first_and_lengths_of_deltas_else():
    base = of(drawn(0), "base")
    known = {"base": base, "a": of(near(base.values, 1, 0.1), "a")}
    (pair,) = pairs_of(["a"], "base", known, {})
    assert (pair.a, pair.b, pair.crossing) == ("a", "base", None)
    assert pair.distance == pair.closeness.distance > 0
    (pair,) = pairs_of(["a", "b"], "base", known, {"a": 0.03, "b": 0.04})
    assert pair.closeness is None
    assert pair.distance == pytest.approx(0.05 / np.sqrt(2))
    (pair,) = pairs_of(["a", "b"], None, known, {})
    assert pair.distance is None
    assert len(pairs_of(["a", "b", "c"], None, known, {})) == 3
    assert pairs_of(["a"], None, known, {}) == ()
