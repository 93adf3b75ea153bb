"""Multi-SLERP, by hand on the fixture of two models."""

import math

import pytest
import torch

from engine.methods.multislerp import multislerp
from registry.errors import BadParameter

W0 = torch.tensor([[4.0, -4, 8, 0], [2, 6, -8, 16]])
W1 = W0 + torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])
W2 = W0 + torch.tensor([[2.0, 1, -6, -1], [-3, 4, 7, 5]])
EAST, NORTH = torch.tensor([1.0, 0]), torch.tensor([0.0, 1])


def close(result, expected):
    torch.testing.assert_close(result, torch.tensor(expected), rtol=0, atol=5e-6)


def test_mean_direction_has_the_mean_length():
    close(multislerp([2 * EAST, NORTH]), [1.5 * math.sqrt(0.5), 1.5 * math.sqrt(0.5)])


def test_weights_turn_the_direction_and_weigh_the_lengths():
    close(multislerp([2 * EAST, 7 * NORTH], weight=[3, 4]), [34 / 7 * 0.6, 34 / 7 * 0.8])
    close(multislerp([2 * EAST, 7 * NORTH], weight=[3, 4], normalize_weights=False), [20.4, 27.2])


def test_a_base_is_the_centre():
    delta = multislerp([W1 - W0, W2 - W0], weight=[1, 3])
    torch.testing.assert_close(multislerp([W1, W2], base=W0, weight=[1, 3]), W0 + delta)


def test_no_base_is_a_base_of_zeros():
    assert torch.equal(multislerp([W1, W2]), multislerp([W1, W2], base=torch.zeros(2, 4)))


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_frozen_tensors_give_the_base(n):
    assert torch.equal(multislerp([W0] * n, base=W0), W0)


def test_directions_that_cancel_out_give_the_weighted_sum():
    close(multislerp([2 * EAST, -4 * EAST]), [-1.0, 0.0])
    close(multislerp([2 * EAST, -4 * EAST, torch.zeros(2)]), [-2 / 3, 0.0])
    thirds = [
        torch.tensor([math.cos(a), math.sin(a)]) for a in (0, 2 * math.pi / 3, 4 * math.pi / 3)
    ]
    close(multislerp(thirds), [0.0, 0.0])


def test_a_zero_tensor_has_a_length_but_no_direction():
    close(multislerp([torch.zeros(2), 4 * NORTH]), [0.0, 2.0])
    close(multislerp([torch.zeros(2), 4 * NORTH], eps=0.0), [0.0, 2.0])


def test_one_model_is_given_back_whatever_its_weight():
    assert torch.equal(multislerp([W1], base=W0), W1)
    assert torch.equal(multislerp([W1], weight=-2.0, normalize_weights=False), W1)


def test_copies_with_any_weights_give_that_model():
    torch.testing.assert_close(multislerp([W1, W1, W1], weight=[3, -1, 0.5], base=W0), W1)


def test_weights_that_sum_to_zero_cannot_be_normalized():
    with pytest.raises(BadParameter, match="weights 1, -1 sum to 0"):
        multislerp([W1, W2], weight=[1, -1])
    close(
        multislerp([2 * EAST, NORTH], weight=[1, -1], normalize_weights=False),
        [math.sqrt(0.5), -math.sqrt(0.5)],
    )


def test_large_eps_takes_directions_for_none():
    close(multislerp([2 * EAST, NORTH], eps=10.0), [1.0, 0.5])


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_lengths_that_float32_cannot_square(size):
    result = multislerp([size * EAST, size * NORTH], eps=0.0)
    close(result / size, [math.sqrt(0.5), math.sqrt(0.5)])


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3)])
def test_odd_shapes_keep_their_shape(shape):
    models = [torch.ones(shape), torch.full(shape, 3.0)]
    torch.testing.assert_close(multislerp(models), torch.full(shape, 2.0))
