"""Blocks of equal count in order of magnitude, by slices, against sorting."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from whole_models import looks

from engine.levels import levels


def by_sorting(values, n_blocks):
    """The mean magnitude of each entry's block."""
    d = len(values)
    sizes, places = values.abs().double().sort(stable=True)
    means = torch.zeros(d, dtype=torch.float64)
    for j in range(n_blocks):
        part = slice(j * d // n_blocks, (j + 1) * d // n_blocks)
        means[places[part]] = sizes[part].sum() / max(1, len(sizes[part]))
    return means.float()


@given(
    st.integers(0, 80), st.integers(0, 99), st.integers(1, 80), st.sampled_from([1, 2, 4, 8, 128]), st.booleans()
)  # fmt: skip
def test_law_slices_have_the_levels_of_the_sorted_tensor(size, seed, cut, n_blocks, coarse):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(size, generator=generator)
    if coarse:
        values = values.round()
    found = levels(looks({"w": values}, cut=cut), n_blocks)
    made = [found.of(values[i : i + cut], i) for i in range(0, size, cut)]
    torch.testing.assert_close(torch.cat([torch.zeros(0), *made]), by_sorting(values, n_blocks))
    assert torch.equal(found.of(values, 0), torch.cat([torch.zeros(0), *made]))


@pytest.mark.parametrize("n_blocks", [1, 2, 8])
def test_many_blocks_of_entries_are_one_tensor(n_blocks):
    values = torch.randn(300_001, generator=torch.Generator().manual_seed(0)).mul_(8).round_()
    found = levels(looks({"w": values}), n_blocks)
    torch.testing.assert_close(found.of(values, 0), by_sorting(values, n_blocks))
    assert np.all(np.diff(found.means) >= 0)
