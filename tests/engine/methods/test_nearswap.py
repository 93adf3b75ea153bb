"""NearSwap, by hand."""

import pytest
import torch

from engine.methods.nearswap import nearswap

D1 = torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])


def close(result, expected):
    torch.testing.assert_close(result, torch.tensor(expected), rtol=1e-6, atol=0)


def test_entries_are_cut_at_t():
    assert nearswap([D1], t=2.0).tolist() == [[1, -2, 2, -2], [2, 2, -2, 2]]


def test_a_large_t_gives_the_model_and_zero_the_base():
    assert torch.equal(nearswap([D1], t=8.0), D1)
    assert torch.equal(nearswap([D1], t=0.0), torch.zeros(2, 4))


def test_without_a_t_it_is_that_of_the_first_model_made_with_it():
    close(nearswap([torch.tensor([1e-3, -1e-3, 5e-5])]), [1e-4, -1e-4, 5e-5])


def test_eps_weighs_small_differences_as_if_they_were_larger():
    delta = torch.tensor([5e-7, -2e-6, 1e-7, 0])
    close(nearswap([delta], t=1e-7), [1e-7, -1e-7, 1e-7, 0.0])
    close(nearswap([delta], t=1e-7, eps=1e-6), [5e-8, -1e-7, 1e-8, 0.0])


def test_eps_does_not_matter_up_to_t():
    assert torch.equal(nearswap([D1], t=2.0, eps=2.0), nearswap([D1], t=2.0))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3)])
def test_odd_shapes_keep_their_shape(shape):
    assert torch.equal(nearswap([torch.ones(shape)], t=0.5), torch.full(shape, 0.5))
