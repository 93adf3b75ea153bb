"""Dot products: the numbers, and that slices of whole blocks give what the tensor gives."""

import math

import numpy as np
import pytest
import torch

from engine import products


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (5, 7), (130, 1500), (1500, 130)])
def test_column_dots_are_the_dot_products_of_columns(shape):
    x, y = random(*shape), random(*shape, seed=1)
    xx, xy = products.column_dots([x, y], [(0, 0), (0, 1)])
    torch.testing.assert_close(xx, (x.double() * x).sum(0), rtol=1e-13, atol=0)
    torch.testing.assert_close(xy, (x.double() * y).sum(0), rtol=1e-13, atol=1e-13)


def test_column_dots_depend_on_the_column_alone():
    x, y = random(300, 2100), random(300, 2100, seed=1)
    (whole,) = products.column_dots([x, y], [(0, 1)])
    (part,) = products.column_dots([x[:, 1001:1020], y[:, 1001:1020]], [(0, 1)])
    (turned,) = products.column_dots([x.T.contiguous().T, y.T.contiguous().T], [(0, 1)])
    assert torch.equal(whole[1001:1020], part)
    assert torch.equal(whole, turned)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (5,), (1024,), (3, 1000), (70_001,)])
def test_dots_are_those_of_the_flat_tensors(shape):
    x, y = random(*shape), random(*shape, seed=1)
    expected = (x.double() * y).reshape(-1).tolist()
    assert products.dots([x, y], [(0, 1)])[0] == pytest.approx(
        math.fsum(expected), rel=1e-12, abs=1e-12
    )


def test_blocks_of_slices_are_those_of_the_tensor():
    x, n = random(3 * products.SUMMED + 77), products.SUMMED
    whole = products.block_dots([x], [(0, 0)], n)
    parts = [products.block_dots([x[i : i + n]], [(0, 0)], n) for i in range(0, len(x), n)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_slabs_of_slices_are_those_of_the_matrix():
    x, pairs = random(200, 33), [(0, 0)]
    whole = list(products.slab_dots([x], pairs))
    parts = [s for i in range(0, 200, 128) for s in products.slab_dots([x[i : i + 128]], pairs)]
    assert np.array_equal(np.stack(parts), np.stack(whole))


@pytest.mark.parametrize("shape", [(5, 7), (3, 0), (0, 4)])
def test_dot_products_of_rows(shape):
    x, y = random(*shape), random(*shape, seed=1)
    (found,) = products.row_dots([x, y], [(0, 1)])
    torch.testing.assert_close(found, (x.double() * y).sum(1), rtol=1e-12, atol=1e-12)


def test_slabs_of_very_wide_matrices_have_fewer_rows():
    heights = [products.slab_height(columns) for columns in (0, 1, 8192, 8193, 500_000, 1 << 30)]
    assert heights == [products.SLAB, products.SLAB, products.SLAB, 63, 1, 1]
