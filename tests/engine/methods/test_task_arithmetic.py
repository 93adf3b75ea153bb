"""Task arithmetic, by hand on the fixture of two models."""

import pytest
import torch

from engine.methods.task_arithmetic import task_arithmetic
from registry.errors import BadParameter

D1 = torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])
D2 = torch.tensor([[2.0, 1, -6, -1], [-3, 4, 7, 5]])
E1, E2 = torch.tensor([2.0, -1]), torch.tensor([-4.0, 3])


def test_lambda_of_one_half_averages_two_models():
    expected = torch.tensor([[1.5, -0.5, -1.5, -2.5], [1, 5, 0, 6.5]])
    assert torch.equal(task_arithmetic([D1, D2], lambda_=0.5), expected)
    assert task_arithmetic([E1, E2], lambda_=0.5).tolist() == [-1, 1]


def test_task_vectors_are_summed_by_default():
    assert torch.equal(task_arithmetic([D1, D2]), D1 + D2)


def test_normalizing_is_dividing_by_the_weights():
    merged = task_arithmetic([E1, E2], weight=[1, 3], normalize=True)
    assert merged.tolist() == [-2.5, 2.0]
    assert task_arithmetic([E1, E2], weight=[1, 3]).tolist() == [-10, 8]


def test_negative_weight_takes_a_task_away():
    assert torch.equal(task_arithmetic([D1, D2], weight=[1, -1]), D1 - D2)


def test_weights_that_sum_to_zero_cannot_be_normalized():
    with pytest.raises(BadParameter, match="sum to 0"):
        task_arithmetic([D1, D2], weight=[1, -1], normalize=True)


def test_lambda_zero_changes_nothing():
    assert torch.equal(task_arithmetic([D1, D2], lambda_=0.0), torch.zeros(2, 4))


def test_one_task_vector_is_given_back():
    assert torch.equal(task_arithmetic([D1]), D1)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3)])
def test_odd_shapes_keep_their_shape(shape):
    assert torch.equal(task_arithmetic([torch.ones(shape)] * 2), torch.full(shape, 2.0))
