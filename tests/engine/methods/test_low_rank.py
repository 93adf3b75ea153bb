"""Low rank: the error is what the theorem says."""

import pytest
import torch

from engine.methods.low_rank import low_rank

UP, EMBED = "model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight"


def matrix(seed, shape=(6, 4)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rank", [0, 1, 2, 3, 4, 9])
def test_the_error_is_that_of_the_directions_left_out(rank):
    delta = matrix(0)
    kept = low_rank([delta], tensor=UP, rank=rank)
    error = (delta - kept).square().sum().sqrt()
    expected = torch.linalg.svdvals(delta)[rank:].square().sum().sqrt()
    torch.testing.assert_close(error, expected, rtol=1e-4, atol=1e-5)


def test_so_much_energy_stays_and_no_more_than_needed():
    delta = matrix(0)
    values = torch.linalg.svdvals(delta).square()
    for k in range(1, 5):
        energy = float(values[:k].sum() / values.sum()) - 1e-4
        kept = low_rank([delta], tensor=UP, energy=energy)
        assert int((torch.linalg.svdvals(kept) > 1e-4).sum()) == k
    assert torch.equal(low_rank([delta], tensor=UP, energy=1.0), delta)


def test_the_published_error_of_rank_one():
    delta = torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])
    error = (delta - low_rank([delta], tensor=UP, rank=1)).norm() / delta.norm()
    assert float(error) == pytest.approx(0.2014, abs=1e-4)
