"""DARE, by hand: which entries stay is drawn, what becomes of them is not."""

import pytest
import torch

from engine.draws import Draws
from engine.methods.dare_linear import dare_linear

X = torch.tensor([0.1, -0.2, 0.3, -0.4, 0.5, -0.6, 0.7, -0.8])
DRAWS = Draws(0, "w", ("a", "b", "c"))
D1 = torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])
D2 = torch.tensor([[2.0, 1, -6, -1], [-3, 4, 7, 5]])


def kept(model, density=0.5, draws=DRAWS):
    """The mask, as the paper draws it: one Bernoulli number for every entry."""
    return (draws.uniform(model, X.shape) < density).float()


def test_entries_stay_doubled_or_not_at_all_at_density_one_half():
    mask = kept(0)
    assert 0 < mask.sum() < 8
    assert torch.equal(dare_linear([X], draws=DRAWS), 2 * X * mask)


def test_rescaling_can_be_left_out():
    assert torch.equal(dare_linear([X], draws=DRAWS, rescale=False), X * kept(0))


def test_each_model_has_its_own_mask_weight_and_density():
    merged = dare_linear([X, X], draws=DRAWS, weight=[1, -2], density=[0.5, 0.25], lambda_=0.5)
    expected = X * kept(0) - 4 * X * kept(1, 0.25)
    assert not torch.equal(kept(0), kept(1))
    torch.testing.assert_close(merged, expected)


def test_a_model_has_its_mask_wherever_the_recipe_lists_it():
    turned = Draws(0, "w", ("b", "a"))
    one = dare_linear([X, -X], draws=DRAWS, weight=[1, 0])
    other = dare_linear([-X, X], draws=turned, weight=[0, 1])
    assert torch.equal(one, other)


@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_expectation_is_task_arithmetic(density):
    ones = torch.ones(200_000)
    merged = dare_linear([ones], draws=DRAWS, density=density).double()
    deviation = ((1 / density - 1) / ones.numel()) ** 0.5
    assert abs(float(merged.mean()) - 1) < 5 * deviation
    assert sorted(set(merged.tolist())) == pytest.approx([0, 1 / density])


def test_density_one_is_task_arithmetic():
    merged = dare_linear([D1, D2], draws=DRAWS, density=1.0, lambda_=0.5)
    assert torch.equal(merged, torch.tensor([[1.5, -0.5, -1.5, -2.5], [1, 5, 0, 6.5]]))


def test_one_model_at_density_one_is_given_back():
    assert torch.equal(dare_linear([X], draws=DRAWS, density=1.0), X)


def test_lambda_zero_changes_nothing():
    assert torch.equal(dare_linear([D1, D2], draws=DRAWS, lambda_=0.0), torch.zeros(2, 4))


def test_blocks_draw_on_where_the_last_one_ended():
    long = torch.ones(300_000)
    merged = dare_linear([long], draws=DRAWS.at(5))
    whole = DRAWS.uniform(0, torch.Size([300_005]))
    assert torch.equal(merged, 2 * (whole[5:] < 0.5).float())


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3)])
def test_odd_shapes_keep_their_shape(shape):
    merged = dare_linear([torch.ones(shape)] * 2, draws=DRAWS, density=1.0)
    assert torch.equal(merged, torch.full(shape, 2.0))
