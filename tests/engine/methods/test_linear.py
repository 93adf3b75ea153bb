"""Linear, by hand on the fixture of two models."""

import pytest
import torch

from engine.methods.linear import linear
from registry.errors import BadParameter

W0 = torch.tensor([[4.0, -4, 8, 0], [2, 6, -8, 16]])
W1 = W0 + torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])
W2 = W0 + torch.tensor([[2.0, 1, -6, -1], [-3, 4, 7, 5]])


def test_equal_weights_give_the_average():
    expected = torch.tensor([[1.5, -0.5, -1.5, -2.5], [1, 5, 0, 6.5]])
    assert torch.equal(linear([W1, W2]) - W0, expected)


def test_average_of_vectors():
    first, second = torch.tensor([3.0, 0]), torch.tensor([-3.0, 4])
    assert linear([first, second]).tolist() == [0, 2]


def test_weights_are_shares_unless_told_otherwise():
    first, second = torch.tensor([4.0]), torch.tensor([8.0])
    assert linear([first, second], weight=[1, 3]).tolist() == [7]
    assert linear([first, second], weight=[1, 3], normalize=False).tolist() == [28]


def test_negative_weights_extrapolate():
    assert linear([torch.tensor([4.0]), torch.tensor([8.0])], weight=[2, -1]).tolist() == [0]


def test_size_of_all_weights_does_not_matter():
    assert torch.equal(linear([W1, W2], weight=8.0), linear([W1, W2]))


def test_weights_that_sum_to_zero_are_refused():
    with pytest.raises(BadParameter, match="weights 1, -1 sum to 0") as refused:
        linear([W1, W2], weight=[1, -1])
    assert refused.value.hint == "change the weights, or set normalize: false"
    difference = linear([W1, W2], weight=[1, -1], normalize=False)
    assert torch.equal(difference, W1 - W2)


def test_wrong_number_of_weights_is_refused():
    with pytest.raises(BadParameter, match="3 values for 2 models"):
        linear([W1, W2], weight=[1, 1, 1])


def test_one_model_is_given_back_bit_for_bit():
    model = torch.tensor([0.1, -0.0, 1e-45, 3e38])
    assert torch.equal(linear([model]).view(torch.int32), model.view(torch.int32))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3)])
def test_odd_shapes_keep_their_shape(shape):
    assert torch.equal(linear([torch.ones(shape), torch.full(shape, 3.0)]), torch.full(shape, 2.0))
