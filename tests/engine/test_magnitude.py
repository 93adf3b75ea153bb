"""Sums of magnitudes, and rows."""

import math

import pytest
import torch

from engine.magnitude import abs_sum, as_rows


def test_magnitudes_add_up_exactly_where_float64_can():
    x = torch.tensor([[1.0, -2.0, 3.0], [-4.0, 0.0, 2.0**-20]])
    assert abs_sum(x) == 10 + 2.0**-20


@pytest.mark.parametrize("n", [0, 1, 5, 1 << 17, (1 << 17) + 3])
def test_magnitudes_of_any_number_of_entries_add_up(n):
    x = torch.randn(n, generator=torch.Generator().manual_seed(0))
    assert abs_sum(x) == pytest.approx(math.fsum(abs(v) for v in x.tolist()), rel=1e-14)


def test_the_sum_does_not_depend_on_the_number_of_threads():
    x = torch.randn(400_001, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    try:
        sums = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            sums.append(abs_sum(x))
    finally:
        torch.set_num_threads(before)
    assert sums[0] == sums[1]


@pytest.mark.parametrize(
    ("shape", "rows"),
    [((), 1), ((0,), 1), ((5,), 1), ((2, 4), 2), ((4, 3, 2), 4), ((3, 0), 1), ((0, 3), 1)],
)
def test_rows_are_slices_along_the_first_dimension(shape, rows):
    x = torch.zeros(shape)
    assert as_rows(x, "row").shape == (rows, x.numel() // rows)
    assert as_rows(x, "tensor").shape == (1, x.numel())
