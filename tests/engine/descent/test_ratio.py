"""Ratios: those that many entries have exactly stand out of those that are anything."""

import numpy as np
import pytest

from engine.descent.ratio import binned, standing_out

RNG = np.random.default_rng(4)
NOISE = RNG.uniform(-4, 4, 3000)


def out(ratios, of=None, n=1):
    """What stands out of ratios in range."""
    inside, bins = binned(ratios)
    assert inside.all()
    return standing_out(ratios, bins, np.zeros(len(ratios), np.int64) if of is None else of, n)


def test_bins_are_as_wide_everywhere_and_large_ratios_have_none():
    inside, bins = binned(np.array([-4.0, -4.001, 0.0, 3.999, 4.0, 1e9, -0.001, 0.03]))
    assert inside.tolist() == [True, False, True, True, False, False, True, True]
    assert bins.tolist() == [0, 200, 399, 199, 201]


def test_a_ratio_that_many_have_stands_out():
    found = out(np.concatenate([NOISE, np.full(90, 1.25), RNG.normal(1.25, 0.001, 91)]))
    assert found == pytest.approx([1.25], abs=0.003)


@pytest.mark.parametrize("ratios", [NOISE, np.linspace(-3.9, 3.9, 5), RNG.normal(1, 0.3, 2000)])
def test_of_ratios_that_are_anything_none_stands_out(ratios):
    assert out(ratios).tolist() == [0]


def test_fewer_than_six_are_not_many_and_none_below_0_is_told():
    assert out(np.full(5, 2.0)).tolist() == [0]
    assert out(np.full(6, 2.0)).tolist() == [2]
    assert out(np.full(50, -2.0)).tolist() == [0]


def test_each_class_has_its_own():
    ratios = np.concatenate([np.full(20, 0.5), np.full(21, 2.0), np.full(3, 1.0)])
    of = np.repeat([3, 1, 0], [20, 21, 3])
    order = RNG.permutation(len(of))
    assert out(ratios[order], of[order], 5).tolist() == [0, 2, 0, 0.5, 0]


def test_it_is_the_median_of_the_ratios_beside_it():
    assert out(np.array([1.005] * 6 + [1.021] * 2)) == pytest.approx([1.005])
    assert out(np.array([1.005] * 4 + [1.015] * 4)) == pytest.approx([1.01])


def test_the_first_bin_and_the_last_have_one_neighbour():
    assert out(np.full(9, 3.99)) == pytest.approx([3.99])
    assert out(np.full(9, -3.99)).tolist() == [0]
