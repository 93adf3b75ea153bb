"""Weighting: sums and means that a merge can leave, and the weights that a child shows."""

import numpy as np
import pytest

from engine.descent.weighting import certain, sums_of, weighted

RNG = np.random.default_rng(3)
CHANGES = [RNG.normal(0, 1, 4000) for _ in range(3)]
NOISE = np.full(4000, 1e-3)


def test_sums_are_of_all_subsets_added_and_averaged():
    x, y = np.array([2.0]), np.array([6.0])
    assert sorted(float(s[0]) for s in sums_of([x, y])) == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert len(sums_of([x, y, x])) == 1 + 3 + 2 * 3 + 2


def test_a_mean_s_weights_are_shown():
    weights = np.array([0.5, 0.3, 0.2])
    kept = RNG.random((3, 4000)) < 0.7
    changes = np.array(CHANGES)
    agree = kept & (np.sign(changes) == np.sign((weights[:, None] * changes * kept).sum(0)))
    each = weights[:, None] * agree
    child = (each * changes).sum(0) / np.maximum(each.sum(0), 1e-9)
    child += RNG.normal(0, 5e-4, 4000)
    plain = sums_of(CHANGES)
    means = weighted(child, CHANGES, NOISE)
    assert len(means) == 4
    pair = weights[0] * changes[0] + weights[1] * changes[1]
    assert means[0] == pytest.approx(pair / (weights[0] + weights[1]), abs=0.05)
    assert certain(child, [*plain, *means], NOISE) > 0.95 > certain(child, plain, NOISE) + 0.05


def test_what_is_no_mean_shows_no_weights():
    assert weighted(RNG.normal(0, 1, 4000), CHANGES, NOISE) == []
    assert weighted(CHANGES[0], CHANGES, NOISE) == []


def test_chance_is_taken_off():
    wide = np.full(4000, 0.02)
    child = RNG.normal(0, 1, 4000)
    assert certain(child, sums_of(CHANGES), wide) == pytest.approx(0.0, abs=0.2)
    assert certain(CHANGES[0], sums_of(CHANGES), NOISE) == 1.0
