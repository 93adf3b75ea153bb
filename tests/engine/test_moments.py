"""Counts, extremes and power sums in torch and numpy."""

import math

import numpy as np
import pytest
import torch

from engine.moments import BLOCK, TorchMoments, moments_for


def found_of(base, child, *, wide=False):
    moments = TorchMoments(wide=wide)
    moments.add(base, child)
    return moments.found()


def test_sums_of_cells_and_of_what_is_beyond_are_the_sums():
    generator = torch.Generator().manual_seed(0)
    base, child = (torch.randn(4000, generator=generator) for _ in range(2))
    found = found_of(base, child)
    delta = (child - base).double().numpy()
    powers = (delta, delta**2, delta**3, delta**4, np.abs(delta))
    for of_cells, beyond, power in zip(found.moments, found.beyond, powers, strict=True):
        scale = math.fsum(np.abs(power))
        assert abs(math.fsum(of_cells) + beyond - math.fsum(power)) <= 1e-13 * scale
        assert abs(beyond) <= 2e-3 * scale


def test_numbers_of_few_digits_have_nothing_beyond_their_cells():
    base = torch.tensor([1.0, 2.0, -3.0, 0.5])
    found = found_of(base, base + torch.tensor([0.25, -0.75, 0.0, 127.0]))
    assert found.beyond == (0.0,) * 5
    assert found.moments.sum(axis=1).tolist() == pytest.approx(
        [126.5, 127**2 + 0.625, 127**3 - 0.40625, 127**4 + 0.3203125, 128]
    )


def test_wide_numbers_that_no_float32_holds_are_all_beyond():
    base = torch.zeros(2, dtype=torch.float64)
    found = found_of(base, torch.tensor([1e-60, -3e-60], dtype=torch.float64), wide=True)
    assert (found.n_positive, found.n_negative, int(found.counts[0])) == (1, 1, 2)
    assert found.beyond[4] == pytest.approx(4e-60)
    assert not found.moments.any()


def test_nothing_comes_to_nothing():
    found = TorchMoments(wide=False).found()
    assert (found.n, found.low, found.high, found.base_max_abs) == (0, math.inf, -math.inf, 0)
    assert not found.counts.any()


def test_dtypes_without_a_kernel_are_added_up_by_torch():
    half = torch.ones(3, dtype=torch.float16)
    assert isinstance(moments_for(half, half), TorchMoments)


def test_inputs_are_left_as_they_were():
    base, child = torch.tensor([1.0, math.nan]), torch.tensor([-0.0, 2.0])
    copies = base.clone(), child.clone()
    found_of(base, child)
    assert torch.equal(child, copies[1])
    assert torch.equal(base.view(torch.int32), copies[0].view(torch.int32))
    assert BLOCK % 1024 == 0
