"""MagMax, by hand on the fixture of two models."""

import torch

from engine.methods.magmax import magmax

D1 = torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])
D2 = torch.tensor([[2.0, 1, -6, -1], [-3, 4, 7, 5]])


def test_the_largest_change_is_taken_and_of_equal_ones_the_later():
    assert magmax([D1, D2], lambda_=1.0).tolist() == [[2, -2, -6, -4], [5, 6, 7, 8]]
    assert magmax([D2, D1], lambda_=1.0).tolist() == [[2, -2, -6, -4], [5, 6, -7, 8]]


def test_half_of_it_is_added_by_default():
    assert torch.equal(magmax([D1, D2]), magmax([D1, D2], lambda_=1.0) / 2)


def test_one_model_is_given_back():
    assert torch.equal(magmax([D1], lambda_=1.0), D1)
