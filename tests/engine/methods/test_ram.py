"""RAM, by hand."""

import torch

from engine.methods.ram import ram

D1 = torch.tensor([[1.0, 0, 2, 0], [0, 0, -3, 4]])
D2 = torch.tensor([[0.0, 5, 4, 0], [0, 0, 1, 0]])


def test_what_one_model_changed_is_kept_whole_and_the_rest_is_averaged():
    assert ram([D1, D2]).tolist() == [[1, 5, 3, 0], [0, 0, -1, 4]]


def test_changes_of_at_most_epsilon_are_none():
    assert ram([torch.tensor([1e-5, 2.0]), torch.tensor([3.0, 1e-6])]).tolist() == [3, 2]
    assert ram([torch.tensor([0.4]), torch.tensor([3.0])], epsilon=0.5).tolist() == [3]
