"""The kernels of dot products: entries in files, entries that do not count, and what is not finite."""

import numpy as np
import pytest
import torch

from engine import kernels, product_kernels
from engine.kernels import Varied
from engine.reader import Reader
from registry.header import TensorRef

LONG = 70_001
PAIRS = [(0, 0), (0, 1), (2, 2), (1, 2)]


def random(seed):
    return torch.randn(LONG, generator=torch.Generator().manual_seed(seed)).bfloat16()


def dots(stored, base, block=1 << 16, among=None):
    """Dot products, and who is not finite; None where there are no kernels."""
    if not kernels.ready([*stored, base]):
        return None
    return product_kernels.products(stored, base, PAIRS, block=block, among=among)


@pytest.mark.parametrize("block", [64, 1000, 1 << 16])
@pytest.mark.parametrize("among", [None, Varied(500, 0.25)])
def test_entries_in_files_are_multiplied_as_those_in_memory(block, among, tmp_path):
    stored, base = [random(0), random(1)], random(2)
    regions = []
    with Reader() as reader:
        for i, values in enumerate([*stored, base]):
            file = tmp_path / f"{i}.bin"
            file.write_bytes(b"0123456" + values.view(torch.uint8).numpy().tobytes())
            ref = TensorRef("w", "BF16", (LONG,), file, 7, 2 * LONG)
            regions.append(reader.region(ref, 0, LONG))
        found = dots([stored[0], regions[1]], regions[2], block, among)
        expected = dots(stored, base, block, among)
        if found is not None and expected is not None:
            assert found[1] == expected[1] == -1
            assert np.array_equal(found[0], expected[0])
        (tmp_path / "1.bin").write_bytes(b"")
        if found is not None:
            assert dots(regions[:2], base, block, among)[1] == kernels.UNREADABLE


@pytest.mark.parametrize("place", [0, 1, 2])
def test_it_is_told_who_is_not_finite(place):
    given = [random(i) for i in range(3)]
    given[place][LONG - 1] = torch.nan
    found = dots(given[:2], given[2])
    if found is not None:
        assert found[1] == place


@pytest.mark.parametrize("columns", [1, 23, 1025])
def test_columns_are_summed_row_by_row(columns):
    stored = [random(i)[: 60 * columns] for i in range(2)]
    if kernels.ready(stored):
        found, bad = product_kernels.column_products(
            stored, None, [(0, 1)], rows=60, columns=columns
        )
        x, y = (s.double().reshape(60, columns) for s in stored)
        assert bad == -1
        np.testing.assert_allclose(found[0], (x * y).sum(0).numpy(), rtol=1e-12, atol=1e-12)
