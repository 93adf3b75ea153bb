"""Iso-C: one strength for all directions, and what is no matrix."""

import pytest
import torch

from engine.methods.iso_c import iso_c

UP, EMBED = "model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight"


def matrix(seed, shape=(6, 4)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_all_singular_values_are_their_mean():
    merged = iso_c([matrix(0), matrix(1)], tensor=UP)
    found = torch.linalg.svdvals(merged)
    expected = torch.linalg.svdvals(matrix(0) + matrix(1)).mean()
    torch.testing.assert_close(found, expected.expand(4))


def test_directions_that_the_sum_lacks_are_not_made_up():
    thin = torch.outer(torch.arange(1.0, 7), torch.ones(4))
    found = torch.linalg.svdvals(iso_c([thin], tensor=UP))
    assert int((found > 1e-4).sum()) == 1


@pytest.mark.parametrize(("vocabulary", "averaged"), [(False, True), (True, False)])
def test_tables_of_tokens_are_averaged_unless_asked(vocabulary, averaged):
    merged = iso_c([matrix(0), matrix(1)], tensor=EMBED, vocabulary=vocabulary)
    assert torch.allclose(merged, (matrix(0) + matrix(1)) / 2, atol=1e-6) == averaged


def test_nothing_gives_nothing():
    assert not iso_c([torch.zeros(3, 3)], tensor=UP).any()
    assert iso_c([torch.zeros(0, 3)], tensor=UP).shape == (0, 3)
