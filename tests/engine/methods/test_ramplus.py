"""RAM+, by hand."""

import torch

from engine.methods.ram import ram
from engine.methods.ramplus import ramplus

D1 = torch.tensor([[1.0, 0, 2, 0], [0, 0, -3, 4]])
D2 = torch.tensor([[0.0, 5, 4, 0], [0, 0, 1, 0]])


def test_what_one_model_changed_is_strengthened():
    expected = torch.tensor([[1.02, 5.1, 3, 0], [0, 0, -1, 4.08]])
    torch.testing.assert_close(ramplus([D1, D2]), expected)


def test_the_ratio_counts_where_it_is_small():
    one = torch.tensor([1.0] * 10 + [1.0])
    other = torch.tensor([0.0] * 10 + [1.0])
    merged = ramplus([one, other], alpha=1.0)  # the first shares one entry and has ten of its own
    torch.testing.assert_close(merged[0], torch.tensor(1 + 0.1 * 0.1))
    assert float(merged[10]) == 1.0


def test_without_strength_it_is_ram():
    assert torch.equal(ramplus([D1, D2], r=0.0), ram([D1, D2]))
