"""Sums in one order."""

import math

import numpy as np
import pytest

from engine.lanes import laned, row_by_row


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 1000])
def test_the_sum_is_that_of_the_numbers(n):
    values = np.random.default_rng(n).normal(size=n)
    assert laned(values) == pytest.approx(math.fsum(values), abs=1e-12)


def test_every_sixteenth_number_goes_to_one_partial_sum():
    values = np.zeros(48)
    values[[0, 16, 32]] = 1e16, 1.0, -1e16  # 1 is lost in the first sum and in no other
    assert laned(values) == 0
    values[[16, 17]] = 0.0, 1.0
    assert laned(values) == 1


@pytest.mark.parametrize("columns", [1, 2, 5])
def test_rows_are_added_one_after_the_other(columns):
    values = np.random.default_rng(0).normal(size=(100, columns)) * 1e8
    total = values[0].copy()
    for row in values[1:]:
        total += row
    assert np.array_equal(row_by_row(values), total)
