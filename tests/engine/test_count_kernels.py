"""Counts of magnitudes by their bits, with kernels: the twins are tested in `test_selected`."""

import numpy as np
import pytest
import torch

from engine import kernels
from engine.count_kernels import Near, count_near


def test_keys_up_to_infinity_are_counted_and_nothing_else():
    stored = torch.tensor([1.0, torch.finfo(torch.float32).max, 2.0])
    if kernels.ready([stored]):
        low = 0x7F800000 - 50
        bad, (found,) = count_near([Near(stored, low, 100, low)], None)
        assert bad == -1
        assert (found.below, found.counts.sum()) == (2, 1)


def test_a_second_count_begins_at_nothing():
    one = int(np.float32(1).view(np.int32))
    first = torch.tensor([1.0, 1.5, 1.0, -2.0, torch.nan])
    second = torch.tensor([1.5, 0.5, 3.0, 3.0, 3.0])
    if kernels.ready([first]):
        width = (1 << 22) + 1  # up to 1.5
        count_near([Near(x, one, width, one) for x in (first, second)], None)  # there is a NaN
        bad, found = count_near([Near(x, one, width, one) for x in (first[:4], second[:4])], None)
        assert bad == -1
        assert [f.below for f in found] == [0, 1]
        assert [f.places.tolist() for f in found] == [[0, 1 << 22], [1 << 22]]
        assert [f.counts.tolist() for f in found] == [[2, 1], [1]]


def test_a_count_that_was_stopped_leaves_nothing_to_the_next():
    ones = torch.ones(4)
    if kernels.ready([ones]):
        one = int(np.float32(1).view(np.int32))
        many = [Near(ones, one, 8, one)] * (kernels.MOST + 10)
        with pytest.raises(ValueError, match="count_near"):
            count_near(many, None)
        _, found = count_near(many[:2], None)
        assert [f.counts.tolist() for f in found] == [[4], [4]]
